"""The plan of a copy that is made of two databases, see `carry`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from pgtasks.copy import survey
from pgtasks.copy.mask import coverage
from pgtasks.copy.mask.masking import Masking
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.options import CopyOptions
from pgtasks.copy.part import carry, names, shape
from pgtasks.copy.part import selection as parts
from pgtasks.copy.part.carry import Carried
from pgtasks.copy.part.scope import EVERYTHING, Scope
from pgtasks.copy.part.selection import Part
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.survey import Itself
from pgtasks.database import properties, replaced
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Refused
from pgtasks.host.base import Host
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.dump.source import Source, look
from pgtasks.server.identity import identify, refuse_other
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Origin

_NOTE = "what is written to the target from now on stays in the database that is kept"


def make_plan(
    origin: Origin, lock: Lock, host: Host, options: CopyOptions, beside: Leftovers
) -> CopyPlan:
    """Return the plan of a copy that keeps schema or rows of the target, raising for obstacles."""
    scope, target = options.scope, lock.target
    if options.template or options.delta:
        raise Refused("--template and --delta copy everything: leave them out")
    # of the schema there is nothing to mask, and one's own rows are what they are
    plain = replace(options, masks=Masks(), scope=EVERYTHING, rows=True)
    if not properties.owner(lock.connection, target.database):
        if not scope.schema_only:
            raise Refused(f"{target} does not exist, and has no schema to keep")
        return _alone(survey.make_plan(origin, lock, host, plain, beside), options)
    seen = _look(origin, lock, options)
    first: Origin | Itself = origin if scope.schema_only else seen.itself
    of_masks = survey.of_masks(seen.masking, options)
    more = [*seen.carried.obstacles, *seen.part.obstacles, *of_masks]
    plan = survey.make_plan(first, lock, host, plain, beside, more=more, needed=seen.needed)
    mappings = survey.of_mappings(plan.archive, seen.masking) if scope.schema_only else ()
    return replace(
        plan,
        itself=not scope.schema_only,
        carried=seen.carried,
        second=_second(plan, origin, options, seen),
        part=Part(rows=(*seen.carried.words, *seen.part.rows)),
        masking=seen.masking,
        notes=(*plan.notes, *mappings, _NOTE),
    )


def _alone(plan: CopyPlan, options: CopyOptions) -> CopyPlan:
    """Return the plan of a schema that goes into a database which does not exist."""
    carried = Carried({}, frozenset(), False, False, ("the schema alone",))
    masking = coverage.of_schema(options.masks)
    return replace(
        plan,
        carried=carried,
        part=Part(rows=carried.words),
        masking=masking,
        notes=(*plan.notes, *survey.of_mappings(plan.archive, masking)),
    )


def _second(plan: CopyPlan, origin: Origin, options: CopyOptions, seen: _Seen) -> CopyPlan:
    """Return the plan of the database that only rows come from."""
    second: Origin | Itself = seen.itself if options.scope.schema_only else origin
    return replace(
        plan,
        source=second.target,
        allowed=second.allowed,
        origin=seen.source,
        options=plan.options if options.scope.schema_only else replace(options, rows=True),
        part=seen.part,
        masking=seen.masking,
        carried=seen.carried,
        is_second=True,
    )


@dataclass(frozen=True)
class _Seen:
    """What was read of both databases: `source` and `part` are of the second one.

    `needed` are the bytes of the result.
    """

    itself: Itself
    carried: Carried
    part: Part
    source: Source
    masking: Masking
    needed: int


def _look(origin: Origin, lock: Lock, options: CopyOptions) -> _Seen:
    scope, target = options.scope, lock.target
    with ExitStack() as stack:
        reading = (
            connection.session(each, read_only=True, purpose="db.copy")
            for each in (origin.target, target)
        )
        there, here = (stack.enter_context(session) for session in reading)
        refuse_other(origin.allowed, identify(there), origin.target.database)
        survey.refuse_same(there, lock.connection, origin.target, target)
        survey.refuse_newer(there, lock.connection, origin.target, target)
        _refuse_elsewhere(there, scope)
        carried = _carried(there, here, options)
        conn = here if scope.schema_only else there
        part = parts.part(conn, replace(scope, tables=(), exclude_data=()))
        part = replace(part, oids=_left(conn, carried))
        itself, source = Itself(target, identify(here)), part.of(look(conn))
        masking = coverage.of_schema(options.masks)
        seen = _Seen(itself, carried, part, source, masking, source.bytes)
        return seen if scope.schema_only else _with_rows(seen, there, lock, options)


def _with_rows(seen: _Seen, conn: Connection, lock: Lock, options: CopyOptions) -> _Seen:
    """Return the same for rows of the source, which are masked, beside those that stay."""
    masking = coverage.planned(
        conn, options.masks, encoding=seen.source.encoding, without=seen.part.oids
    )
    carried = seen.carried
    if masking.without_large_objects:  # those of the target stay
        carried = replace(carried, large_objects=False)
    present = replaced.look(lock.connection, lock.target.database)
    needed = seen.needed + ((present.bytes or 0) if present else 0)
    return replace(seen, masking=masking, carried=carried, needed=needed)


def _refuse_elsewhere(conn: Connection, scope: Scope) -> None:
    """Raise Refused for a condition on a table that does not come."""
    if not scope.tables:
        return
    wanted = names.matched(conn, "--tables", scope.tables)
    conditions = [("--where", pattern) for pattern, _ in scope.where]
    for flag, pattern in (*conditions, *(("--follow", table) for table, _ in scope.follow)):
        if not names.matched(conn, flag, [pattern]) & wanted:
            raise Refused(f"{flag} {pattern!r} is for no table of --tables: add it there")


def _left(conn: Connection, carried: Carried) -> frozenset[int]:
    """Return the tables of the second database whose rows are not taken."""
    relations = catalog.relations(conn, "r")
    return frozenset(
        each.oid for each in relations if (each.schema, each.name) not in carried.tables
    )


def _carried(there: Connection, here: Connection, options: CopyOptions) -> Carried:
    scope = options.scope
    theirs, ours = shape.read(there), shape.read(here)
    if scope.schema_only:
        return carry.schema_only(theirs, ours, here, lossy=scope.lossy)
    return carry.data_only(ours, theirs, there, scope, lossy=scope.lossy)
