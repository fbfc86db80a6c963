"""The engine of an application: its pool, its timeouts, and what happens as it connects."""

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
from pgtasks.report import typed
from pgtasks.service import admission, forks, liveness
from pgtasks.service.address import DRIVERS
from pgtasks.service.patience import Patience
from pgtasks.service.statements import LOGGER
from pgtasks.settings.blocks import Pool
from pgtasks.settings.target import Target

_OWN_CONNECTIONS = ("creator", "pool")  # options of create_engine
# the server ends the connection: shutdown, crash, dropped database, and timeouts of idle sessions
_ENDED = ("57P01", "57P02", "57P04", "57P05", "25P03", "25P04")
_ONLY_READS = "25006"  # read_only_sql_transaction
_DENIED = "42501"  # insufficient_privilege
_POOL = "pgtasks.pool"  # which pool a connection is of, and which process has opened it
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}


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
    _listen(engine, target, pool)
    if pool.pre_ping and "pool_pre_ping" not in given:
        liveness.listen(engine)
    _close_disposed(engine)
    forks.in_children(engine, _forget)
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


def _listen(engine: Engine, target: Target, pool: Pool) -> None:
    patience = Patience(pool.patience)
    said: set[str] = set()

    def opened(dialect: Any, args: Any, parameters: Any) -> Any:
        connection = dialect.connect(*args, **parameters)
        if pool.check_stamp:
            try:
                admission.check(connection, target)
            except BaseException:
                connection.close()
                raise
        return connection

    def connect(dialect: Any, record: Any, args: Any, parameters: Any) -> Any:
        admission.refuse_tests(target)
        driver = dialect.loaded_dbapi
        errors = (driver.OperationalError, driver.InterfaceError)  # the latter once it is closed
        try:
            return patience.connected(lambda: opened(dialect, args, parameters), errors)
        except errors as exc:
            _check_role(str(exc), target, pool)
            if target.embedded and "asleep" not in said:
                said.add("asleep")
                way = typed.task("server.start", environment=target.environment)
                LOGGER.warning("the embedded server does not answer: %s starts it", way)
            raise

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkin", functools.partial(_restore_default, engine.dialect))

    def denied(context: Any) -> None:
        """Say once for each thing where the privileges of the role come from."""
        error = str(context.original_exception).partition("\n")[0]
        if error not in said and (
            way := way_to_privileges(context.original_exception, target, pool)
        ):
            said.add(error)
            LOGGER.warning("%s: %s", error, way)

    event.listen(engine, "handle_error", _recognize)
    if pool.role:
        event.listen(engine, "handle_error", denied)


def _restore_default(dialect: Any, connection: Any, record: Any) -> None:
    """Begin the next transaction as the server's settings say.

    After a read-only block SQLAlchemy leaves the driver with BEGIN READ WRITE, which would pass by
    `default_transaction_read_only`.
    """
    if connection is not None and dialect.get_readonly(connection) is False:
        dialect.set_readonly(connection, None)


def way_to_privileges(error: BaseException | None, target: Target, pool: Pool) -> str:
    """Return what gives the role to act as a privilege that it lacks, empty for other errors.

    Row-level security refuses with the same code.
    """
    if sqlstate(error) != _DENIED or not pool.role or "permission denied for" not in str(error):
        return ""
    return (
        f"role {pool.role!r} (pool.role) lacks a privilege: GRANT it in sql/roles/*.sql, "
        f"{typed.task('setup', environment=target.environment)} runs these files"
    )


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


def sqlstate(error: BaseException | None) -> str:
    """Return the code of a driver's error, empty where it has none."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or ""


def _check_role(error: str, target: Target, pool: Pool) -> None:
    """Raise BadConfiguration where a connection failed because of the role to act as."""
    named = f'role "{pool.role}"'
    if not pool.role or named not in error:
        return
    if "permission denied" in error:
        why = "the user that connects is no member of it: GRANT it to that user"
    elif "does not exist" in error:
        task = typed.task("setup", environment=target.environment)
        way = "CREATE it, and GRANT it to the user that connects"
        if target.embedded:
            way = f"write what it may do (GRANT) into sql/roles/*.sql, and {task} makes it"
        why = f"the server has no such role: {way}"
    else:
        return
    raise BadConfiguration(
        f"environment {target.environment!r}: pool.role: {pool.role!r}: {why}"
    ) from None


def _forget(inherited: Engine) -> None:
    """Let a forked process open connections of its own: two would speak on one."""
    inherited.dispose(close=False)


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
