"""What belongs to a database by its OID, and stays with it when it is renamed.

Prepared transactions, replication slots and subscriptions refer to their database by its OID. No
dump and no swap moves them.
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
    """A logical replication slot; `pid` is the backend that uses it, None if it is inactive."""

    name: str
    pid: int | None = None


@dataclass(frozen=True)
class Subscription:
    """A subscription; `slot` is its slot on the publisher, empty if it has none."""

    name: str
    enabled: bool
    slot: str


@dataclass(frozen=True)
class Attached:
    """The slots, subscriptions and prepared transactions of one database."""

    prepared: tuple[str, ...] = ()
    slots: tuple[Slot, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()


def read(conn: Connection, database: str) -> Attached:
    """Return the attachments of a database; `conn` may be in any database of the server."""
    prepared = connection.rows(
        conn,
        "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1",
        (database,),
        into=str,
    )
    slots = connection.rows(
        conn,
        "SELECT slot_name AS name, active_pid AS pid FROM pg_replication_slots"
        " WHERE database = %s ORDER BY 1",
        (database,),
        into=Slot,
    )
    subscriptions = connection.rows(
        conn,
        # columns by name, because only superusers may read subconninfo
        "SELECT s.subname AS name, s.subenabled AS enabled, coalesce(s.subslotname, '') AS slot"
        " FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = %s ORDER BY 1",
        (database,),
        into=Subscription,
    )
    return Attached(tuple(prepared), tuple(slots), tuple(subscriptions))


def keep_from_putting_away(
    conn: Connection, target: Target, *, leave_behind: bool = False
) -> Iterator[str]:
    """Yield one line for each attachment that would stay active after the database is replaced.

    `conn` may be in any database of the server. With `leave_behind`, slots may stay. A disabled
    subscription does nothing and is no obstacle.
    """
    name, attachments = target.database, read(conn, target.database)
    if attachments.prepared:
        yield _prepared(name, attachments)
    if attachments.slots and not leave_behind:
        names = ", ".join(slot.name for slot in attachments.slots)
        yield (
            f"replication slots of {name!r} ({names}) would stay with the database that is put "
            "away: drop them, or go without with --leave-behind"
        )
    for subscription in attachments.subscriptions:
        if subscription.enabled:
            yield (
                f"subscription {subscription.name!r} of {name!r} would go on in the database that "
                f"is put away: in {name!r}, ALTER SUBSCRIPTION {quoted(subscription.name)} DISABLE;"
            )


def keep_from_dropping(
    conn: Connection, database: str, *, subscriptions: bool = True
) -> Iterator[str]:
    """Yield one line for each attachment for which PostgreSQL refuses to drop the database.

    Without `subscriptions` they are left out, for one who drops them first.
    """
    attachments = read(conn, database)
    if attachments.prepared:
        yield _prepared(database, attachments)
    for slot in attachments.slots:
        if slot.pid is not None:
            yield f"replication slot {slot.name!r} is read by backend {slot.pid}: end who reads it"
    for subscription in attachments.subscriptions if subscriptions else ():
        yield f"subscription {subscription.name!r}: in {database!r}, {_ending(subscription)}"


def _prepared(name: str, attachments: Attached) -> str:
    number = report.plural(len(attachments.prepared), "prepared transaction")
    return (
        f"{number} in {name!r} ({', '.join(map(repr, attachments.prepared))}): finish with "
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
    """Return the statements that drop a subscription and leave the publisher's slot alone."""
    name = quoted(subscription.name)
    detach = (
        f"ALTER SUBSCRIPTION {name} DISABLE;",
        f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE);",
    )
    return (*(detach if subscription.slot else ()), f"DROP SUBSCRIPTION {name};")
