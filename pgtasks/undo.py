"""Undo: the swap backwards; and forget, which drops what undo would need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import recover, report, side, swap
from pgtasks.errors import Refused
from pgtasks.lock import Lock
from pgtasks.side import Side
from pgtasks.steps import reach
from pgtasks.swap import Swapped


@dataclass(frozen=True)
class Undone:
    """What an undo brought back, and how the swap went."""

    database: str
    restored: Side
    swapped: Swapped

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"undone in {report.duration(self.swapped.seconds)}: {self.database!r} is again "]
        lines[0] += "what it was before the last restore or undo"
        if self.swapped.kept:
            lines.append("inv db.undo takes this back, inv db.forget drops what was put away")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "restored": self.restored.name,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
        }


@dataclass(frozen=True)
class Forgotten:
    """What a forget dropped, or would drop."""

    dropped: tuple[Side, ...]
    dry: bool

    def lines(self) -> list[str]:
        """Return what a person reads."""
        verb = "would drop" if self.dry else "dropped"
        return [f"{verb} {kept.name!r}" for kept in self.dropped] or ["nothing is kept"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"dropped": [kept.name for kept in self.dropped], "dry": self.dry}


def last_kept(lock: Lock) -> Side:
    """Return the database that an undo would bring back, raising Refused where there is none."""
    found = recover.look(lock.connection, lock.target)
    if not found.kept:
        raise Refused(
            f"there is nothing to return to: no kept database of {lock.target.database!r} "
            "(a restore that replaced nothing keeps none, db.forget drops them)"
        )
    return found.kept[-1]


def undo(lock: Lock) -> Undone:
    """Swap the newest kept database back; what it replaces is kept, so undo can be undone."""
    recover.heal(lock)
    kept = last_kept(lock)
    reach("undo.checked")
    found = recover.look(lock.connection, lock.target)
    swapped = swap.swap_back(lock, lock.target, kept, side.new_run_id(), replaces=not found.missing)
    reach("undo.swapped")
    return Undone(lock.target.database, kept, swapped)


def forget(lock: Lock, *, dry: bool = False) -> Forgotten:
    """Drop all kept databases of the target; with `dry` only name them."""
    found = recover.look(lock.connection, lock.target)
    if not dry:
        for kept in found.kept:
            side.drop(lock.connection, kept.name)
    return Forgotten(found.kept, dry)
