"""DROP DATABASE in spite of autovacuum, subscriptions and the template flag."""

from __future__ import annotations

from psycopg2 import sql

from pgtasks import report
from pgtasks.database import attached
from pgtasks.database.attached import Subscription
from pgtasks.errors import Failed
from pgtasks.report import typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target


def drop(conn: Connection, target: Target, name: str) -> list[str]:
    """Drop a side database and its subscriptions; return a line for each slot that stays.

    `conn` is in the maintenance database. It leaves the slot on the publisher alone, because the
    database that replaced this one may use it.
    """
    lines = _drop_subscriptions(conn, target, name)
    if _is(conn, "datistemplate", name):
        connection.execute(conn, _alter(name, "IS_TEMPLATE false"))
    drop_plainly(conn, name)
    return lines


def clear(conn: Connection, target: Target, name: str) -> None:
    """Drop the side database of a failed run; if that fails, leave it to db.recover, and say so."""
    try:
        drop(conn, target, name)
    except Exception as exc:
        why = f": {exc.message}" if isinstance(exc, Failed) else ""
        report.say(f"warning: {name!r} may be left, {typed.task('db.recover')} drops it{why}")


def drop_plainly(conn: Connection, name: str) -> None:
    """Drop a database if it exists, and end its sessions."""
    forced = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    try:
        connection.execute(conn, forced)
    except Failed:
        # FORCE requires the right to end an autovacuum worker, which few roles have. Without FORCE,
        # PostgreSQL ends the worker itself, and waits 5 s for it and for closing sessions.
        if not _only_autovacuum(conn, name):
            raise
        connection.execute(conn, sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _only_autovacuum(conn: Connection, name: str) -> bool:
    """Return whether only sessions without a role are left in a database.

    It ends the sessions that this role may end.
    """
    pids = connection.rows(
        conn,
        # only some roles may see the type of another role's backend; autovacuum has no role
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL",
        (name,),
        into=int,
    )
    for pid in pids:
        try:
            connection.execute(conn, "SELECT pg_terminate_backend(%s)", (pid,))
        except Failed:
            return False
    return True


def _drop_subscriptions(conn: Connection, target: Target, name: str) -> list[str]:
    subscriptions = attached.read(conn, name).subscriptions
    if not subscriptions:
        return []
    closed = not _is(conn, "datallowconn", name)
    if closed:
        connection.execute(conn, _alter(name, "ALLOW_CONNECTIONS true"))
    try:
        with connection.session(target.at(name), purpose="drop") as inside:
            for subscription in subscriptions:
                _drop_subscription(inside, name, subscription)
    except BaseException:
        if closed:
            connection.execute(conn, _alter(name, "ALLOW_CONNECTIONS false"))
        raise
    return [
        f"subscription {subscription.name!r} went with {name!r}; slot {subscription.slot!r} stays "
        "on its publisher: where nothing else uses it, drop it there"
        f" (SELECT pg_drop_replication_slot({sql.Literal(subscription.slot).as_string(conn)}))"
        for subscription in subscriptions
        if subscription.slot
    ]


def _drop_subscription(inside: Connection, name: str, subscription: Subscription) -> None:
    statements = attached.statements(subscription)
    try:
        for statement in statements:
            connection.execute(inside, statement)
    except Failed as exc:
        raise Failed(
            f"{exc.message}: subscription {subscription.name!r} of {name!r} has to go first, "
            f"as a role that may: {' '.join(statements)}"
        ) from None


def _alter(name: str, option: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} WITH {}").format(sql.Identifier(name), sql.SQL(option))


def _is(conn: Connection, flag: str, name: str) -> bool:
    query = sql.SQL("SELECT {} FROM pg_database WHERE datname = %s").format(sql.Identifier(flag))
    return bool(connection.row(conn, query, (name,), into=bool))
