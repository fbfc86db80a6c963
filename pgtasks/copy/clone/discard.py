"""Drop clones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgtasks.copy.clone import clones
from pgtasks.copy.clone.clones import Clone
from pgtasks.database import drop, forget
from pgtasks.errors import Failed
from pgtasks.report.interruption import telling
from pgtasks.server.lock import Lock


@dataclass(frozen=True)
class Discarded:
    """The clones that were dropped, or that would be if `dry`."""

    clones: tuple[Clone, ...]
    dry: bool
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        verb = "would drop" if self.dry else "dropped"
        return [*(f"{verb} clone {each}" for each in self.clones), *self.notes]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"dropped": [each.as_json() for each in self.clones], "dry": self.dry}


def plan(lock: Lock, name: str) -> Discarded:
    """Return the clones of that name, raising Refused if there is none."""
    known = clones.find(lock.connection, lock.target)
    clones.named(known, name, database=lock.target.database)
    return Discarded(tuple(each for each in known if each.name == name), dry=True)


def discard(lock: Lock, decided: Discarded) -> Discarded:
    """Drop the clones of a plan, raising Failed if one cannot be dropped."""
    sides = [each.side for each in decided.clones]
    with telling(lambda: forget.left(lock, sides, "clone")):
        dropped, notes = drop_all(lock, decided.clones)
    if len(dropped) < len(decided.clones):
        raise Failed("; ".join(notes))
    return replace(decided, dry=False, notes=notes)


def drop_all(lock: Lock, unwanted: Sequence[Clone]) -> tuple[tuple[Clone, ...], tuple[str, ...]]:
    """Drop clones; return those that were dropped, and lines on the others and on slots."""
    dropped, notes = [], []
    for each in unwanted:
        try:
            notes += drop.drop(lock.connection, lock.target, each.side.name)
        except Failed as exc:
            notes.append(f"clone {each.name!r} ({each.side.name!r}) is left: {exc.message}")
        else:
            dropped.append(each)
    return tuple(dropped), tuple(notes)
