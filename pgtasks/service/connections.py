"""Open the connections of an application, and say what it means that one cannot be opened.

A server that is becoming available is waited for; the database is looked at before it is used.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from pgtasks.errors import BadConfiguration
from pgtasks.report import typed
from pgtasks.service import admission
from pgtasks.service.patience import Patience
from pgtasks.service.statements import LOGGER
from pgtasks.settings.blocks import Pool
from pgtasks.settings.target import Target

_DENIED = "42501"  # insufficient_privilege


class Connections:
    """Opens the connections of an engine; what a failure means is logged once."""

    def __init__(self, target: Target, pool: Pool) -> None:
        self._target, self._pool = target, pool
        self._patience = Patience(pool.patience)
        self._logged: set[str] = set()

    def listen(self, engine: Engine) -> None:
        """Open the connections of an engine from now on."""
        event.listen(engine, "do_connect", self._connect)
        if self._pool.role:
            event.listen(engine, "handle_error", self._denied)

    def _connect(self, dialect: Any, record: Any, args: Any, parameters: Any) -> Any:
        admission.refuse_tests(self._target)
        driver = dialect.loaded_dbapi
        errors = (driver.OperationalError, driver.InterfaceError)  # the latter once it is closed
        try:
            return self._patience.connected(lambda: self._opened(dialect, args, parameters), errors)
        except errors as exc:
            _check_role(str(exc), self._target, self._pool)
            if self._target.embedded:
                way = typed.task("server.start", environment=self._target.environment)
                self._warn_once("the embedded server does not answer", f"{way} starts it")
            raise

    def _opened(self, dialect: Any, args: Any, parameters: Any) -> Any:
        connection = dialect.connect(*args, **parameters)
        if self._pool.check_stamp:
            try:
                admission.check(connection, self._target)
            except BaseException:
                connection.close()
                raise
        return connection

    def _denied(self, context: Any) -> None:
        error = context.original_exception
        if way := way_to_privileges(error, self._target, self._pool):
            self._warn_once(str(error).partition("\n")[0], way)

    def _warn_once(self, failure: str, way: str) -> None:
        if failure not in self._logged:
            self._logged.add(failure)
            LOGGER.warning("%s: %s", failure, way)


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


def sqlstate(error: BaseException | None) -> str:
    """Return the code of a driver's error, empty where it has none."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or ""
