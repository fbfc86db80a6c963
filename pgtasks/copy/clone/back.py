"""Go back to a clone: the server copies it beside the database, and one swap puts it in its place.

A clone that is given up is swapped in itself, without a copy. The replaced database is kept, so
that db.undo takes either back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.copy.clone import clones
from pgtasks.copy.clone.clones import Clone
from pgtasks.database import (
    beside,
    forget,
    obstacles,
    properties,
    recover,
    replaced,
    side,
    swap,
)
from pgtasks.database.forget import Trimmed
from pgtasks.database.obstacles import Change
from pgtasks.database.properties import DatabaseProperties
from pgtasks.database.replaced import Replaced
from pgtasks.database.swap import Swapped
from pgtasks.errors import Refused
from pgtasks.host.base import Host
from pgtasks.report import Console, typed
from pgtasks.report.boundaries import boundary
from pgtasks.server.identity import system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp


@dataclass(frozen=True)
class BackPlan:
    """The plan of a return to a clone; `current` is None if the database does not exist."""

    clone: Clone
    database: str
    owner: str
    current: Replaced | None
    gives_up: bool

    def lines(self) -> list[str]:
        """Return what a person reads."""
        way = "the clone is given up" if self.gives_up else "the server copies its files"
        lines = [f"back to  clone {self.clone}: {way}"]
        if self.current is None:
            return [*lines, f"create   {self.database!r}, which does not exist"]
        keep = f"keep     {self.database!r} as it is now: {typed.task('db.undo')} takes it back"
        return [*lines, keep, *self.current.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "clone": self.clone.as_json(),
            "owner": self.owner,
            "gives_up": self.gives_up,
            **(self.current.as_json() if self.current else {}),
        }


@dataclass(frozen=True)
class Returned:
    """The result: the swap, the databases that are kept, the seconds of all."""

    plan: BackPlan
    swapped: Swapped
    trimmed: Trimmed
    system: str
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan, swap_time = self.plan, report.duration(self.swapped.seconds)
        lines = [
            f"{plan.database!r} is what it was when clone {plan.clone.name!r} was taken, "
            f"{plan.clone.age} ago ({report.duration(self.seconds)}, the swap {swap_time})"
        ]
        if self.swapped.kept:
            back, drops = typed.task("db.undo"), typed.task("db.forget")
            lines.append(f"{back} takes this back, {drops} drops what was put away")
        return [*lines, *self.trimmed.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.plan.as_json(),
            "system": self.system,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            "seconds": round(self.seconds, 3),
            **self.trimmed.as_json(),
        }


def back(
    lock: Lock,
    host: Host,
    name: str,
    *,
    give_up: bool,
    leave_behind: bool = False,
    agreed: Callable[[BackPlan], bool],
    console: Console,
) -> Returned | BackPlan:
    """Put a clone in the place of the lock's target if the plan is agreed to; else return the plan.

    With `give_up` the clone is gone afterwards, without it a copy of the clone is swapped in. With
    `leave_behind`, slots and properties may stay behind. Raises Refused for an obstacle.
    """
    conn, target = lock.connection, lock.target
    leftovers = recover.look(conn, target)
    if leftovers.invalid:
        raise Refused(recover.what_invalid_needs(leftovers, target.database))
    clone = clones.named(clones.find(conn, target), name, database=target.database)
    facts = properties.read(conn, clone.side.name)
    current = replaced.look(conn, target.database)
    plan = BackPlan(clone, target.database, facts.owner, current, give_up)
    _refuse(lock, host, plan, facts, leave_behind=leave_behind)
    if not agreed(plan):
        return plan
    for line in recover.heal(lock):
        console.say(line)
    boundary("clone.ready")
    began = time.monotonic()
    swapped = _swapped(lock, plan, facts, console, leave_behind=leave_behind)
    seconds = time.monotonic() - began
    boundary("clone.swapped")
    return Returned(plan, swapped, forget.trim(lock), system_identifier(conn), seconds)


def _refuse(
    lock: Lock, host: Host, plan: BackPlan, facts: DatabaseProperties, *, leave_behind: bool
) -> None:
    conn, target = lock.connection, lock.target
    free = None if plan.gives_up else obstacles.free_bytes(conn, target, host)
    size, replaces = plan.clone.side.bytes or 0, plan.current is not None
    change = Change(target, facts, size, free, replaces=replaces, leave_behind=leave_behind)
    lines = [*obstacles.rights(conn, target, facts.owner), *obstacles.of_server(conn, change)]
    if not plan.gives_up and not obstacles.may_copy(conn, plan.clone.side.name):
        lines.append(f"this role may not copy clone {plan.clone.name!r}: it needs its owner's role")
    obstacles.refuse("go back", lines)


def _swapped(
    lock: Lock,
    plan: BackPlan,
    facts: DatabaseProperties,
    console: Console,
    *,
    leave_behind: bool,
) -> Swapped:
    conn, target, replaces = lock.connection, lock.target, plan.current is not None
    run = side.new_run_id(conn, target)
    if plan.gives_up:
        return swap.swap_back(lock, target, plan.clone.side, run, replaces=replaces)
    mark = replace(plan.clone.side.stamp or _unstamped(lock), role="new", run=run, clone="")
    template = replaces and properties.read(conn, target.database).template
    facts = replace(facts, name=target.database, template=template)
    with beside.building(
        *(conn, target, facts, mark),
        copied=plan.clone.side.name,
        leave_behind=leave_behind,
        purpose="clone.back",
        say=console.say,
    ) as building:
        boundary("clone.copied")
        if replaces:
            obstacles.refuse_new("go back", conn, target, leave_behind=leave_behind)
        return swap.swap_in(lock, target, building, mark, facts=facts, replaces=replaces)


def _unstamped(lock: Lock) -> Stamp:
    target = lock.target
    return Stamp(target.environment, target.database, system_identifier(lock.connection))
