"""Databases that were restored beside a target, under a name that the user chose.

Their stamp names no environment, so that no task takes one of them for its target.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import system_identifier
from pgtasks.settings.target import Target

_NAME_BYTES = 63  # NAMEDATALEN - 1
_OURS = re.compile(r"__(new|old|clone)_[0-9]{12}[0-9a-f]{2}$")


@dataclass(frozen=True)
class Aside:
    """A database that was restored beside a target."""

    name: str
    origin: str
    bytes: int | None  # None if this role may not read it

    def __str__(self) -> str:
        size = "" if self.bytes is None else f", {report.size(self.bytes)}"
        return f"{self.name!r}{size}, from {self.origin}"

    @property
    def drop(self) -> str:
        """Return the command that drops it."""
        equals = "=" if self.name.startswith("-") else " "
        return typed.task("db.drop", f"--name{equals}{shlex.quote(self.name)}")


def refuse_name(conn: Connection, target: Target, name: str) -> None:
    """Raise Refused for a name that no new database may get."""
    if not name or "\0" in name:
        raise Refused(f"--into {name!r} is no name of a database")
    if (size := len(name.encode("utf-8", "surrogateescape"))) > _NAME_BYTES:
        raise Refused(f"--into {name!r} has {size} bytes, a name has at most {_NAME_BYTES}")
    if _OURS.search(name):
        raise Refused(f"--into {name!r} looks like a database that pgtasks keeps, name another one")
    query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)"
    if name == target.database or connection.value(conn, query, (name,), into=bool):
        raise Refused(
            f"--into {name!r}: a database of that name exists, and is left as it is: name another"
        )


def find(conn: Connection, target: Target) -> Iterator[Aside]:
    """Yield the databases that were restored beside a target; `conn` is in any database."""
    system = system_identifier(conn)
    rows = connection.rows(
        conn,
        f"SELECT datname, {stamp.COMMENT}, CASE WHEN has_database_privilege(oid, 'CONNECT')"
        "  OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END"
        " FROM pg_database WHERE datconnlimit <> -2 ORDER BY datname",
        into=tuple[str, str | None, int | None],
    )
    for name, comment, size in rows:
        its_stamp = stamp.split(comment)[1]
        if its_stamp is None or (its_stamp.system, its_stamp.database) != (system, name):
            continue
        if its_stamp.environment == stamp.beside(target.environment):
            yield Aside(name, its_stamp.origin, size)
