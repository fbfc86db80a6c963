"""What is attached to a database itself, not to its content, and stays with it when it is renamed.

Prepared transactions, replication slots and subscriptions know their database by its OID: no dump
and no swap carries them over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgtasks import report
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Slot:
    """A logical replication slot; `pid` is the backend that reads it, None where nobody does."""

    name: str
    pid: int | None = None


@dataclass(frozen=True)
class Subscription:
    """A subscription; `slot` is its slot on the publisher, empty where it has none."""

    name: str
    enabled: bool
    slot: str


@dataclass(frozen=True)
class Attached:
    """All that is attached to one database; of prepared transactions their identifiers."""

    prepared: tuple[str, ...] = ()
    slots: tuple[Slot, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()


def read(conn: Connection, database: str) -> Attached:
    """Return what is attached to a database; `conn` is in any database of its server."""
    prepared = connection.rows(
        conn, "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1", (database,)
    )
    slots = connection.rows(
        conn,
        "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s ORDER BY 1",
        (database,),
    )
    subscriptions = connection.rows(
        conn,
        # each column by its name: subconninfo is not for everybody
        "SELECT s.subname, s.subenabled, coalesce(s.subslotname, '') FROM pg_subscription s"
        " JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1",
        (database,),
    )
    return Attached(
        tuple(row[0] for row in prepared),
        tuple(Slot(*row) for row in slots),
        tuple(Subscription(*row) for row in subscriptions),
    )


def keep_from_putting_away(
    conn: Connection, target: Target, *, leave_behind: bool = False
) -> Iterator[str]:
    """Yield one line for each thing that would go on in a target's database when it is put away.

    `conn` is in any database of the server. With `leave_behind` slots are left there. A
    subscription that is disabled does nothing there, and is no obstacle.
    """
    name, found = target.database, read(conn, target.database)
    if found.prepared:
        yield _prepared(name, found)
    if found.slots and not leave_behind:
        names = ", ".join(slot.name for slot in found.slots)
        yield (
            f"replication slots of {name!r} ({names}) would stay with the database that is put "
            "away: drop them, or go without with --leave-behind"
        )
    for subscription in found.subscriptions:
        if subscription.enabled:
            yield (
                f"subscription {subscription.name!r} of {name!r} would go on in the database that "
                f"is put away: in {name!r}, ALTER SUBSCRIPTION {quoted(subscription.name)} DISABLE;"
            )


def keep_from_dropping(conn: Connection, database: str) -> Iterator[str]:
    """Yield one line for each thing without whose end PostgreSQL drops no database."""
    found = read(conn, database)
    if found.prepared:
        yield _prepared(database, found)
    for slot in found.slots:
        if slot.pid is not None:
            yield f"replication slot {slot.name!r} is read by backend {slot.pid}: end who reads it"
    for subscription in found.subscriptions:
        yield f"subscription {subscription.name!r}: in {database!r}, {_ending(subscription)}"


def _prepared(name: str, found: Attached) -> str:
    number = report.plural(len(found.prepared), "prepared transaction")
    return (
        f"{number} in {name!r} ({', '.join(map(repr, found.prepared))}): finish with "
        "COMMIT PREPARED or ROLLBACK PREPARED there"
    )


def _ending(subscription: Subscription) -> str:
    drop = f"DROP SUBSCRIPTION {quoted(subscription.name)};"
    if not subscription.slot:
        return drop
    detached = " ".join(statements(subscription))
    return (
        f"{drop} which drops slot {subscription.slot!r} on the publisher too "
        f"(to leave it, or where the publisher is gone: {detached})"
    )


def statements(subscription: Subscription) -> tuple[str, ...]:
    """Return what drops a subscription, in its database, and lets the publisher's slot be."""
    name = quoted(subscription.name)
    detach = (
        f"ALTER SUBSCRIPTION {name} DISABLE;",
        f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE);",
    )
    return (*(detach if subscription.slot else ()), f"DROP SUBSCRIPTION {name};")
