"""Rehearse pending migrations on a copy: upgrade, trace the locks, downgrade, compare, drop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.database import recover
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.schema.migrate import copying
from pgtasks.schema.migrate.copying import CopyingPlan
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.locks import LockTrace, TableLock
from pgtasks.schema.migrate.perform import Migrated, perform
from pgtasks.schema.migrate.perform import plan as planned
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server import catalog, connection, versiontable
from pgtasks.server.dump import describe
from pgtasks.server.identity import Identity, identify
from pgtasks.server.lock import Lock
from pgtasks.server.proof import entries
from pgtasks.server.proof.entries import Schema
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class RehearsalPlan:
    """What a rehearsal will do; without pending revisions there is no copy."""

    revisions: MigrationPlan
    copying: CopyingPlan | None
    back: bool

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if self.copying is None:
            return self.revisions.lines()
        return [
            self.copying.line(),
            *self.revisions.announcement(),
            *(["down     the same revisions, and compare the schema"] if self.back else []),
            f"drop     the copy; {self.copying.target.database!r} itself is only read",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        way = "rows" if self.copying and self.copying.rows else "files"
        size = self.copying.bytes if self.copying else None
        return {**self.revisions.as_json(), "bytes": size, "way": way, "downgrades": self.back}


@dataclass(frozen=True)
class Rehearsed:
    """The result of a rehearsal.

    `down` is None if nothing was taken back, `failure` then says why, unless that was not wanted.
    `differences` are those of the schema after the downgrade.
    """

    up: Migrated
    locks: tuple[TableLock, ...]
    down: Migrated | None
    differences: tuple[str, ...]
    failure: str
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = []
        for applied in self.up.applied:
            lines.append(f"up    {report.duration(applied.seconds):>7}  {applied.revision}")
            own = (lock for lock in self.locks if lock.revision == applied.revision.id)
            lines += [f"  {lock.line()}" for lock in own]
        for applied in self.down.applied if self.down else ():
            lines.append(f"down  {report.duration(applied.seconds):>7}  {applied.revision}")
        lines += [f"  {each}" for each in self.differences]
        return [*lines, *self._outcome()]

    def _outcome(self) -> list[str]:
        took = f"rehearsed in {report.duration(self.seconds)}, the copy is dropped"
        if self.down and not self.differences:
            took += "; after the downgrade the schema is as before"
        return [*([self.failure] if self.failure else []), took]

    def check(self) -> None:
        """Raise NotProven if the downgrade failed, or did not bring the schema back."""
        if self.failure:
            raise NotProven(self.failure, details=self.as_json())
        if self.differences:
            number = report.plural(len(self.differences), "difference")
            raise NotProven(
                f"the downgrade does not bring the schema back: {number}", details=self.as_json()
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "up": self.up.as_json(),
            "locks": [lock.as_json() for lock in self.locks],
            "down": self.down.as_json() if self.down else None,
            "differences": list(self.differences),
            "failure": self.failure,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class _Copy:
    """The copy as a place of migrations."""

    scripts: Scripts
    target: Target
    host: Host
    made: CopyingPlan

    @property
    def place(self) -> tuple[Scripts, Target, Identity]:
        """Return what the functions of migrations need."""
        with connection.session(self.target, read_only=True, purpose="migrate") as conn:
            return self.scripts, self.target, identify(conn)

    def tables(self) -> set[tuple[str, str]]:
        """Return the tables, by schema and name."""
        with connection.session(self.target, read_only=True, purpose="migrate") as conn:
            return {(each.schema, each.name) for each in catalog.relations(conn, "rpm")}

    def version_tables(self) -> set[tuple[str, str]]:
        """Return the version tables, by schema and name; env.py may name them."""
        with connection.session(self.target, read_only=True, purpose="migrate") as conn:
            return {(each.schema, each.name) for each in versiontable.read(conn)}

    def schema(self, *, without: Collection[str] = ()) -> Schema:
        """Return the schema, without the tables of some names."""
        options = ("--schema-only",)
        encoding, tools = self.made.facts.encoding, self.made.tools
        found = describe.described(
            self.target, self.host, tools, encoding=encoding, options=options
        )
        return entries.schema(each for each in found if each.tag.split(" ")[0] not in without)


def rehearse(
    scripts: Scripts,
    lock: Lock,
    host: Host,
    identity: Identity,
    *,
    to: str,
    back: bool,
    agreed: Callable[[RehearsalPlan], bool],
    console: Console,
) -> Rehearsed | RehearsalPlan:
    """Rehearse an upgrade on a copy if the plan is agreed to; else return the plan.

    The copy is a side database of the lock's target. It is dropped in any case, and what a killed
    run leaves is dropped by the next one, or by `recover.heal`. Without `back` no downgrade runs.
    """
    target = lock.target
    revisions = planned(scripts, target, identity, "up", to, exact=False)
    if revisions.is_empty:
        return RehearsalPlan(revisions, None, back)
    made = copying.plan(lock, host, identity)
    plan = RehearsalPlan(revisions, made, back)
    if not agreed(plan):
        return plan
    for line in recover.heal(lock):
        console.say(line)
    began = time.monotonic()
    try:
        with copying.copied(made, lock, console) as copy:
            boundary("rehearse.copied")
            done = _performed(_Copy(scripts, copy, host, made), plan, console)
    except PgtasksError as exc:
        exc.message = f"on the copy: {exc.message}; {target.database!r} itself was only read"
        raise
    up, locks, down, differences, failure = done
    return Rehearsed(up, locks, down, differences, failure, time.monotonic() - began)


_Done = tuple[Migrated, tuple[TableLock, ...], Migrated | None, tuple[str, ...], str]


def _performed(copy: _Copy, plan: RehearsalPlan, console: Console) -> _Done:
    tables = copy.tables()
    before = copy.schema()
    up, locks = _upgraded(copy, plan.revisions, tables)
    boundary("rehearse.upgraded")
    console.say(f"upgraded in {report.duration(up.seconds)}")
    if not plan.back:
        return up, locks, None, (), ""
    try:
        down = _downgraded(copy, plan.revisions)
    except PgtasksError as exc:
        return up, locks, None, (), f"the downgrade fails: {exc.message}"
    # Alembic makes its table with the first revision, and no downgrade drops it
    new = {name for _, name in copy.version_tables() - tables}
    compared = entries.compare(before, copy.schema(without=new), dict)
    boundary("rehearse.compared")
    return up, locks, down, tuple(map(str, compared.differences)), ""


def _upgraded(
    copy: _Copy, revisions: MigrationPlan, tables: set[tuple[str, str]]
) -> tuple[Migrated, tuple[TableLock, ...]]:
    place = copy.place
    envpy = EnvPy(*place)
    trace = LockTrace(envpy.ledger, tables)
    exact = planned(*place, "up", revisions.target, exact=True)
    with trace.kept():
        up = perform(*place, exact, envpy=envpy)
    return up, tuple(trace.locks)


def _downgraded(copy: _Copy, revisions: MigrationPlan) -> Migrated:
    """Take the revisions back, each by its own function."""
    before = revisions.state.current
    to = before[0] if len(before) == 1 else f"-{len(revisions.steps)}" if before else "base"
    place = copy.place
    return perform(*place, planned(*place, "down", to, exact=True))
