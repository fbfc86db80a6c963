"""Close a connection whose session was changed, so that the next block does not inherit that.

`SET ROLE`, `SET search_path`, a temporary table or a lock of the session outlive their transaction,
and so does what is set at the driver's own connection, autocommit above all: a block would commit
each statement. The connection is closed as it comes back, which costs the next block the opening of
one: RESET ALL would take away what an application sets as it connects, DISCARD ALL the role of the
pool (SET SESSION AUTHORIZATION resets it, PostgreSQL's manual). What a function does is not seen,
nor what a cursor of the driver's executes.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from pgtasks.service.lasting import changes_session
from pgtasks.service.statements import LOGGER

_CHANGED = "pgtasks.changed"
_DRIVER = "pgtasks.driver"  # how the driver's connection was as the first block got it
_BEGINNING = re.compile(r"\s*([\w.]+(?:\s+[\w.]+)?)")  # without a value
_WAYS = "SET LOCAL, set_config(..., true) and pg_advisory_xact_lock() end with the transaction"


def listen(engine: Engine) -> None:
    """Close the connections of an engine whose session a block changes, as they come back."""
    told = False

    def closes(what: str) -> None:
        nonlocal told
        if not told:
            told = True
            LOGGER.warning("%s: the connection is closed after its block; %s", what, _WAYS)

    def executed(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if changes_session(statement, parameters):
            context.root_connection.info[_CHANGED] = True
            closes(f"{_beginning(statement)} may change its session")

    def executed_alone(cursor: Any, statement: str, context: Any) -> None:
        executed(cursor, statement, None, context)

    def taken(connection: Any, record: Any, proxy: Any) -> None:
        if _DRIVER not in record.info:  # an application may set it as it connects
            record.info[_DRIVER] = _of_driver(engine, connection)

    def returned(connection: Any, record: Any) -> None:
        changed, before = record.info.pop(_CHANGED, False), record.info.get(_DRIVER)
        if before and connection is not None and before != _of_driver(engine, connection):
            changed = True
            closes("autocommit, read-only or the rows were set at the driver's connection")
        if changed:
            record.invalidate()

    event.listen(engine, "do_execute", executed)
    event.listen(engine, "do_executemany", executed)
    event.listen(engine, "do_execute_no_params", executed_alone)
    event.listen(engine, "checkout", taken)
    event.listen(engine, "checkin", returned)


def _of_driver(engine: Engine, connection: Any) -> tuple[Any, ...]:
    """Return what a driver's connection does with all that follows on it."""
    factories = (getattr(connection, name, None) for name in ("row_factory", "cursor_factory"))
    dialect: Any = engine.dialect
    return connection.autocommit, dialect.get_readonly(connection), *factories


def _beginning(statement: str) -> str:
    found = _BEGINNING.match(statement)
    return " ".join(found[1].split()) if found else "a statement"
