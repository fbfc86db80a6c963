"""Forget: drop the databases that were put away, all but those that are to stay for undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.database import drop, kept, recover
from pgtasks.database.recover import Leftovers
from pgtasks.database.side import Side
from pgtasks.errors import Failed, Refused
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Forgotten:
    """What a forget dropped, or would drop; `said` is what stays elsewhere or was left alone."""

    dropped: tuple[Side, ...]
    dry: bool
    kept: tuple[Side, ...] = ()
    said: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        verb = "would drop" if self.dry else "dropped"
        lines = [f"{verb} {side}" for side in self.dropped]
        if not self.dropped:
            lines = ["nothing is kept" if not self.kept else "nothing more is kept than asked for"]
        return [*lines, *self.said, *kept.lines(self.kept)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "dropped": [side.name for side in self.dropped],
            "kept": [side.name for side in self.kept],
            "dry": self.dry,
        }


def number(keep: str | None) -> int:
    """Return how many are to stay, as it was typed, raising Refused where it is no number."""
    if keep is None:
        return 0
    if not keep.isdecimal():
        raise Refused(f"--keep {keep!r}, expected a number")
    return int(keep)


def plan(conn: Connection, target: Target, keep: int = 0) -> Forgotten:
    """Return what a forget would drop, all kept databases but the newest `keep`."""
    found = recover.look(conn, target)
    alone = [recover.left_alone(side, side.alone) for side in found.alone if side.role == "old"]
    going = _going(found, keep)
    staying = tuple(side for side in found.kept if side not in going)
    return Forgotten(going, dry=True, kept=staying, said=tuple(alone))


def _going(found: Leftovers, keep: int) -> tuple[Side, ...]:
    broken = [side for side in found.broken if side.role == "old"]
    return (*broken, *found.kept[: max(len(found.kept) - keep, 0)])


def forget(lock: Lock, keep: int = 0) -> Forgotten:
    """Drop the kept databases of the target, all but the newest `keep`.

    Raises Failed where one cannot be dropped, when the others are.
    """
    decided = plan(lock.connection, lock.target, keep)
    dropped, said, faults = _drop(lock, decided.dropped)
    if faults:
        gone = "".join(f"; dropped {side}" for side in dropped)
        raise Failed(f"{faults[0]}{gone}", hint="\n".join(faults[1:]))
    staying = recover.look(lock.connection, lock.target).kept
    return Forgotten(tuple(dropped), False, staying, (*said, *decided.said))


def _drop(lock: Lock, sides: Sequence[Side]) -> tuple[list[Side], list[str], list[str]]:
    """Drop sides, and return those that are gone, what stays elsewhere, and what failed."""
    dropped, said, faults = [], [], []
    for side in sides:
        try:
            said += drop.drop(lock.connection, lock.target, side.name)
        except Failed as exc:
            faults.append(f"{side.name!r} cannot be dropped: {exc.message}")
        else:
            dropped.append(side)
    return dropped, said, faults


@dataclass(frozen=True)
class Trimmed:
    """What is kept after a swap, and what `keep_old` dropped of it."""

    kept: tuple[Side, ...]
    dropped: tuple[Side, ...] = ()
    said: tuple[str, ...] = ()
    bound: int | None = None

    def lines(self) -> list[str]:
        """Return what a person reads."""
        gone = [f"dropped {side}: keep_old is {self.bound}" for side in self.dropped]
        return [*gone, *self.said, *(kept.crowd(self.kept) if self.bound is None else ())]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "kept_databases": [side.as_json() for side in self.kept],
            "dropped_databases": [side.name for side in self.dropped],
        }


def trim(lock: Lock) -> Trimmed:
    """Drop the oldest kept databases beyond the target's `keep_old`; without one nothing.

    What cannot be dropped is said: the swap before it is done.
    """
    found = recover.look(lock.connection, lock.target)
    bound = lock.target.keep_old
    if bound is None:
        return Trimmed(found.kept)
    dropped, said, faults = _drop(lock, found.kept[: max(len(found.kept) - bound, 0)])
    said += [f"warning: {fault}" for fault in faults]
    staying = tuple(side for side in found.kept if side not in dropped)
    return Trimmed(staying, tuple(dropped), tuple(said), bound)
