"""Side databases: NAME__new_ID is being built, NAME__old_ID kept for undo, NAME__clone_ID a clone.

Stamp and owner say whether one is ours (see `Ownership`), never the name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg2
from psycopg2 import sql

from pgtasks import report
from pgtasks.database import ownership, properties
from pgtasks.database.ownership import Claim, Ownership
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

INVALID = -2  # pg_database.datconnlimit of a database whose DROP was interrupted
# The connection limit of a copy of another database: until it has its stamp, nothing else says that
# it is ours. The swap sets another one.
BEGUN = 0x7067_746B
_NAME_BYTES = 63  # NAMEDATALEN - 1
_ID = r"[0-9]{12}[0-9a-f]{2}"
_TIME = "%y%m%d%H%M%S"
_VERBS = {"new": "begun", "old": "put away", "clone": "taken"}
_ROLES = "|".join(_VERBS)


class TemplateInUse(Failed):
    """The database that a new one is made of has sessions of others."""


@dataclass(frozen=True)
class Side:
    """A database with the name of a side database, which has its role and the ID of its run.

    `role` is new, old or clone. `alone` says why it is not ours and is left alone, with the way
    out; it is empty if it is ours.
    `age` is the number of seconds since its run began, by the server's clock.
    """

    name: str
    role: str
    run: str
    owner: str
    bytes: int | None  # None if this role may not read it
    open: bool  # accepts connections
    invalid: bool  # left by an interrupted DROP DATABASE: it can only be dropped
    text: str  # its comment without the stamp
    stamp: Stamp | None
    age: float | None = None  # None if the ID is not a time
    alone: str = ""
    begun: bool = False  # made by a copy of ours, which may not have stamped it yet

    def __str__(self) -> str:
        facts = [report.size(self.bytes)] if self.bytes is not None else []
        if self.age is not None:
            verb = _VERBS[self.role]
            facts.append(f"{verb} {report.age(max(self.age, 0))} ago")
        return ", ".join([repr(self.name), *facts])

    def as_json(self) -> dict[str, object]:
        """Return plain data."""
        age = None if self.age is None else round(self.age)
        return {"name": self.name, "bytes": self.bytes, "age_seconds": age}


def new_run_id(conn: Connection, target: Target) -> str:
    """Return an ID that sorts after the IDs of all our side databases.

    It is the server's time in UTC, in seconds, and two random digits. If the clock went back, or if
    two runs begin in the same second, it is the successor of the newest ID.
    """
    now = connection.value(
        conn, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYMMDDHH24MISS')"
    )
    newest = max((side.run for side in find(conn, target) if not side.alone), default="")
    made = f"{now}{secrets.token_hex(1)}"
    return made if made > newest else following(newest)


def following(run: str) -> str:
    """Return the successor of an ID."""
    second, chance = run[:-2], int(run[-2:], 16)
    if chance < 0xFF:
        return f"{second}{chance + 1:02x}"
    try:
        return (datetime.strptime(second, _TIME) + timedelta(seconds=1)).strftime(_TIME) + "00"
    except ValueError:  # the digits are not a time
        return f"{int(second) + 1:012d}00"


def side_name(name: str, role: str, run: str) -> str:
    """Return the name of a side database, at most 63 bytes.

    PostgreSQL truncates longer names silently, so that two names could become the same. A long name
    is shortened and gets a hash of the whole name.
    """
    suffix = f"__{role}_{run}"
    return shortened(name, _NAME_BYTES - len(suffix)) + suffix


def shortened(name: str, room: int) -> str:
    """Return a name in so many bytes; a long one ends in a hash of the whole name."""
    raw = name.encode()
    if len(raw) <= room:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: room - 9].decode(errors="ignore") + "_" + digest


def is_side_of(name: str, other: str) -> re.Match[str] | None:
    """Return the match of another name, if it may be that of a side database of `name`."""
    match = re.search(rf"__({_ROLES})_({_ID})$", other)
    if match and other == side_name(name, match[1], match[2]):
        return match
    return None


def find(conn: Connection, target: Target) -> list[Side]:
    """Return the databases with the name of a side database of a target, oldest first.

    They include those that are not ours, with the reason. `conn` may be in any database.
    """
    rows = connection.rows(
        conn,
        "SELECT datname, pg_get_userbyid(datdba), CASE WHEN datconnlimit <> %s"
        " AND (has_database_privilege(oid, 'CONNECT')"
        "  OR pg_has_role('pg_read_all_stats', 'USAGE')) THEN pg_database_size(oid) END,"
        f" datallowconn, datconnlimit = %s, {stamp.COMMENT},"
        " extract(epoch FROM clock_timestamp())::float8, datconnlimit = %s"
        " FROM pg_database WHERE datname ~ %s",
        (INVALID, INVALID, BEGUN, rf"__({_ROLES})_{_ID}$"),
        into=tuple[str, str, int | None, bool, bool, str | None, float, bool],
    )
    sides = [side for row in rows if (side := _side(target, *row))]
    if not sides:
        return []
    judged = _judged(sides, ownership.of(conn, target))
    return sorted(judged, key=lambda side: side.run)


def _side(
    target: Target,
    name: str,
    owner: str,
    size: int | None,
    is_open: bool,
    invalid: bool,
    comment: str | None,
    now: float,
    begun: bool,
) -> Side | None:
    match = is_side_of(target.database, name)
    if match is None:
        return None
    text, its_stamp = stamp.split(comment)
    role, run = match[1], match[2]
    side = Side(name, role, run, owner, size, is_open, invalid, text, its_stamp, _age(run, now))
    return replace(side, begun=begun)


def _age(run: str, now: float) -> float | None:
    try:
        return now - datetime.strptime(f"{run[:-2]}+0000", f"{_TIME}%z").timestamp()
    except ValueError:  # the digits are not a time
        return None


def _judged(sides: Iterable[Side], whose: Ownership) -> list[Side]:
    """Return the side databases, each with the reason if it is not ours."""
    sides, believed = list(sides), whose
    while True:
        judged = [replace(side, alone=believed.objection(_claim(side))) for side in sides]
        named = {side.stamp.kept_owner for side in judged if side.stamp and not side.alone}
        if named <= believed.owners | {""}:
            return judged
        for owner in named - {""}:
            believed = believed.believing(owner)


def _claim(side: Side) -> Claim:
    return Claim(side.name, side.role, side.run, side.owner, side.stamp, side.invalid)


def create(
    conn: Connection,
    target: Target,
    facts: DatabaseProperties,
    mark: Stamp,
    *,
    owner: str,
    copied: str = "",
) -> str:
    """Create the side database that the stamp describes and return its name.

    With `copied` it is the server's own copy of that database. Raises TemplateInUse.
    """
    name = side_name(target.database, "new", mark.run)
    statement = properties.create_statement(
        *(name, facts),
        template=copied or target.template,
        owner=owner,
        server_version=conn.server_version,
        by_file=bool(copied),
    )
    if copied:
        statement += sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(BEGUN))
    try:
        with conn.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.errors.ObjectInUse:
        database = copied or target.template
        raise TemplateInUse(f"database {database!r} has sessions of others") from None
    except psycopg2.Error as exc:
        raise translate(exc) from None
    boundary("restore.created")
    connection.execute(conn, stamp.comment_statement(name, facts.comment, mark))
    boundary("restore.marked")
    return name
