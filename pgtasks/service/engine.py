"""The engine of an application: its pool, its timeouts, and connections that come back."""

from __future__ import annotations

import functools
import os
import re
import weakref
from collections.abc import Mapping
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine

from pgtasks.errors import BadConfiguration
from pgtasks.service import forks, liveness
from pgtasks.service.address import DRIVERS
from pgtasks.service.connections import Connections, sqlstate
from pgtasks.settings.blocks import Pool
from pgtasks.settings.target import Target

_OWN_CONNECTIONS = ("creator", "pool")  # options of create_engine
# the server ends the connection: shutdown, crash, dropped database, and timeouts of idle sessions
_ENDED = ("57P01", "57P02", "57P04", "57P05", "25P03", "25P04")
_ONLY_READS = "25006"  # read_only_sql_transaction
_POOL = "pgtasks.pool"  # which pool a connection is of, and which process has opened it
# the last one is for what was sent and never acknowledged, of which TCP makes 15 minutes
_KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}


def create(url: URL, target: Target, pool: Pool, options: Mapping[str, Any]) -> Engine:
    """Return an engine that has not connected yet; `options` are those of create_engine."""
    ours: dict[str, Any] = {
        "pool_size": pool.size,
        "max_overflow": pool.overflow,
        "pool_timeout": pool.timeout,
        "pool_recycle": pool.recycle,
        "pool_use_lifo": True,  # so that idle connections grow old
        "hide_parameters": True,  # an error that is logged shows no value
    }
    given = dict(options)
    for name in _OWN_CONNECTIONS if pool.check_stamp else ():
        if name in given:
            raise BadConfiguration(
                f"{name!r} opens connections whose stamp is not looked at: leave it out, or set "
                "check_stamp: false in pool"
            )
    arguments = {**_arguments(url, target, pool), **given.pop("connect_args", {})}
    if "poolclass" in given:
        ours = {name: ours[name] for name in ("pool_recycle", "hide_parameters")}
    engine = _made(url, {**ours, **given, "connect_args": arguments})
    Connections(target, pool).listen(engine)
    event.listen(engine, "checkin", functools.partial(_restore_default, engine.dialect))
    event.listen(engine, "handle_error", _recognize)
    if pool.pre_ping and "pool_pre_ping" not in given:
        liveness.listen(engine)
    _close_disposed(engine)
    _leave_to_parent(engine)
    return engine


def _made(url: URL, options: Mapping[str, Any]) -> Engine:
    try:
        return sqlalchemy.create_engine(url, **options)
    except ImportError as exc:
        driver = url.get_driver_name()
        raise BadConfiguration(
            f"the driver {driver!r} is not installed ({exc}): pip install '{DRIVERS[driver]}'"
        ) from None


def _arguments(url: URL, target: Target, pool: Pool) -> dict[str, str]:
    """Return libpq's parameters that the URL does not have, and `options` of both."""
    name = f"pgtasks.service {target.environment}"
    known = {"application_name": name, "connect_timeout": "5", **_KEEPALIVES}
    arguments = {key: value for key, value in known.items() if key not in url.query}
    given = url.query.get("options", ())
    options = [_role(pool), _timeouts(pool), *([given] if isinstance(given, str) else given)]
    if joined := " ".join(filter(None, options)):
        arguments["options"] = joined
    return arguments


def _role(pool: Pool) -> str:
    """Return libpq's `options` that act as the role; a space in its name ends no option."""
    escaped = re.sub(r"([\s\\])", r"\\\1", pool.role)
    return f"-c role={escaped}" if pool.role else ""


def _timeouts(pool: Pool) -> str:
    """Return libpq's `options`, empty where no timeout is set: poolers refuse the parameter."""
    settings = {
        "statement_timeout": pool.statement_timeout,
        "lock_timeout": pool.lock_timeout,
        "idle_in_transaction_session_timeout": pool.idle_timeout,
    }
    return " ".join(f"-c {name}={value}s" for name, value in settings.items() if value)


def _restore_default(dialect: Any, connection: Any, record: Any) -> None:
    """Begin the next transaction as the server's settings say.

    After a read-only block SQLAlchemy leaves the driver with BEGIN READ WRITE, which would pass by
    `default_transaction_read_only`.
    """
    if connection is not None and dialect.get_readonly(connection) is False:
        dialect.set_readonly(connection, None)


def _recognize(context: Any) -> None:
    """Take an error for a lost connection by its code: psycopg 3 sees the end of it only later.

    A server that was demoted may keep its sessions, while another of the URL's takes the writes.
    """
    code = sqlstate(context.original_exception)
    if code in _ENDED or (code == _ONLY_READS and _wants_to_write(context)):
        context.is_disconnect = True


def _wants_to_write(context: Any) -> bool:
    if context.connection is None:
        return False
    asked_to_read = context.connection.get_execution_options().get("postgresql_readonly")
    url = context.connection.engine.url
    return url.query.get("target_session_attrs") in ("read-write", "primary") and not asked_to_read


def _leave_to_parent(engine: Engine) -> None:
    """Let a forked process open connections of its own, and reach none of its parent's.

    Two would speak on one: a block that the child leaves would roll the parent's work back, or
    commit it. And a session whose client was killed would go on while its child is there.
    """
    connections: weakref.WeakSet[Any] = weakref.WeakSet()

    def opened(connection: Any, record: Any) -> None:
        connections.add(connection)

    def forget(inherited: Engine) -> None:
        forks.cut_off(connection for connection in connections if not connection.closed)
        connections.clear()
        inherited.dispose(close=False)

    event.listen(engine, "connect", opened)
    forks.in_children(engine, forget)


def _close_disposed(engine: Engine) -> None:
    """Close a connection that comes back after its pool was disposed of, which keeps it open."""
    known = weakref.ref(engine)

    def opened(connection: Any, record: Any) -> None:
        pool = getattr(known(), "pool", None)
        record.info[_POOL] = pool and weakref.ref(pool), os.getpid()

    def returned(connection: Any, record: Any) -> None:
        pool, process = record.info.get(_POOL, (None, 0))
        # a connection of the parent's is not to be ended
        if pool and process == os.getpid() and pool() is not getattr(known(), "pool", None):
            record.invalidate()

    event.listen(engine, "connect", opened)
    event.listen(engine, "checkin", returned)
