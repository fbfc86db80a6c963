"""Swap back to the newest kept database, or to a named one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.database import attached, drop, forget, kept, obstacles, recover, side, swap
from pgtasks.database.forget import Trimmed
from pgtasks.database.recover import Leftovers
from pgtasks.database.side import Side
from pgtasks.database.swap import Swapped
from pgtasks.errors import Refused
from pgtasks.report import Say, typed
from pgtasks.report.boundaries import boundary
from pgtasks.server.identity import system_identifier
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class UndoPlan:
    """The plan of an undo: `restored` replaces the target, if that exists."""

    database: str
    restored: Side
    replaces: bool
    drops: bool  # the target is invalid, left by an interrupted DROP, and is dropped

    def lines(self) -> list[str]:
        """Return what a person reads."""
        owner = self.restored.owner
        lines = [f"undo     {self.restored} (owner {owner!r}) becomes {self.database!r} again"]
        if self.drops:
            lines.append(f"drop     {self.database!r}, which an interrupted DROP left invalid")
        elif self.replaces:
            lines.append(f"keep     {self.database!r} as it is now: the next db.undo takes it")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"database": self.database, "restored": self.restored.name, **_dated(self.restored)}


def _dated(restored: Side) -> dict[str, Any]:
    return {"run": restored.run, "age_seconds": restored.as_json()["age_seconds"]}


@dataclass(frozen=True)
class Undone:
    """The result of an undo: the restored database, the swap, and the kept databases."""

    database: str
    restored: Side
    swapped: Swapped
    trimmed: Trimmed
    system: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        duration = report.duration(self.swapped.seconds)
        lines = [f"undone in {duration}: {self.database!r} is again what it was: {self.restored}"]
        if self.swapped.kept:
            back, drops = typed.task("db.undo"), typed.task("db.forget")
            lines.append(f"{back} takes this back, {drops} drops what was put away")
        return [*lines, *self.trimmed.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "restored": self.restored.name,
            **_dated(self.restored),
            "owner": self.restored.owner,
            "system": self.system,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            **self.trimmed.as_json(),
        }


def plan(lock: Lock, to: str | None = None, *, leave_behind: bool = False) -> UndoPlan:
    """Return the plan of an undo to the newest kept database, or to a named one.

    With `leave_behind`, replication slots may stay with the replaced database. Raises Refused if
    there is no such database, or if something prevents the swap.
    """
    conn, target = lock.connection, lock.target
    decided = _plan(recover.look(conn, target), target, to)
    if decided.replaces:
        obstacles.refuse(
            "undo",
            [
                *obstacles.template(target),
                *attached.keep_from_putting_away(conn, target, leave_behind=leave_behind),
            ],
        )
    return decided


def _plan(leftovers: Leftovers, target: Target, to: str | None) -> UndoPlan:
    alone = [other for other in leftovers.alone if other.role == "old"]
    named = [other for other in alone if to in (other.name, other.run) or not leftovers.kept]
    if named:
        lines = [recover.left_alone(other, other.alone) for other in named]
        raise Refused(f"nothing to return to is ours: {lines[0]}", hint="\n".join(lines[1:]))
    restored = kept.named(leftovers.kept, to, database=target.database)
    replaces = not (leftovers.missing or leftovers.invalid)
    return UndoPlan(target.database, restored, replaces=replaces, drops=leftovers.invalid)


def undo(
    lock: Lock, to: str | None = None, *, leave_behind: bool = False, say: Say = lambda line: None
) -> Undone:
    """Swap a kept database back; keep the current one, so that an undo can be undone.

    `to` is its name or the ID of its run, None the newest. Raises Refused as `plan` does.
    """
    conn, target = lock.connection, lock.target
    for line in recover.heal(lock):
        say(line)
    decided = plan(lock, to, leave_behind=leave_behind)
    boundary("undo.checked")
    if decided.drops:
        drop.drop_plainly(conn, target.database)
    run = side.new_run_id(conn, target)
    swapped = swap.swap_back(lock, target, decided.restored, run, replaces=decided.replaces)
    boundary("undo.swapped")
    system = system_identifier(conn)
    return Undone(target.database, decided.restored, swapped, forget.trim(lock), system)
