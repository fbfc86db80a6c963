"""A hot standby as the source of a backup: replay may end what reads there."""

from __future__ import annotations

from pgtasks.errors import Failed, PgtasksError
from pgtasks.report import plural
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target

_SHOWN = 5  # tables that a warning names


def conflicts(conn: Connection) -> int | None:
    """Return how often replay has ended what read this database, None on a primary."""
    value = connection.value(
        conn,
        "SELECT confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock"
        " FROM pg_stat_database_conflicts"
        " WHERE datname = current_database() AND pg_is_in_recovery()",
    )
    return None if value is None else int(value)


def unlogged(conn: Connection) -> tuple[str, ...]:
    """Return the tables that are empty here and may not be so on the primary; none on a primary."""
    names = connection.rows(
        conn,
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'"
        " AND pg_is_in_recovery() ORDER BY 1",
        into=str,
    )
    return tuple(names)


def left_out(tables: tuple[str, ...]) -> list[str]:
    """Return the warning that the rows of unlogged tables are not in the backup, if there are."""
    if not tables:
        return []
    more = f" and {len(tables) - _SHOWN} more" if len(tables) > _SHOWN else ""
    return [
        f"without the rows of {plural(len(tables), 'unlogged table')}, which a standby does not "
        f"have: {', '.join(tables[:_SHOWN])}{more}"
    ]


def explained(exc: PgtasksError, target: Target, before: int | None) -> PgtasksError:
    """Return the error of a backup that failed, the standby's where replay has ended it.

    The session that is ended hears of a closed connection, if that; the server counts.
    """
    if before is None or not _more(target, before):
        return exc
    return Failed(
        "the standby ended the backup to replay what its primary did: let it wait longer "
        "(max_standby_streaming_delay), or the primary (hot_standby_feedback = on)",
        hint="\n".join(filter(None, [exc.message, exc.hint])),
    )


def _more(target: Target, before: int) -> bool:
    try:
        with connection.session(target, read_only=True, purpose="db.backup") as conn:
            return (conflicts(conn) or 0) > before
    except PgtasksError:
        return False
