"""Side databases: where new content is built (NAME__new_ID), and what it replaced (NAME__old_ID).

They are recognised by their stamp, and by their name where a killed run had no time to stamp one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks import connection, database, stamp
from pgtasks.connection import Connection
from pgtasks.database import DatabaseFacts
from pgtasks.stamp import Stamp
from pgtasks.steps import reach
from pgtasks.target import Target

_NAME_BYTES = 63  # NAMEDATALEN - 1
_ID = r"[0-9]{12}[0-9a-f]{2}"


@dataclass(frozen=True)
class Side:
    """A side database there is: `role` is new or old, `run` the ID of the run that made it."""

    name: str
    role: str
    run: str
    bytes: int | None  # None where this role may not ask
    open: bool  # whether it accepts connections
    text: str  # its comment without the stamp
    stamp: Stamp | None


def new_run_id() -> str:
    """Return an ID that sorts by time: UTC to the second, then two digits of chance."""
    return time.strftime("%y%m%d%H%M%S", time.gmtime()) + secrets.token_hex(1)


def side_name(name: str, role: str, run: str) -> str:
    """Return the name of a side database, at most 63 bytes.

    PostgreSQL cuts longer names in silence, and two databases could meet in one: a long name is
    shortened here, with a hash of the whole.
    """
    suffix = f"__{role}_{run}"
    return _stem(name, _NAME_BYTES - len(suffix)) + suffix


def _stem(name: str, room: int) -> str:
    raw = name.encode()
    if len(raw) <= room:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: room - 9].decode(errors="ignore") + "_" + digest


def _is_side_of(name: str, found: str) -> re.Match[str] | None:
    match = re.search(rf"__(new|old)_({_ID})$", found)
    if match and found == side_name(name, match[1], match[2]):
        return match
    return None


def find(conn: Connection, target: Target) -> list[Side]:
    """Return the side databases of a target, oldest first; `conn` is in any database there.

    Those stamped on another server are copies that travelled, and not ours to touch.
    """
    system = stamp.system_identifier(conn)
    found = connection.rows(
        conn,
        "SELECT datname, datallowconn, shobj_description(oid, 'pg_database'),"
        " CASE WHEN has_database_privilege(oid, 'CONNECT')"
        " OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END"
        " FROM pg_database WHERE datname ~ %s",
        (rf"__(new|old)_{_ID}$",),
    )
    sides = [_side(target, system, *row) for row in found]
    return sorted(filter(None, sides), key=lambda side: side.run)


def _side(
    target: Target, system: str, name: str, is_open: bool, comment: str | None, size: int | None
) -> Side | None:
    match = _is_side_of(target.database, name)
    text, mark = stamp.split(comment)
    if match is None or (mark and (mark.system, mark.database) != (system, target.database)):
        return None
    return Side(name, match[1], match[2], size, is_open, text, mark)


def create(
    conn: Connection, target: Target, facts: DatabaseFacts, mark: Stamp, *, owner: str
) -> str:
    """Create the side database that `mark` describes and return its name."""
    name = side_name(target.database, "new", mark.run)
    statement = database.create_statement(
        name, facts, template=target.template, owner=owner, server_version=conn.server_version
    )
    connection.execute(conn, statement)
    reach("restore.created")
    connection.execute(conn, stamp.comment_statement(name, facts.comment, mark))
    reach("restore.marked")
    return name


def drop(conn: Connection, name: str) -> None:
    """Drop a database and end the sessions in it."""
    connection.execute(
        conn, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    )
