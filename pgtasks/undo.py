"""Undo: the swap backwards; and forget, which drops what undo would need."""

from __future__ import annotations

from dataclasses import dataclass

from pgtasks import recover, side, swap
from pgtasks.errors import Refused
from pgtasks.lock import Lock
from pgtasks.side import Side
from pgtasks.steps import reach
from pgtasks.swap import Swapped


@dataclass(frozen=True)
class Undone:
    """What an undo brought back, and how the swap went."""

    restored: Side
    swapped: Swapped


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
    return Undone(kept, swapped)


def forget(lock: Lock) -> list[Side]:
    """Drop all kept databases of the target and return them."""
    found = recover.look(lock.connection, lock.target)
    for kept in found.kept:
        side.drop(lock.connection, kept.name)
    return list(found.kept)
