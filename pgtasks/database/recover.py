"""What interrupted runs left behind: found, healed, and said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from pgtasks.database import drop, kept, loader, side, swap
from pgtasks.database.side import Side
from pgtasks.errors import Failed, Unreachable
from pgtasks.report import typed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Leftovers:
    """What stands beside a target, and what state the target itself is in.

    `broken` are side databases that an interrupted DROP left, `alone` those that are none of ours.
    """

    half_built: tuple[Side, ...]
    kept: tuple[Side, ...]
    broken: tuple[Side, ...]
    alone: tuple[Side, ...]
    missing: bool
    closed: bool
    invalid: bool


def look(conn: Connection, target: Target) -> Leftovers:
    """Look from the maintenance database; nothing is changed."""
    sides = side.find(conn, target)
    ours = [found for found in sides if not found.alone]
    row = connection.rows(
        conn,
        "SELECT datallowconn, datconnlimit = %s FROM pg_database WHERE datname = %s",
        (side.INVALID, target.database),
    )
    is_open, invalid = row[0] if row else (True, False)
    return Leftovers(
        half_built=tuple(found for found in ours if found.role == "new" and not found.invalid),
        kept=tuple(found for found in ours if found.role == "old" and not found.invalid),
        broken=tuple(found for found in ours if found.invalid),
        alone=tuple(found for found in sides if found.alone),
        missing=not row,
        closed=not is_open and not invalid,
        invalid=invalid,
    )


def heal(lock: Lock) -> list[str]:
    """Drop half-built and broken side databases and open a closed target; return what was done.

    The lock is held, so that no half-built side database belongs to a living run. What cannot be
    dropped is said, and stops nothing.
    """
    conn, target = lock.connection, lock.target
    found = look(conn, target)
    done = []
    for half in found.half_built:
        if half.stamp is None and not _is_empty(target, half):
            done.append(left_alone(half, "no stamp says that a run of ours made it"))
            continue
        done += _dropped(lock, half, "which an interrupted run left half built")
    for broken in found.broken:
        done += _dropped(lock, broken, "which an interrupted DROP DATABASE left invalid")
    done += [left_alone(other, other.alone) for other in found.alone]
    done += loader.heal(conn, target.database)
    if found.closed:
        done.append(_opened(conn, target))
    return done


def left_alone(other: Side, why: str) -> str:
    """Return the line that names a database which is none of ours, or may be none."""
    return f"left {other.name!r} alone: {why}"


def _dropped(lock: Lock, side: Side, why: str) -> list[str]:
    try:
        said = drop.drop(lock.connection, lock.target, side.name)
    except Failed as exc:
        return [f"left {side.name!r}, {why}: {exc.message}"]
    return [f"dropped {side.name!r}, {why}", *said]


def _is_empty(target: Target, half: Side) -> bool:
    """Return whether a database is empty, as one is that a run had no time to stamp."""
    try:
        with connection.session(target.at(half.name), read_only=True, purpose="recover") as conn:
            return stamp.identify(conn).empty
    except Unreachable:
        return False  # closed to connections: none of ours is before it is kept


def _opened(conn: Connection, target: Target) -> str:
    comment = connection.value(
        conn,
        f"SELECT {stamp.COMMENT} FROM pg_database WHERE datname = %s",
        (target.database,),
    )
    mark = stamp.split(comment)[1]
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(
        sql.Identifier(target.database)
    )
    if mark is None or mark.database != target.database:
        way = statement.as_string(conn)
        return f"left {target.database!r} closed to connections: it has no stamp of ours, {way}"
    connection.execute(conn, statement)
    return f"opened {target.database!r}, which refused connections"


def what_invalid_needs(found: Leftovers, database: str) -> str:
    """Return what an invalid target is, and which tasks end that."""
    undo = f", {typed.task('db.undo')} brings the newest kept one back" if found.kept else ""
    return (
        f"{database!r} is invalid: an interrupted DROP DATABASE left it without its content. "
        f"{typed.task('db.drop')} drops the rest, {typed.task('db.restore')} replaces it{undo}"
    )


@dataclass(frozen=True)
class Recovered:
    """What a recover did, and what is still kept for undo."""

    done: tuple[str, ...]
    kept: tuple[Side, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [*(self.done or ("nothing to heal",)), *kept.lines(self.kept)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"done": list(self.done), "kept": [side.name for side in self.kept]}


def recover(lock: Lock) -> Recovered:
    """Heal, and bring back a target that is gone.

    A target that is gone gets the name of its newest kept database back.
    """
    conn, target = lock.connection, lock.target
    done = heal(lock)
    found = look(conn, target)
    if found.invalid:
        done.append(what_invalid_needs(found, target.database))
    if found.missing and found.kept:
        newest = found.kept[-1]
        run = side.new_run_id(conn, target)
        swap.swap_back(lock, target, newest, run, replaces=False)
        done.append(f"gave {newest.name!r} the name {target.database!r} back, which was gone")
    return Recovered(tuple(done), look(conn, target).kept)
