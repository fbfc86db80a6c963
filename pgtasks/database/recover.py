"""Find and clean up what interrupted runs left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from pgtasks.database import drop, kept, loader, side, swap
from pgtasks.database.side import Side
from pgtasks.errors import Failed, Unreachable
from pgtasks.report import typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.identity import comment_and_stamp, identify
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Leftovers:
    """The side databases of a target, and the state of the target itself.

    `clones` are not cleaned up, `broken` are side databases that an interrupted DROP left, `alone`
    those that are not ours.
    """

    half_built: tuple[Side, ...]
    kept: tuple[Side, ...]
    broken: tuple[Side, ...]
    alone: tuple[Side, ...]
    missing: bool
    closed: bool
    invalid: bool
    clones: tuple[Side, ...] = ()


def look(conn: Connection, target: Target) -> Leftovers:
    """Read the state from the maintenance database, without changing anything."""
    sides = side.find(conn, target)
    ours = [each for each in sides if not each.alone]
    seen = connection.row(
        conn,
        "SELECT datallowconn, datconnlimit = %s FROM pg_database WHERE datname = %s",
        (side.INVALID, target.database),
        into=tuple[bool, bool],
    )
    is_open, invalid = seen or (True, False)
    return Leftovers(
        half_built=tuple(each for each in ours if each.role == "new" and not each.invalid),
        kept=tuple(each for each in ours if each.role == "old" and not each.invalid),
        broken=tuple(each for each in ours if each.invalid),
        alone=tuple(each for each in sides if each.alone),
        missing=seen is None,
        closed=not is_open and not invalid,
        invalid=invalid,
        clones=tuple(each for each in ours if each.role == "clone" and not each.invalid),
    )


def heal(lock: Lock) -> list[str]:
    """Drop what `sweep` drops, open a closed target, and return what was done."""
    conn, target = lock.connection, lock.target
    done = sweep(lock)
    if look(conn, target).closed:
        done.append(_opened(conn, target))
    return done


def sweep(lock: Lock) -> list[str]:
    """Drop incomplete and broken side databases, and return what was done.

    The caller holds the lock, so that no incomplete side database belongs to a running process. An
    error of one drop is reported, and does not stop the others.
    """
    conn, target = lock.connection, lock.target
    leftovers = look(conn, target)
    done = []
    for half in leftovers.half_built:
        if half.stamp is None and not (half.begun or _is_empty(target, half)):
            done.append(left_alone(half, "no stamp says that a run of ours made it"))
            continue
        done += _dropped(lock, half, "which an interrupted run left half built")
    for broken in leftovers.broken:
        done += _dropped(lock, broken, "which an interrupted DROP DATABASE left invalid")
    done += [left_alone(other, other.alone) for other in leftovers.alone]
    return [*done, *loader.heal(conn, target.database)]


def left_alone(other: Side, why: str) -> str:
    """Return the line for a database that is not ours, or may not be."""
    return f"left {other.name!r} alone: {why}"


def _dropped(lock: Lock, side: Side, why: str) -> list[str]:
    try:
        lines = drop.drop(lock.connection, lock.target, side.name)
    except Failed as exc:
        return [f"left {side.name!r}, {why}: {exc.message}"]
    return [f"dropped {side.name!r}, {why}", *lines]


def _is_empty(target: Target, half: Side) -> bool:
    """Return whether a database is empty."""
    try:
        with connection.session(target.at(half.name), read_only=True, purpose="recover") as conn:
            return identify(conn).empty
    except Unreachable:
        return False  # it refuses connections, which ours do only once they are kept


def _opened(conn: Connection, target: Target) -> str:
    _, its_stamp = comment_and_stamp(conn, target.database)
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(
        sql.Identifier(target.database)
    )
    if its_stamp is None or its_stamp.database != target.database:
        way = statement.as_string(conn)
        return f"left {target.database!r} closed to connections: it has no stamp of ours, {way}"
    connection.execute(conn, statement)
    return f"opened {target.database!r}, which refused connections"


def what_invalid_needs(leftovers: Leftovers, database: str) -> str:
    """Return the line for an invalid target, with the tasks to use."""
    undo = f", {typed.task('db.undo')} brings the newest kept one back" if leftovers.kept else ""
    return (
        f"{database!r} is invalid: an interrupted DROP DATABASE left it without its content. "
        f"{typed.task('db.drop')} drops the rest, {typed.task('db.restore')} replaces it{undo}"
    )


@dataclass(frozen=True)
class Recovered:
    """The result of a recover, and the databases still kept for undo."""

    done: tuple[str, ...]
    kept: tuple[Side, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [*(self.done or ("nothing to heal",)), *kept.lines(self.kept)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"done": list(self.done), "kept": [side.name for side in self.kept]}


def recover(lock: Lock) -> Recovered:
    """Clean up, and bring back a target that does not exist.

    The newest kept database then gets the target's name.
    """
    conn, target = lock.connection, lock.target
    done = heal(lock)
    leftovers = look(conn, target)
    if leftovers.invalid:
        done.append(what_invalid_needs(leftovers, target.database))
    if leftovers.missing and leftovers.kept:
        newest = leftovers.kept[-1]
        run = side.new_run_id(conn, target)
        swap.swap_back(lock, target, newest, run, replaces=False)
        done.append(f"gave {newest.name!r} the name {target.database!r} back, which was gone")
    return Recovered(tuple(done), look(conn, target).kept)
