"""Decide by rules which backups stay: a pure function of backups, rules and the current time.

Each rule names the backups that it keeps, and the others are dropped. A rule counts only whole
backups that somebody could restore today, so none of these takes the place of another: one that is
kept by hand, damaged, without all data, or dated in the future, as after a clock stepped back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgtasks import report
from pgtasks.settings.blocks import Keep

SKEW = timedelta(minutes=5)  # by which the clocks of two machines may differ


@dataclass(frozen=True)
class Fact:
    """What the decision needs to know about a backup; `taken` is the time of its snapshot (UTC).

    `kept` says who keeps it by hand and why, `aside` why no rule may count or drop it.
    """

    id: str
    taken: datetime
    proven: bool = False
    kept: str = ""
    aside: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether a backup stays, and the rules that say so."""

    fact: Fact
    stays: bool
    why: str


def decide(facts: Iterable[Fact], keep: Keep, now: datetime) -> list[Verdict]:
    """Return a verdict for each backup, the newest first."""
    ordered = sorted(facts, key=lambda fact: (fact.taken, fact.id), reverse=True)
    whole = [fact for fact in ordered if not aside(fact, now)]
    counted = [fact for fact in whole if not fact.kept]
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for fact, reason in [*_by_rules(counted, keep), *_by_floor(whole, keep.proven)]:
        reasons[fact.id].append(reason)
    return [_verdict(fact, reasons[fact.id], now) for fact in ordered]


def _verdict(fact: Fact, reasons: Sequence[str], now: datetime) -> Verdict:
    kept = [f"kept by hand: {fact.kept}"] if fact.kept else []
    if why := aside(fact, now):
        return Verdict(fact, True, "; ".join([*kept, why]))
    if kept:
        return Verdict(fact, True, kept[0])
    return Verdict(fact, bool(reasons), ", ".join(reasons) or "no rule keeps it")


def aside(fact: Fact, now: datetime) -> str:
    """Return why no rule may count or drop a backup, empty if one may."""
    if fact.aside:
        return fact.aside
    return "dated in the future" if fact.taken > now + SKEW else ""


def _by_floor(whole: Sequence[Fact], proven: int) -> Iterator[tuple[Fact, str]]:
    """Yield what stays whatever the rules say: the newest whole backup, the newest proven ones."""
    if whole:
        yield whole[0], "the newest whole one"
    for number, fact in enumerate([fact for fact in whole if fact.proven][:proven], 1):
        yield fact, "the newest proven one" if proven == 1 else f"proven {number} of {proven}"


def _by_rules(counted: Sequence[Fact], keep: Keep) -> Iterator[tuple[Fact, str]]:
    for number, fact in enumerate(counted[: keep.last], 1):
        yield fact, f"last {number} of {keep.last}"
    if counted and keep.within:
        most = timedelta(seconds=report.span(keep.within) or 0)
        for fact in counted:
            if counted[0].taken - fact.taken <= most:
                yield fact, f"within {keep.within}"
    for name, wanted, period in _periods(keep):
        for number, (label, fact) in enumerate(_newest_of_each(counted, period)[:wanted], 1):
            yield fact, f"{name} {label} ({number} of {wanted})"


Period = Callable[[datetime], str]


def _periods(keep: Keep) -> list[tuple[str, int, Period]]:
    """Return the rules by the calendar: how many periods, and the name of the one of a time."""
    return [
        ("daily", keep.daily, lambda taken: f"{taken:%Y-%m-%d}"),
        ("weekly", keep.weekly, lambda taken: "{}-W{:02}".format(*taken.isocalendar())),
        ("monthly", keep.monthly, lambda taken: f"{taken:%Y-%m}"),
        ("yearly", keep.yearly, lambda taken: f"{taken:%Y}"),
    ]


def _newest_of_each(counted: Sequence[Fact], period: Period) -> list[tuple[str, Fact]]:
    """Return the newest backup of each period that has one, the newest period first."""
    newest: dict[str, Fact] = {}
    for fact in counted:
        newest.setdefault(period(fact.taken), fact)
    return list(newest.items())
