"""The plan of backup.prune, and its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pgtasks import report
from pgtasks.backup.prune import facts, hands, loss, rules
from pgtasks.backup.prune.facts import Known
from pgtasks.backup.prune.rules import Verdict
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, Refused
from pgtasks.report import typed
from pgtasks.settings.blocks import Backup as Settings
from pgtasks.settings.blocks import Keep
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class PrunePlan:
    """What backup.prune would do: a verdict for each backup, newest first.

    `home` are environment and database, `alone` lines about folders that are no backups of this
    database, `leaving` what has been in the trash for long enough, `staying` what stays in it.
    `stopped` says why nothing may be dropped.
    """

    home: tuple[str, str]
    store: Store
    backups: Mapping[str, Backup]
    verdicts: Sequence[Verdict]
    now: datetime
    trash: str
    alone: Sequence[str] = ()
    leaving: Sequence[Trashed] = ()
    staying: Sequence[Trashed] = ()
    stopped: str = ""

    @property
    def of(self) -> str:
        """Return the environment and the database."""
        return "/".join(self.home)

    @property
    def dropped(self) -> list[Backup]:
        """Return the backups that go."""
        return [self.backups[each.fact.id] for each in self.verdicts if not each.stays]

    @property
    def changes(self) -> bool:
        """Whether there is something to do."""
        return bool(self.dropped or self.leaving)

    def lines(self) -> list[str]:
        """Return a table with the rule that keeps or drops each backup, and what else there is."""
        return [*self.table(), *self.notes()]

    def table(self) -> list[str]:
        """Return the table alone."""
        if not self.verdicts:
            return [f"no backups of {self.of} ({self.store.name})"]
        headings = ("backup", "age", "size", "proven", "", "rule")
        rows = [self._row(each) for each in self.verdicts]
        gives = ("size", "proven", "age")
        whole = ("backup", "")
        return report.table(headings, rows, whole=whole, gives=gives, runs_on=True).splitlines()

    def _row(self, verdict: Verdict) -> tuple[str, ...]:
        backup = self.backups[verdict.fact.id]
        seconds = (self.now - verdict.fact.taken).total_seconds()
        age = report.age(seconds) if seconds >= 0 else f"in {report.age(-seconds)}"
        proven = "yes" if verdict.fact.proven else "-"
        size = report.size(backup.manifest.size)
        return backup.id, age, size, proven, "stays" if verdict.stays else "goes", verdict.why

    def notes(self) -> list[str]:
        """Return what the table does not say."""
        lines = list(self.alone)
        whole = [each for each in self.verdicts if each.fact.proven]
        if self.verdicts and not whole:
            lines.append(f"none is proven, {typed.task('backup.drill')} restores and compares one")
        if self.leaving:
            number = report.plural(len(self.leaving), "backup")
            verb = "leaves" if len(self.leaving) == 1 else "leave"
            lines.append(f"{number} {verb} the trash for good, after {self.trash}")
        for before, lossy in self.last_before_losses():
            lines.append(
                f"{before.id} goes, the last whole one before the loss of {lossy.id}: "
                f"{hands.keeps(before)} keeps it"
            )
        return [*lines, *([f"stopped: {self.stopped}"] if self.stopped else [])]

    def last_before_losses(self) -> Iterator[tuple[Backup, Backup]]:
        """Yield each backup that goes although the next one has a loss, and that one."""
        whole = [each for each in self.verdicts if not each.fact.aside]
        for lossy, before in pairwise(whole):
            later = self.backups[lossy.fact.id]
            if facts.lost(later) and not before.stays:
                yield self.backups[before.fact.id], later

    @property
    def warning(self) -> str:
        """Return what a person should know before a yes: how much goes, and for how long."""
        words = []
        if dropped := self.dropped:
            number = report.plural(len(dropped), "backup")
            stay = "stays" if len(dropped) == 1 else "stay"
            words.append(f"drops {number} ({_size(dropped)}), {stay} in the trash for {self.trash}")
        if self.leaving:
            number = report.plural(len(self.leaving), "backup")
            words.append(f"removes {number} from the trash for good")
        return f"this {'; '.join(words)}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "of": self.of,
            "where": self.store.name,
            "backups": [self._document(each) for each in self.verdicts],
            "alone": list(self.alone),
            "leaving": [each.id for each in self.leaving],
            "stopped": self.stopped,
        }

    def _document(self, verdict: Verdict) -> dict[str, Any]:
        backup = self.backups[verdict.fact.id]
        return {
            "id": backup.id,
            "snapshot_time": backup.manifest.snapshot_time,
            "size": backup.manifest.size,
            "proven": verdict.fact.proven,
            "stays": verdict.stays,
            "rule": verdict.why,
        }


def plan(store: Store, target: Target, now: datetime) -> PrunePlan:
    """Return the plan for the backups of a target in a store, by its settings.

    Raises Refused if there are no rules, or if nothing whole would stay.
    """
    refuse_without_rules(target)
    settings, contents = target.backup, store.list()
    known = facts.of(store, contents, target.environment, target.database)
    verdicts = _decided(store, known, settings.keep, now)
    trash = contents.trash_of(target.environment, target.database)
    leaving = [each for each in trash if each.removing or _has_left(each, settings, now)]
    planned = PrunePlan(
        home=(target.environment, target.database),
        store=store,
        backups={backup.id: backup for backup in known.backups},
        verdicts=verdicts,
        now=now,
        trash=settings.trash,
        alone=known.alone,
        leaving=leaving,
        staying=[each for each in trash if each not in leaving],
        stopped=_stopped(known.stopping),
    )
    _refuse_leaving_nothing(planned)
    return planned


def _decided(store: Store, known: Known, keep: Keep, now: datetime) -> list[Verdict]:
    """Return a verdict for each backup, after a look at the files of those that stay.

    One that lacks a file does not take the place of another, which may then stay for it.
    """
    verdicts = rules.decide(known.facts, keep, now)
    if all(each.stays for each in verdicts):
        return verdicts
    backups = {backup.id: backup for backup in known.backups}
    staying = [each.fact.id for each in verdicts if each.stays and not each.fact.aside]
    faults = store.unfit([backups[id] for id in staying])
    if not faults:
        return verdicts
    others = [fact.id for fact in known.facts if not fact.aside and fact.id not in staying]
    faults = {**faults, **store.unfit([backups[id] for id in others])}
    sound = [
        replace(fact, aside=f"lacks a file: {faults[fact.id]}") if fact.id in faults else fact
        for fact in known.facts
    ]
    return rules.decide(sound, keep, now)


def refuse_without_rules(target: Target) -> None:
    """Raise Refused if the settings of a target say nothing on which backups stay."""
    if not target.backup.keep.is_set:
        name = target.environment
        raise Refused(
            f"environment {name!r} has no rules for its backups, nothing was dropped: say in "
            f"env/{name}.yaml which stay, for example backup: {{keep: {{last: 7, daily: 14, "
            "weekly: 8, monthly: 12}}"
        )


def _refuse_leaving_nothing(planned: PrunePlan) -> None:
    """Refuse a plan after which no backup is left: the rules and the floor must prevent it."""
    if planned.dropped and all(not each.stays or each.fact.aside for each in planned.verdicts):
        raise Refused(f"the plan would leave no whole backup of {planned.of}, nothing was dropped")


def _has_left(trashed: Trashed, settings: Settings, now: datetime) -> bool:
    return now - trashed.dropped >= timedelta(seconds=report.span(settings.trash) or 0)


def _stopped(stopping: Sequence[Backup]) -> str:
    """Return why nothing may be dropped, and the way out; empty if nothing prevents it."""
    if not stopping:
        return ""
    lossy = stopping[0]
    more = f"; so have {len(stopping) - 1} more" if len(stopping) > 1 else ""
    return f"{loss.warning(lossy)}{more}"


def _size(backups: Sequence[Backup]) -> str:
    return report.size(sum(backup.manifest.size for backup in backups))


@dataclass(frozen=True)
class Pruned:
    """The result of backup.prune; `faults` are what could not be moved or removed, by its name.

    `shown` is whether the table of the plan was printed before the question.
    """

    plan: PrunePlan
    dropped: Sequence[Backup] = ()
    removed: Sequence[Trashed] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    dry: bool = False
    shown: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [] if self.shown else self.plan.lines()
        return [*lines, self.summary(), *self._trash(), *self._faults()]

    def summary(self) -> str:
        """Return one line."""
        done = self.plan.dropped if self.dry else self.dropped
        stays = report.plural(len(self.plan.backups) - len(done), "backup")
        if not done:
            return f"nothing {'would be' if self.dry else 'was'} dropped, {stays} of {self.plan.of}"
        freed = _size(done)
        verb = "would drop" if self.dry else "dropped"
        number = report.plural(len(done), "backup")
        verb_stays = "stays" if stays == "1 backup" else "stay"
        return f"{verb} {number} of {self.plan.of} ({freed}), {stays} {verb_stays}"

    def _trash(self) -> list[str]:
        lines = []
        if self.dropped:
            words = (self.dropped[0].id, *hands.on_host(self.plan.store.name))
            back = typed.task("backup.untrash", *words)
            one = len(self.dropped) == 1
            stay, which = ("it stays", "it") if one else ("they stay", "one")
            lines.append(f"{stay} in the trash for {self.plan.trash}: {back} brings {which} back")
        if self.removed:
            number = report.plural(len(self.removed), "backup")
            lines.append(f"removed {number} from the trash")
        return lines

    def _faults(self) -> list[str]:
        return [f"left {name!r}: {fault}" for name, fault in self.faults.items()]

    def check(self) -> None:
        """Raise Failed if something could not be moved or removed."""
        if self.faults:
            name, fault = next(iter(self.faults.items()))
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            raise Failed(f"{name!r}{more}: {fault}", details=self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.plan.as_json(),
            "dropped": [backup.id for backup in self.dropped],
            "removed": [each.id for each in self.removed],
            "faults": dict(self.faults),
            "dry": self.dry,
        }

    def journaled(self) -> dict[str, Any]:
        """Return what the journal keeps: of the backups only those that went, and why."""
        gone = {backup.id for backup in self.dropped}
        document = self.as_json()
        document["backups"] = [each for each in document["backups"] if each["id"] in gone]
        return document
