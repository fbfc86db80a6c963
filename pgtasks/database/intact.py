"""Find changes that a load made to the properties of databases.

A load runs code of the backup with the rights of the database's owner, who may grant privileges on
the database, alter it and drop it. Extensions do that too: postgis_topology extends the search_path
of its database. Changes of the side database are reverted; changes of the target are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks import report
from pgtasks.database import properties, recover
from pgtasks.database.properties import DatabaseProperties, Setting
from pgtasks.errors import Failed, PgtasksError
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.quoting import identifier


@dataclass(frozen=True)
class DatabaseState:
    """The properties of a database before a load; `open` if it accepts connections."""

    facts: DatabaseProperties
    open: bool


def look(conn: Connection, name: str) -> DatabaseState | None:
    """Return the condition of a database, None if it does not exist."""
    query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
    is_open = connection.row(conn, query, (name,), into=bool)
    return None if is_open is None else DatabaseState(properties.read(conn, name), is_open)


def changes(before: DatabaseState, now: DatabaseState) -> Iterator[str]:
    """Yield a description of each difference."""
    if now.facts.owner != before.facts.owner:
        yield f"owner {now.facts.owner!r}"
    if now.facts.grants != before.facts.grants:
        yield "grants on the database"
    for setting in _changed(now.facts, before.facts):
        yield f"setting {setting.name}"
    if now.facts.template != before.facts.template:
        yield "IS_TEMPLATE"
    if now.open != before.open:
        yield "ALLOW_CONNECTIONS"


def put_back(conn: Connection, before: DatabaseState) -> list[str]:
    """Restore the properties of a database, and return what had changed."""
    facts = before.facts
    now = look(conn, facts.name)
    if now is None:
        return []
    if now.facts.owner != facts.owner:
        _run(conn, "ALTER DATABASE {} OWNER TO {}", facts.name, facts.owner)
    if now.facts.grants != facts.grants:
        for statement in _granted(now.facts, facts):
            connection.execute(conn, statement)
    if now.facts.settings != facts.settings:
        _set(conn, now.facts, facts)
    if now.facts.template and not facts.template:
        _run(conn, "ALTER DATABASE {} IS_TEMPLATE false", facts.name)
    return list(changes(before, now))


def _run(conn: Connection, statement: str, *names: str) -> None:
    connection.execute(conn, sql.SQL(statement).format(*map(sql.Identifier, names)))


def _granted(now: DatabaseProperties, before: DatabaseProperties) -> Iterator[sql.Composed]:
    name, owner = sql.Identifier(before.name), sql.Identifier(before.owner)
    for grantee in sorted({grant.grantee for grant in now.grants or ()} - {before.owner}):
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(
            name, sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        )
    yield sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(name, owner)
    if before.grants is None:
        yield sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(name)
    yield from properties.access_statements(before.name, before)


def _changed(now: DatabaseProperties, before: DatabaseProperties) -> list[Setting]:
    added = [setting for setting in now.settings if setting not in before.settings]
    names = {(setting.name, setting.role) for setting in now.settings}
    lost = [setting for setting in before.settings if (setting.name, setting.role) not in names]
    return added + lost


def _set(conn: Connection, now: DatabaseProperties, before: DatabaseProperties) -> None:
    for role in sorted({setting.role for setting in now.settings}):
        connection.execute(conn, properties.reset_statement(before.name, role))
    for setting in before.settings:
        connection.execute(conn, properties.setting_statement(before.name, setting))


@dataclass(frozen=True)
class StateBefore:
    """The target before a load, by OID too, and the databases kept beside it."""

    target: DatabaseState | None
    oid: int
    kept: frozenset[str]

    @classmethod
    def look(cls, lock: Lock, *, replaces: bool) -> StateBefore:
        """Return the current state, with the target only if it is replaced."""
        conn, name = lock.connection, lock.target.database
        condition = look(conn, name) if replaces else None
        query = "SELECT oid::bigint FROM pg_database WHERE datname = %s"
        return cls(condition, connection.row(conn, query, (name,), into=int) or 0, _kept(lock))

    def gone(self, lock: Lock, say: Callable[[str], None]) -> bool:
        """Report the changes, and return whether the target no longer exists.

        Raises Failed if the load has given it another name: what is swapped in would hide that.
        """
        lines, is_gone = self._changes(lock)
        if is_gone and (now := self._name(lock)):
            name = lock.target.database
            back = f"ALTER DATABASE {identifier(now)} RENAME TO {identifier(name)}"
            raise Failed(f"nothing was swapped in, {back} takes that back")
        for line in lines:
            say(f"warning: {line}")
        return is_gone

    def tell(self, lock: Lock, failure: BaseException) -> None:
        """Report the changes of a failed restore; raise Failed if the target no longer exists.

        Reports nothing if the server cannot be reached.
        """
        try:
            lines, is_gone = self._changes(lock)
        except PgtasksError:
            return
        for line in lines:
            report.say(f"warning: {line}")
        if is_gone:
            why = failure.message if isinstance(failure, PgtasksError) else "interrupted"
            raise Failed(f"{lines[0]}; {why}") from None

    def _changes(self, lock: Lock) -> tuple[list[str], bool]:
        name = lock.target.database
        named = self._name(lock)
        now = look(lock.connection, name) if self.target else None
        is_gone = self.target is not None and now is None
        became = "dropped" if named is None else f"renamed to {named!r}"
        lines = [f"{name!r} was {became} during the load"] if is_gone else []
        same = named == name  # else another has the name now, and the swap refuses to replace it
        if self.target and now and same and (altered := list(changes(self.target, now))):
            lines.append(f"{name!r} was altered during the load: {', '.join(altered)}")
        lost = sorted(self.kept - _kept(lock))
        return lines + [f"{each!r}, kept for undo, was dropped meanwhile" for each in lost], is_gone

    def _name(self, lock: Lock) -> str | None:
        query = "SELECT datname FROM pg_database WHERE oid = %s"
        return connection.row(lock.connection, query, (self.oid,), into=str)


def _kept(lock: Lock) -> frozenset[str]:
    return frozenset(side.name for side in recover.look(lock.connection, lock.target).kept)
