"""Side databases: where new content is built (NAME__new_ID), and what it replaced (NAME__old_ID).

What a run of ours made is told by its stamp and its owner (see `Ownership`), never by its name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pgtasks import report
from pgtasks.database import ownership, properties
from pgtasks.database.ownership import Claim, Ownership
from pgtasks.database.properties import DatabaseFacts
from pgtasks.report.boundaries import reach
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

INVALID = -2  # pg_database.datconnlimit of a database whose DROP was interrupted
_NAME_BYTES = 63  # NAMEDATALEN - 1
_ID = r"[0-9]{12}[0-9a-f]{2}"
_TIME = "%y%m%d%H%M%S"


@dataclass(frozen=True)
class Side:
    """A database with the name of a side database: `role` is new or old, `run` the ID of its run.

    `alone` says why it is none of ours and is left alone, with the way out; it is empty where it is
    ours. `age` are the seconds since its run began, by the server's clock.
    """

    name: str
    role: str
    run: str
    owner: str
    bytes: int | None  # None where this role may not ask
    open: bool  # whether it accepts connections
    invalid: bool  # an interrupted DROP DATABASE left it: it can be dropped, nothing else
    text: str  # its comment without the stamp
    stamp: Stamp | None
    age: float | None = None  # None where the ID is no time
    alone: str = ""

    def __str__(self) -> str:
        facts = [report.size(self.bytes)] if self.bytes is not None else []
        if self.age is not None:
            verb = "put away" if self.role == "old" else "begun"
            facts.append(f"{verb} {report.age(max(self.age, 0))} ago")
        return ", ".join([repr(self.name), *facts])

    def as_json(self) -> dict[str, object]:
        """Return plain data."""
        age = None if self.age is None else round(self.age)
        return {"name": self.name, "bytes": self.bytes, "age_seconds": age}


def new_run_id(conn: Connection, target: Target) -> str:
    """Return an ID that sorts after those of all side databases of ours.

    It is the time in UTC to the second, by the server's clock, and two digits of chance. Where that
    clock went back, or a second sees two runs, it follows the newest that there is.
    """
    now = connection.value(
        conn, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYMMDDHH24MISS')"
    )
    newest = max((found.run for found in find(conn, target) if not found.alone), default="")
    made = f"{now}{secrets.token_hex(1)}"
    return made if made > newest else following(newest)


def following(run: str) -> str:
    """Return the next ID after one."""
    second, chance = run[:-2], int(run[-2:], 16)
    if chance < 0xFF:
        return f"{second}{chance + 1:02x}"
    try:
        return (datetime.strptime(second, _TIME) + timedelta(seconds=1)).strftime(_TIME) + "00"
    except ValueError:  # digits that are no time
        return f"{int(second) + 1:012d}00"


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
    """Return the databases with names of a target's side databases, oldest first.

    Those that are none of ours are among them, and say why. `conn` is in any database there.
    """
    found = connection.rows(
        conn,
        "SELECT datname, pg_get_userbyid(datdba), CASE WHEN datconnlimit <> %s"
        " AND (has_database_privilege(oid, 'CONNECT')"
        "  OR pg_has_role('pg_read_all_stats', 'USAGE')) THEN pg_database_size(oid) END,"
        f" datallowconn, datconnlimit = %s, {stamp.COMMENT},"
        " extract(epoch FROM clock_timestamp())::float8"
        " FROM pg_database WHERE datname ~ %s",
        (INVALID, INVALID, rf"__(new|old)_{_ID}$"),
    )
    sides = [side for row in found if (side := _side(target, *row))]
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
) -> Side | None:
    match = _is_side_of(target.database, name)
    if match is None:
        return None
    text, mark = stamp.split(comment)
    role, run = match[1], match[2]
    return Side(name, role, run, owner, size, is_open, invalid, text, mark, _age(run, now))


def _age(run: str, now: float) -> float | None:
    try:
        return now - datetime.strptime(f"{run[:-2]}+0000", f"{_TIME}%z").timestamp()
    except ValueError:  # digits that are no time
        return None


def _judged(sides: Iterable[Side], whose: Ownership) -> list[Side]:
    """Return the sides, each with why it is none of ours; who owns one of ours may name another."""
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
    conn: Connection, target: Target, facts: DatabaseFacts, mark: Stamp, *, owner: str
) -> str:
    """Create the side database that `mark` describes and return its name."""
    name = side_name(target.database, "new", mark.run)
    statement = properties.create_statement(
        name, facts, template=target.template, owner=owner, server_version=conn.server_version
    )
    connection.execute(conn, statement)
    reach("restore.created")
    connection.execute(conn, stamp.comment_statement(name, facts.comment, mark))
    reach("restore.marked")
    return name
