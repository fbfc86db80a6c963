"""Drop the databases kept for undo, except the newest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.database import drop, kept, recover
from pgtasks.database.recover import Leftovers
from pgtasks.database.side import Side
from pgtasks.errors import Failed, Refused
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.server.lock import Lock


@dataclass(frozen=True)
class Forgotten:
    """The result of a forget; `notes` are lines on slots that stay and databases left alone."""

    dropped: tuple[Side, ...]
    dry: bool
    kept: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        verb = "would drop" if self.dry else "dropped"
        lines = [f"{verb} {side}" for side in self.dropped]
        if not self.dropped:
            lines = ["nothing is kept" if not self.kept else "nothing more is kept than asked for"]
        return [*lines, *self.notes, *kept.lines(self.kept)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "dropped": [side.name for side in self.dropped],
            "kept": [side.name for side in self.kept],
            "dry": self.dry,
        }


def number(keep: str | None) -> int:
    """Return the number given with --keep, raising Refused if it is not a number."""
    if keep is None:
        return 0
    if not keep.isdecimal():
        raise Refused(f"--keep {keep!r}, expected a number")
    return int(keep)


def plan(lock: Lock, keep: int = 0) -> Forgotten:
    """Return the plan of a forget: all kept databases except the newest `keep`."""
    leftovers = recover.look(lock.connection, lock.target)
    alone = [recover.left_alone(side, side.alone) for side in leftovers.alone if side.role == "old"]
    going = _going(leftovers, keep)
    staying = tuple(side for side in leftovers.kept if side not in going)
    return Forgotten(going, dry=True, kept=staying, notes=tuple(alone))


def _going(leftovers: Leftovers, keep: int) -> tuple[Side, ...]:
    broken = [side for side in leftovers.broken if side.role == "old"]
    return (*broken, *leftovers.kept[: max(len(leftovers.kept) - keep, 0)])


def forget(lock: Lock, keep: int = 0) -> Forgotten:
    """Drop the kept databases of the target, except the newest `keep`.

    Raises Failed if one cannot be dropped, after the others were dropped.
    """
    decided = plan(lock, keep)
    with telling(lambda: left(lock, decided.dropped)):
        dropped, lines, faults = _drop(lock, decided.dropped)
    if faults:
        drops = "".join(f"; dropped {side}" for side in dropped)
        raise Failed(f"{faults[0]}{drops}", hint="\n".join(faults[1:]))
    staying = recover.look(lock.connection, lock.target).kept
    return Forgotten(tuple(dropped), False, staying, (*lines, *decided.notes))


def left(lock: Lock, sides: Sequence[Side], what: str = "kept database") -> str:
    """Return how many of the databases an interrupted run has dropped."""
    query = "SELECT datname FROM pg_database WHERE datname = ANY (%s)"
    with connection.session(
        lock.target.at(lock.target.maintenance), read_only=True, purpose="interrupted"
    ) as conn:
        there = connection.rows(conn, query, ([side.name for side in sides],), into=str)
    gone = len(sides) - len(there)
    return f"{gone} of {report.plural(len(sides), what)} {'is' if gone == 1 else 'are'} dropped"


def _drop(lock: Lock, sides: Sequence[Side]) -> tuple[list[Side], list[str], list[str]]:
    """Drop side databases; return the dropped ones, lines on slots that stay, and the errors."""
    dropped, lines, faults = [], [], []
    for side in sides:
        try:
            lines += drop.drop(lock.connection, lock.target, side.name)
        except Failed as exc:
            faults.append(f"{side.name!r} cannot be dropped: {exc.message}")
        else:
            dropped.append(side)
    return dropped, lines, faults


@dataclass(frozen=True)
class Trimmed:
    """The databases kept after a swap, and those that `keep_old` dropped."""

    kept: tuple[Side, ...]
    dropped: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()
    bound: int | None = None

    def lines(self) -> list[str]:
        """Return what a person reads."""
        drops = [f"dropped {side}: keep_old is {self.bound}" for side in self.dropped]
        return [*drops, *self.notes, *(kept.crowd(self.kept) if self.bound is None else ())]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "kept_databases": [side.as_json() for side in self.kept],
            "dropped_databases": [side.name for side in self.dropped],
        }


def trim(lock: Lock) -> Trimmed:
    """Drop the oldest kept databases beyond the target's `keep_old`, if that is set.

    An error is only reported, because the swap before it is done.
    """
    leftovers = recover.look(lock.connection, lock.target)
    bound = lock.target.keep_old
    if bound is None:
        return Trimmed(leftovers.kept)
    dropped, lines, faults = _drop(lock, leftovers.kept[: max(len(leftovers.kept) - bound, 0)])
    lines += [f"warning: {fault}" for fault in faults]
    staying = tuple(side for side in leftovers.kept if side not in dropped)
    return Trimmed(staying, tuple(dropped), tuple(lines), bound)
