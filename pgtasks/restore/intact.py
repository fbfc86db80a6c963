"""The side database's own access list and settings: what the load changed of them is put back.

A load runs what the backup's source wrote, with the rights of the database's owner, who may grant
on it and alter its settings. Extensions do so too: postgis_topology adds to its search_path.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg2 import sql

from pgtasks import connection, database
from pgtasks.connection import Connection
from pgtasks.database import DatabaseFacts, Setting


def put_back(conn: Connection, before: DatabaseFacts) -> Iterator[str]:
    """Give a database the owner, grants and settings it had `before`; yield what was not so."""
    now = database.read(conn, before.name)
    if now.owner != before.owner:
        _owned(conn, before)
        yield f"owner {now.owner!r}"
    if now.grants != before.grants:
        for statement in _granted(now, before):
            connection.execute(conn, statement)
        yield "grants on the database"
    for setting in _changed(now, before):
        yield f"setting {setting.name}"
    if now.settings != before.settings:
        _set(conn, now, before)


def _owned(conn: Connection, before: DatabaseFacts) -> None:
    statement = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    connection.execute(
        conn, statement.format(sql.Identifier(before.name), sql.Identifier(before.owner))
    )


def _granted(now: DatabaseFacts, before: DatabaseFacts) -> Iterator[sql.Composed]:
    grantees = {grant.grantee for grant in now.grants or ()} - {before.owner}
    for grantee in sorted(grantees):
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(
            sql.Identifier(before.name), sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        )
    if before.grants is None:
        yield sql.SQL(
            "GRANT ALL ON DATABASE {0} TO {1}; GRANT CONNECT, TEMPORARY ON DATABASE {0} TO PUBLIC"
        ).format(sql.Identifier(before.name), sql.Identifier(before.owner))
    yield from database.access_statements(before.name, before)


def _changed(now: DatabaseFacts, before: DatabaseFacts) -> list[Setting]:
    added = [setting for setting in now.settings if setting not in before.settings]
    names = {(setting.name, setting.role) for setting in now.settings}
    lost = [setting for setting in before.settings if (setting.name, setting.role) not in names]
    return added + lost


def _set(conn: Connection, now: DatabaseFacts, before: DatabaseFacts) -> None:
    for role in sorted({setting.role for setting in now.settings}):
        connection.execute(conn, database.reset_statement(before.name, role))
    for setting in before.settings:
        connection.execute(conn, database.setting_statement(before.name, setting))
