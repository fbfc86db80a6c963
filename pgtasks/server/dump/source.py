"""Check the source database before a backup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgtasks.errors import Failed, Refused
from pgtasks.report import plural
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.dump import layout, standby
from pgtasks.server.identity import system_identifier

_SHOWN = 20  # unreadable tables that the hint names
_SIZE_WAIT = "1s"


@dataclass(frozen=True)
class Source:
    """The database that is backed up, shortly before its snapshot.

    `excluded` are the OIDs that each pattern of --exclude-table-data matches; `sizes` are the bytes
    of tables by OID, if known; `tables` is the number of tables that pg_dump locks, `files` the
    number of files in a directory dump (tables and large objects, counted up to the limit), `locks`
    the size of the server's lock table. For `conflicts` and `unlogged` see `standby`.
    """

    server_version: int
    server: str
    system: str
    encoding: str
    bytes: int
    tables: int
    files: int
    locks: int
    conflicts: int | None
    unlogged: tuple[str, ...]
    excluded: Mapping[str, list[int]]
    sizes: Mapping[int, int]

    @property
    def major(self) -> int:
        """Return the server's major version."""
        return self.server_version // 10000


def look(conn: Connection, exclude_table_data: tuple[str, ...] = ()) -> Source:
    """Read the facts about the source, raising Refused if the dump would fail."""
    _check_readable(conn)
    excluded = catalog.without_data(conn, exclude_table_data)
    for pattern, oids in excluded.items():
        if not oids:
            raise Refused(
                f"--exclude-table-data {pattern!r} matches no table with rows of its own "
                "(of a partitioned table, name the partitions)"
            )
    server, encoding, size = connection.rows(
        conn,
        "SELECT version(), pg_encoding_to_char(encoding), pg_database_size(oid)"
        " FROM pg_database WHERE datname = current_database()",
        into=tuple[str, str, int],
    )[0]
    tables = catalog.number_of_tables(conn)
    return Source(
        server_version=conn.server_version,
        server=server,
        system=system_identifier(conn),
        encoding=encoding,
        bytes=size,
        tables=tables,
        files=tables + _large_objects(conn),
        locks=catalog.lock_room(conn),
        conflicts=standby.conflicts(conn),
        unlogged=standby.unlogged(conn),
        excluded=excluded,
        sizes=_sizes(conn),
    )


def _large_objects(conn: Connection) -> int:
    query = "SELECT count(*) FROM (SELECT FROM pg_largeobject_metadata LIMIT %s) AS counted"
    return connection.value(conn, query, (layout.MOST_FILES,), into=int)


def _check_readable(conn: Connection) -> None:
    """Refuse objects that this role cannot read: pg_dump fails at the first such table."""
    unreadable = catalog.unreadable(conn)
    if not unreadable:
        return
    user = connection.value(conn, "SELECT current_user")
    more = [f"and {len(unreadable) - _SHOWN} more"] if len(unreadable) > _SHOWN else []
    raise Refused(
        f"role {user!r} cannot read all of the database, {plural(len(unreadable), 'object')}: "
        "back up as their owner, or grant it pg_read_all_data (and BYPASSRLS for row security)",
        hint="\n".join(unreadable[:_SHOWN] + more),
    )


def _sizes(conn: Connection) -> dict[int, int]:
    """Return the sizes of tables, nothing if one is locked exclusively: they are estimates."""
    connection.execute(conn, f"SET lock_timeout = '{_SIZE_WAIT}'")
    try:
        return catalog.sizes(conn)
    except Failed:
        return {}
    finally:
        connection.execute(conn, "SET lock_timeout = 0")
