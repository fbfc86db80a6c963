"""Scratch databases of feature checks: NAME_verify_RUN_a and _b, which no run leaves on purpose.

A run holds an advisory lock with its number as long as it lives: what has a name and the stamp of a
run without it is left over from one that was killed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import replace

from pgtasks.database import drop, recover, side
from pgtasks.errors import Failed, PgtasksError
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import identify, system_identifier
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

PURPOSE = "verify.all"
_CLASS = 0x7067_7665  # of the advisory lock of a run
_DIGITS = 7  # hexadecimal digits of a run, which fit into the lock's key
_NAME = re.compile(rf"_verify_([0-9a-f]{{{_DIGITS}}})_([a-z])$")
_NAME_BYTES = 63  # NAMEDATALEN - 1


def new_run() -> str:
    """Return the number of a run, in hexadecimal digits."""
    return secrets.token_hex(4)[:_DIGITS]


def environment_name(run: str, letter: str) -> str:
    """Return the name of a scratch environment, which is in the stamp of its database."""
    return f"verify-{run}-{letter}"


def database_name(database: str, run: str, letter: str) -> str:
    """Return the name of a scratch database beside another one, at most 63 bytes."""
    suffix = f"_verify_{run}_{letter}"
    return side.shortened(database, _NAME_BYTES - len(suffix)) + suffix


def claim(conn: Connection, run: str) -> None:
    """Hold the lock of a run in a session, as long as that is open."""
    connection.execute(conn, "SET idle_session_timeout = 0")
    connection.value(conn, "SELECT pg_advisory_lock(%s, %s)", (_CLASS, int(run, 16)))


def claimed(conn: Connection, run: str) -> bool:
    """Return whether a run lives: its lock may be held in another maintenance database."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
        " AND classid::bigint = %s AND objid::bigint = %s AND objsubid = 2)"
    )
    return connection.value(conn, query, (_CLASS, int(run, 16)), into=bool)


def left(conn: Connection, known: Target) -> Iterator[Target]:
    """Yield the scratch databases of this role whose run has ended; `known` is on their server."""
    system = system_identifier(conn)
    rows = connection.rows(
        conn,
        f"SELECT datname, {stamp.COMMENT} FROM pg_database"
        " WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        " AND datname ~ %s ORDER BY datname",
        (_NAME.pattern,),
        into=tuple[str, str | None],
    )
    for name, comment in rows:
        match = _NAME.search(name)
        if match is None or claimed(conn, match[1]):
            continue
        environment = environment_name(match[1], match[2])
        target = replace(known, environment=environment, database=name, lineage=(environment,))
        text, mark = stamp.split(comment)
        here = mark and (mark.database, mark.system) == (name, system)
        # a check stamps one as another scratch environment of its run for a while
        ours = mark and here and mark.environment.startswith(environment_name(match[1], ""))
        if ours or (mark is None and not text and _is_empty(target)):
            yield target


def _is_empty(target: Target) -> bool:
    """Return whether a database is empty: a kill between CREATE and the stamp leaves such a one."""
    try:
        with connection.session(target, read_only=True, purpose=PURPOSE) as conn:
            return identify(conn).empty
    except PgtasksError:
        return False


def sweep(known: Target) -> tuple[str, ...]:
    """Drop what killed runs of this role have left on a server, and return what was done."""
    lines = []
    place = known.at(known.maintenance)
    with connection.session(place, read_only=True, purpose=PURPOSE) as conn:
        targets = list(left(conn, known))
    for target in targets:
        try:
            remove(target)
        except PgtasksError as exc:
            lines.append(f"left {target.database!r} of a killed run: {exc.message}")
        else:
            lines.append(f"dropped {target.database!r}, which a killed run has left")
    return tuple(lines)


def remove(target: Target) -> None:
    """Drop a scratch database, if it exists, and all beside it."""
    with Lock(target, PURPOSE) as held:
        conn = held.connection
        recover.sweep(held)
        beside = recover.look(conn, target)
        if rest := (*beside.half_built, *beside.broken):
            raise Failed(f"{rest[0].name!r} beside it cannot be dropped")
        for each in (*beside.kept, *beside.clones):
            drop.drop(conn, target, each.name)
        # last, because its name leads to the others
        drop.drop_plainly(conn, target.database)
