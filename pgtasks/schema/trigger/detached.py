"""A trigger that is dropped for a while, with all that creates it again as it was.

It works on the connection of a migration, whatever its driver: by fixed text, without parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE, OBJECT_IN_USE
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from pgtasks import report
from pgtasks.schema import transaction
from pgtasks.schema.trigger import fingerprint
from pgtasks.schema.trigger.expected import Trigger
from pgtasks.server.connection import PATH
from pgtasks.server.quoting import identifier

_STATES = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
# Rows of a table may be in its partitions and children, or in other tables if it is a view; a
# DELETE, or the UPDATE of a key, may change those that reference it. A partition may inherit a
# trigger.
_TRIGGERS = """
WITH RECURSIVE touched (oid) AS (
    SELECT o FROM unnest(ARRAY[{tables}]::oid[]) AS u (o)
    UNION
    SELECT next.oid FROM touched t CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = t.oid
        UNION ALL
        SELECT c.conrelid FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = t.oid
            AND (c.confupdtype IN ('c', 'n', 'd') OR {deletes} AND c.confdeltype IN ('c', 'n', 'd'))
        UNION ALL
        SELECT d.refobjid FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid
        WHERE r.ev_class = t.oid AND d.classid = 'pg_rewrite'::regclass
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> t.oid
    ) AS next (oid)
), inherited (oid) AS (
    SELECT g.oid FROM pg_trigger g JOIN touched t ON t.oid = g.tgrelid
    UNION
    SELECT g.tgparentid FROM inherited i JOIN pg_trigger g ON g.oid = i.oid
    WHERE g.tgparentid <> 0
), clones (root, partition, enabled, oid) AS (
    SELECT oid, NULL::oid, NULL::text, oid FROM inherited
    UNION ALL
    SELECT c.root, g.tgrelid, g.tgenabled::text, g.oid
    FROM clones c JOIN pg_trigger g ON g.tgparentid = c.oid
)
SELECT g.tgname::text, g.tgrelid::bigint, format('%I.%I', n.nspname, r.relname),
    pg_get_triggerdef(g.oid), g.tgenabled::text, obj_description(g.oid, 'pg_trigger'),
    ARRAY(SELECT c.enabled || c.partition::text FROM clones c
        WHERE c.root = g.oid AND c.enabled <> g.tgenabled::text)
FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE g.oid IN (SELECT oid FROM inherited) AND NOT g.tgisinternal AND g.tgparentid = 0
    AND r.relkind <> 'v' -- without its triggers a view may take no rows
