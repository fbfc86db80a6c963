"""What interrupted runs left behind: found, healed, and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from pgtasks import connection, report, side, stamp, swap
from pgtasks.connection import Connection
from pgtasks.errors import Failed
from pgtasks.lock import Lock
from pgtasks.side import Side
from pgtasks.target import Target

if TYPE_CHECKING:
    from pgtasks.backup.depot import Depot


@dataclass(frozen=True)
class Leftovers:
    """What stands beside a target: half-built side databases, kept ones, a closed target."""

    half_built: tuple[Side, ...]
    kept: tuple[Side, ...]
    missing: bool
    closed: bool


def look(conn: Connection, target: Target) -> Leftovers:
    """Look from the maintenance database; nothing is changed."""
    sides = side.find(conn, target)
    row = connection.rows(
        conn, "SELECT datallowconn FROM pg_database WHERE datname = %s", (target.database,)
    )
    return Leftovers(
        half_built=tuple(found for found in sides if found.role == "new"),
        kept=tuple(found for found in sides if found.role == "old"),
        missing=not row,
        closed=bool(row) and not row[0][0],
    )


def heal(lock: Lock) -> list[str]:
    """Drop half-built side databases and open a closed target; return what was done.

    The lock is held, so that no half-built side database belongs to a living run.
    """
    conn, target = lock.connection, lock.target
    found = look(conn, target)
    done = []
    for half in found.half_built:
        if half.stamp is None and not _is_empty(target, half):
            done.append(f"left {half.name!r} alone: no stamp says that a run made it")
            continue
        side.drop(conn, half.name)
        done.append(f"dropped {half.name!r}, which an interrupted run left half built")
    if found.closed and _is_ours(conn, target):
        connection.execute(
            conn,
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(
                sql.Identifier(target.database)
            ),
        )
        done.append(f"opened {target.database!r}, which refused connections")
    return done


def _is_empty(target: Target, half: Side) -> bool:
    """Return whether a database is empty, as one is that a run had no time to stamp."""
    with connection.session(target.at(half.name), read_only=True, purpose="recover") as conn:
        return stamp.identify(conn).empty


def _is_ours(conn: Connection, target: Target) -> bool:
    comment = connection.value(
        conn,
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        (target.database,),
    )
    mark = stamp.split(comment)[1]
    return mark is not None and mark.database == target.database


@dataclass(frozen=True)
class Recovered:
    """What a recover did, and what is still kept for undo."""

    done: tuple[str, ...]
    kept: tuple[Side, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [*(self.done or ("nothing to heal",)), *kept_lines(self.kept)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"done": list(self.done), "kept": [kept.name for kept in self.kept]}


def recover(lock: Lock, backups: Path) -> Recovered:
    """Heal, sweep interrupted backups, and bring back a target that is gone.

    A target that is gone gets the name of its newest kept database back.
    """
    conn, target = lock.connection, lock.target
    done = heal(lock)
    from pgtasks.backup import depot, store

    done += store.sweep(backups)
    done += [
        f"left {path.name!r} alone, a backup whose manifest cannot be read: {why}"
        for path, why in store.unreadable(backups)
    ]
    if there := depot.of(target):
        done += _swept(there)
    found = look(conn, target)
    if found.missing and found.kept:
        newest = found.kept[-1]
        swap.swap_back(lock, target, newest, side.new_run_id(), replaces=False)
        done.append(f"gave {newest.name!r} the name {target.database!r} back, which was gone")
    return Recovered(tuple(done), look(conn, target).kept)


def _swept(there: Depot) -> list[str]:
    """Sweep interrupted backups on a host; a folder that cannot be read is said, no more."""
    try:
        gone = [PurePosixPath(path).name for path in there.sweep()]
    except Failed as exc:
        return [f"warning: {exc.message}"]
    return [f"removed {name!r} on {there.host.name}, an interrupted backup" for name in gone]


def kept_lines(sides: Sequence[Side]) -> list[str]:
    """Return one line for each kept database."""
    return [
        f"kept: {kept.name!r}"
        + (f", {report.size(kept.bytes)}" if kept.bytes is not None else "")
        + ", inv db.undo brings it back, inv db.forget drops it"
        for kept in sides
    ]
