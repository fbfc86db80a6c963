"""Read a hot standby, where the replay of WAL may cancel queries."""

from __future__ import annotations

from pgtasks.errors import Failed, PgtasksError
from pgtasks.report import plural
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target

_SHOWN = 5  # number of tables that a warning names


def conflicts(conn: Connection) -> int | None:
    """Return the number of queries that replay cancelled in this database, None on a primary."""
    return connection.row(
        conn,
        "SELECT confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock"
        " FROM pg_stat_database_conflicts"
        " WHERE datname = current_database() AND pg_is_in_recovery()",
        into=int,
    )


def unlogged(conn: Connection) -> tuple[str, ...]:
    """Return the unlogged tables, which are empty on a standby; none on a primary."""
    names = connection.rows(
        conn,
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'"
        " AND pg_is_in_recovery() ORDER BY 1",
        into=str,
    )
    return tuple(names)


def left_out(tables: tuple[str, ...]) -> list[str]:
    """Return the warning that the backup lacks the rows of unlogged tables, if there are any."""
    if not tables:
        return []
    more = f" and {len(tables) - _SHOWN} more" if len(tables) > _SHOWN else ""
    return [
        f"without the rows of {plural(len(tables), 'unlogged table')}, which a standby does not "
        f"have: {', '.join(tables[:_SHOWN])}{more}"
    ]


def explained(
    exc: PgtasksError, target: Target, before: int | None, what: str = "backup"
) -> PgtasksError:
    """Return the error of a failed backup or copy, naming the standby if replay cancelled it.

    The cancelled session may only see a closed connection, so this uses the server's counters.
    """
    if before is None or not _more(target, before):
        return exc
    return Failed(
        f"the standby ended the {what} to replay what its primary did: let it wait longer "
        "(max_standby_streaming_delay), or the primary (hot_standby_feedback = on)",
        hint="\n".join(filter(None, [exc.message, exc.hint])),
    )


def _more(target: Target, before: int) -> bool:
    try:
        with connection.session(target, read_only=True, purpose="db.backup") as conn:
            return (conflicts(conn) or 0) > before
    except PgtasksError:
        return False