ORDER BY 3, 1
"""


class Session:
    """The connection of a migration, for statements that its listeners do not see."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver: Any = connection.connection.dbapi_connection

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction of its own."""
        return transaction.autocommits(self._connection)

    @property
    def idle(self) -> bool:
        """Whether the server has no transaction open; False if the driver does not know."""
        return transaction.idle(self._connection)

    @contextlib.contextmanager
    def own_transaction(self) -> Iterator[None]:
        """Commit what a block does; the server has no transaction open."""
        begins = self.autocommit  # the driver begins none
        if begins:
            self.run("BEGIN")
        yield
        if begins:
            self.run("COMMIT")
        else:
            self._driver.commit()

    def run(self, statement: str) -> None:
        """Run a statement."""
        self._rows(statement, fetched=False)

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        return self._rows(query, fetched=True)

    def _rows(self, statement: str, *, fetched: bool) -> list[Any]:
        with contextlib.closing(self._driver.cursor()) as cursor:
            try:
                cursor.execute(statement)
                return list(cursor.fetchall()) if fetched else []
            except self._error as exc:
                raise DBAPIError(statement, None, exc) from exc

    @property
    def _error(self) -> Any:
        return self._connection.dialect.loaded_dbapi.Error

    @contextlib.contextmanager
    def pinned(self, *, local: bool = True) -> Iterator[None]:
        """Look names up in pg_catalog only, for the length of a block.

        A `local` setting needs a transaction.
        """
        ((before,),) = self.rows("SELECT pg_catalog.current_setting('search_path')")
        self._search(PATH, local=local)
        yield
        self._search(before, local=local)

    def _search(self, path: str, *, local: bool) -> None:
        text = f"'search_path', {literal(path)}, {str(local).lower()}"
        self.rows(f"SELECT pg_catalog.set_config({text})")

    def tried(self, *statements: str) -> DBAPIError | None:
        """Run statements in a savepoint; return the error that rolled them back, or None.

        The server changes no triggers of a table of which deferred constraints are still to be
        checked. They are checked then, and the statements run again.
        """
        error = self._tried(statements)
        if error is None or _sqlstate(error) != OBJECT_IN_USE:
            return error
        self.run("SET CONSTRAINTS ALL IMMEDIATE")
        return self._tried(statements)

    def _tried(self, statements: Sequence[str]) -> DBAPIError | None:
        self.run("SAVEPOINT pgtasks_trigger")
        error = None
        try:
            for statement in statements:
                self.run(statement)
        except DBAPIError as exc:
            error = exc
            self.run("ROLLBACK TO SAVEPOINT pgtasks_trigger")
        self.run("RELEASE SAVEPOINT pgtasks_trigger")
        return error


def _sqlstate(error: DBAPIError) -> str:
    names = ("pgcode", "sqlstate")  # of psycopg2, of psycopg and asyncpg
    return next((code for name in names if (code := getattr(error.orig, name, ""))), "")


def _words(error: DBAPIError | None) -> str:
    return str(error.orig).strip().partition("\n")[0] if error else ""


def literal(text: str) -> str:
    """Return a string constant, whatever standard_conforming_strings says."""
    tag = "$pgtasks$"
    while (text + tag).index(tag) < len(text):  # the text may end with the beginning of a tag
        tag = f"{tag[:-1]}_$"
    return f"{tag}{text}{tag}"


def resolved(session: Session, tables: Sequence[str]) -> list[int | None]:
    """Return the OID of each table as the session finds it, None if there is none."""
    names = ", ".join(
        f"pg_catalog.to_regclass({literal(table)})::pg_catalog.oid::pg_catalog.int8"
        for table in tables
    )
    return list(session.rows(f"SELECT {names}")[0]) if tables else []


def with_triggers(session: Session, names: Collection[str]) -> set[str]:
    """Return the tables that have triggers of these names."""
    texts = ", ".join(map(literal, names))
    with session.pinned():
        rows = session.rows(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_trigger t"
            " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE t.tgname IN ({texts}) AND NOT t.tgisinternal"
        )
    return {str(table) for (table,) in rows}


@dataclass(frozen=True)
class Detached:
    """A trigger as it was; `unlike` are partitions in which it is enabled otherwise."""

    name: str
    table: int
    shown: str  # the table's name at that time, in SQL
    definition: str
    enabled: str
    comment: str | None
    unlike: Sequence[str]

    @classmethod
    def on(cls, session: Session, tables: Sequence[int], *, deletes: bool) -> list[Detached]:
        """Return the triggers that a statement on the tables may fire or must not meet."""
        query = _TRIGGERS.replace("{tables}", ", ".join(map(str, tables)))
        with session.pinned():
            rows = session.rows(query.replace("{deletes}", str(deletes).lower()))
        return [cls(*row) for row in rows]

    def drop(self, session: Session) -> bool:
        """Drop the trigger; return False if the role does not own its table."""
        error = session.tried(f"DROP TRIGGER {identifier(self.name)} ON {self.shown}")
        if error is not None and _sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise error
        return error is None

    def give_back(self, session: Session, file: Trigger | None) -> str:
        """Create the trigger again, as it was or else as a file says; return why it failed.

        It keeps its state and comment either way, and is left alone if its table is gone, or if
        the migration has created it.
        """
        table = self._table_now(session)
        if not table:
            return ""
        fault = f"table {self.shown} is {table} now"
        if table == self.shown:
            fault = _words(session.tried(self.definition, *self._rest(session, table)))
        if not fault or file is None:
            return fault
        # its fingerprint is of another definition
        rest = replace(self, comment=fingerprint.without(self.comment or "") or None)
        failed = _words(session.tried(file.definition, *rest._rest(session, table)))
        if not failed:
            report.say(f"trigger {self.name} on {table} is as its file says now: {fault}")
        return failed

    def _table_now(self, session: Session) -> str:
        """Return the name of the table, empty if it is gone or has such a trigger."""
        with session.pinned():
            rows = session.rows(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
                f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {self.table}"
                " AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid"
                f" AND t.tgname = {literal(self.name)})"
            )
        return str(rows[0][0]) if rows else ""

    def _rest(self, session: Session, table: str) -> Iterator[str]:
        """Yield the statements that restore state and comment."""
        yield from self._state(self.enabled, self.name, table)
        for each in self.unlike:
            partition = _relation(session, int(each[1:]))
            state = {**_STATES, "O": "ENABLE"}[each[0]]
            if partition:
                yield f"ALTER TABLE ONLY {partition} {state} TRIGGER {identifier(self.name)}"
        if self.comment is not None:
            yield (
                f"COMMENT ON TRIGGER {identifier(self.name)} ON {table} IS {literal(self.comment)}"
            )

    @staticmethod
    def _state(enabled: str, name: str, table: str) -> Iterator[str]:
        if enabled in _STATES:
            yield f"ALTER TABLE {table} {_STATES[enabled]} TRIGGER {identifier(name)}"


def _relation(session: Session, oid: int) -> str:
    with session.pinned():
        rows = session.rows(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
            f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}"
        )
    return str(rows[0][0]) if rows else ""
