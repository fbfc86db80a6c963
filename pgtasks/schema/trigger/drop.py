"""Drop triggers by name or table, or those that no file knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.report.interruption import telling
from pgtasks.schema.trigger import installed, rules
from pgtasks.schema.trigger.expected import Expected
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.installed import InstalledTrigger
from pgtasks.schema.trigger.verify import LOCK_TIMEOUT
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.server.interrupt import cancelling
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Gone:
    """A trigger to drop; `definition` creates it again."""

    name: str
    table: str
    definition: str


@dataclass(frozen=True)
class Dropped:
    """The triggers that were dropped, or would be if not `done`."""

    triggers: tuple[Gone, ...]
    done: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads; the definitions are the only copy of some triggers."""
        count = report.plural(len(self.triggers), "trigger")
        if not self.triggers:
            return ["no such trigger, nothing to drop"]
        definitions = [f"{each.definition};" for each in self.triggers]
        return [*definitions, f"{'dropped' if self.done else 'would drop'} {count}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"triggers": [asdict(each) for each in self.triggers], "dropped": self.done}


@dataclass(frozen=True)
class Selection:
    """What to drop: a trigger's name, a table, or both; or the triggers that no file knows."""

    name: str = ""
    table: str = ""
    orphans: bool = False

    def __post_init__(self) -> None:
        if not (self.name or self.table or self.orphans):
            raise Refused("which triggers? name them with --name, --table or --orphans")


def plan(files: Sequence[SqlFile], target: Target, selection: Selection) -> Dropped:
    """Return the triggers of a selection, raising Refused for a table that does not exist."""
    session = connection.session(target, read_only=True, purpose="drop", own_path=True)
    with session as conn:
        return Dropped(
            tuple(
                Gone(each.name, each.table, each.definition)
                for each in _selected(conn, rules.described(conn, files), selection)
            )
        )


def _selected(
    conn: Connection, described: Expected, selection: Selection
) -> list[InstalledTrigger]:
    table = _table(conn, selection.table) if selection.table else None
    known = _described(conn, described) if selection.orphans else set()
    return [
        each
        for each in installed.triggers(conn)
        if (not selection.name or each.name == selection.name)
        and (table is None or each.table_oid == table)
        and not (selection.orphans and (each.table_oid, each.name) in known)
    ]


def _table(conn: Connection, name: str) -> int:
    oid = installed.table_oid(conn, name)
    if oid is None:
        raise Refused(f"no table {name!r} (names with capitals or spaces need double quotes)")
    return oid


def _described(conn: Connection, described: Expected) -> set[tuple[int | None, str]]:
    triggers = list(described.triggers.values())
    oids = installed.table_oids(conn, [each.table for each in triggers])
    return {(oid, each.name) for oid, each in zip(oids, triggers, strict=True)}


def drop(target: Target, planned: Dropped) -> Dropped:
    """Drop the triggers of a plan in one transaction; the caller holds the lock."""
    if not planned.triggers:
        return planned
    session = connection.session(target, purpose="drop")
    with telling(lambda: _left(target, planned)), session as conn, cancelling([conn]):
        conn.autocommit = False
        connection.execute(conn, f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        for each in planned.triggers:
            statement = sql.SQL("DROP TRIGGER {} ON {}")
            connection.execute(
                conn, statement.format(sql.Identifier(each.name), sql.SQL(each.table))
            )
        with translated():
            conn.commit()
    return replace(planned, done=True)


def _left(target: Target, planned: Dropped) -> str:
    """Return which triggers of a plan are dropped after a signal, as the server says."""
    with connection.session(target, read_only=True, purpose="drop") as conn:
        there = {(each.table, each.name) for each in installed.triggers(conn)}
    gone = sum((each.table, each.name) not in there for each in planned.triggers)
    total = report.plural(len(planned.triggers), "trigger")
    return f"{gone} of {total} {'is' if gone == 1 else 'are'} dropped"
