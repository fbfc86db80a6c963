"""Build the database anew from the project's files, or empty, and put it in the place of the old.

The new one is built beside the old one and swapped in when it is whole, as in a restore. The old
one is kept, so that db.undo takes a reset back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.database import (
    beside,
    forget,
    intact,
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
from pgtasks.errors import Failed, Refused
from pgtasks.report import Console, typed
from pgtasks.report.boundaries import boundary
from pgtasks.schema.setup import Setup
from pgtasks.schema.step import Step
from pgtasks.server.identity import comment_and_stamp, glimpse, present
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp


@dataclass(frozen=True)
class ResetPlan:
    """The plan of a reset; `files` describe what fills the new database, none for an empty one."""

    database: str
    owner: str
    system: str
    current: Replaced
    files: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        content = "; ".join(f"{each.name}: {each.text}" for each in self.files) or "empty"
        return [
            f"build    a new {self.database!r}: {content}",
            f"keep     {self.database!r} as it is now: {typed.task('db.undo')} takes it back",
            *self.current.lines(),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "owner": self.owner,
            "system": self.system,
            "files": [each.as_json() for each in self.files],
            **self.current.as_json(),
        }


@dataclass(frozen=True)
class Reset:
    """The result: the steps that filled the new database, and the swap."""

    plan: ResetPlan
    steps: tuple[Step, ...]
    swapped: Swapped
    trimmed: Trimmed
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person reads."""
        content = self.steps[-1].text if self.steps else "it is empty"
        back, drops = typed.task("db.undo"), typed.task("db.forget")
        return [
            f"{self.plan.database!r} is new ({report.duration(self.seconds)}): {content}",
            f"{back} takes this back, {drops} drops what was put away",
            *self.trimmed.lines(),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.plan.as_json(),
            "steps": [each.as_json() for each in self.steps],
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            "seconds": round(self.seconds, 3),
            **self.trimmed.as_json(),
        }


def reset(
    lock: Lock,
    setup: Setup | None,
    *,
    leave_behind: bool,
    agreed: Callable[[ResetPlan], bool],
    console: Console,
) -> Reset | ResetPlan:
    """Replace the lock's target by a new database if the plan is agreed to; else return the plan.

    `setup` fills the new one; without it, it stays empty. With `leave_behind`, slots and properties
    may stay behind. Raises Refused for an obstacle; the target is unchanged after any error.
    """
    conn, target = lock.connection, lock.target
    origin = present(glimpse(conn, target.database), target)
    facts = properties.read(conn, target.database)
    current = replaced.look(conn, target.database)
    if current is None:
        raise Failed(f"database {target.database!r} was dropped or renamed meanwhile")
    files = tuple(setup.files()) if setup else ()
    if setup and all(each.result == "skipped" for each in files):
        raise Refused(
            "this project has no migrations, trigger files and seeds to build it from: "
            f"{typed.task('db.drop-tables')} empties it"
        )
    plan = ResetPlan(target.database, facts.owner, origin.system, current, files)
    change = Change(target, facts, 0, None, replaces=True, leave_behind=leave_behind)
    lines = [*obstacles.rights(conn, target, facts.owner), *obstacles.of_server(conn, change)]
    obstacles.refuse("reset", lines)
    if not agreed(plan):
        return plan
    for line in recover.heal(lock):
        console.say(line)
    boundary("reset.ready")
    began = time.monotonic()
    steps, swapped = _replaced(lock, setup, facts, console, leave_behind=leave_behind)
    boundary("reset.swapped")
    return Reset(plan, tuple(steps), swapped, forget.trim(lock), time.monotonic() - began)


def _replaced(
    lock: Lock,
    setup: Setup | None,
    facts: DatabaseProperties,
    console: Console,
    *,
    leave_behind: bool,
) -> tuple[Sequence[Step], Swapped]:
    """Build the new database beside the old one, and swap it in."""
    conn, target = lock.connection, lock.target
    before = intact.StateBefore.look(lock, replaces=True)
    mark = _mark(lock)
    steps: Sequence[Step] = ()
    try:
        with beside.building(
            *(conn, target, facts, mark),
            leave_behind=leave_behind,
            purpose="db.reset",
            say=console.say,
        ) as building:
            if setup:
                steps = replace(setup, target=target.at(building)).fill(lock, say=console.say)
                mark = comment_and_stamp(conn, building)[1] or mark  # which has the seeds now
            boundary("reset.built")
            is_gone = before.gone(lock, console.say)
            if not is_gone:
                obstacles.refuse_new("reset", conn, target, leave_behind=leave_behind)
            swapped = swap.swap_in(lock, target, building, mark, facts=facts, replaces=not is_gone)
    except BaseException as exc:
        before.tell(lock, exc)
        raise
    return steps, swapped


def _mark(lock: Lock) -> Stamp:
    target, conn = lock.target, lock.connection
    origin = present(glimpse(conn, target.database), target)
    run = side.new_run_id(conn, target)
    return Stamp(target.environment, target.database, origin.system, role="new", run=run)
