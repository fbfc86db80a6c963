"""Close a connection whose session was changed, so that the next block does not inherit that.

`SET ROLE`, `SET search_path`, a temporary table or a lock of the session outlive their transaction.
The connection is closed as it comes back, which costs the next block the opening of one: RESET ALL
would take away what an application sets as it connects, DISCARD ALL the role of the pool (SET
SESSION AUTHORIZATION resets it, PostgreSQL's manual). What a function or DO does is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from pgtasks.service.control import SKIPPED
from pgtasks.service.statements import LOGGER

_CHANGED = "pgtasks.changed"
_WORDS = (
    r"set\s+(?!local\b|transaction\b|constraints\b)|reset\b|discard\b|listen\b|load\b"
    r"|create\s+(?:global\s+|local\s+)?temp(?:orary)?\b(?!.*\bon\s+commit\s+drop\b)"
)
_BEGINS = re.compile(rf"{SKIPPED}(?:{_WORDS})", re.IGNORECASE | re.DOTALL)
_FOLLOWS = re.compile(rf";{SKIPPED}(?:{_WORDS})", re.IGNORECASE | re.DOTALL)
_LOCKS = re.compile(r"\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(", re.IGNORECASE)
_SETS = re.compile(r"\bset_config\s*\(", re.IGNORECASE)
_FOR_THE_SESSION = re.compile(r",\s*(?:false|'f(?:alse)?')\s*\)", re.IGNORECASE)


def listen(engine: Engine) -> None:
    """Close the connections of an engine whose session a statement changes, as they come back."""
    told = False

    def executed(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        nonlocal told
        if not changes_session(statement, parameters):
            return
        context.root_connection.info[_CHANGED] = True
        if not told:
            told = True
            LOGGER.warning(
                "%s changes its session: the connection is closed after its block; SET LOCAL, "
                "set_config(..., true) and pg_advisory_xact_lock() end with the transaction",
                " ".join(statement.split()[:2]),
            )

    def executed_alone(cursor: Any, statement: str, context: Any) -> None:
        executed(cursor, statement, None, context)

    def returned(connection: Any, record: Any) -> None:
        if record.info.pop(_CHANGED, False):
            record.invalidate()

    event.listen(engine, "do_execute", executed)
    event.listen(engine, "do_executemany", executed)
    event.listen(engine, "do_execute_no_params", executed_alone)
    event.listen(engine, "checkin", returned)


def changes_session(statement: str, parameters: Any = None) -> bool:
    """Return whether a statement changes what outlives its transaction."""
    if _BEGINS.match(statement) or (";" in statement and _FOLLOWS.search(statement)):
        return True
    lowered = statement.lower()
    if "advisory_lock" in lowered and _LOCKS.search(statement):
        return True
    if "set_config" not in lowered or not _SETS.search(statement):
        return False
    return bool(_FOR_THE_SESSION.search(statement)) or any(
        value is False for value in _values(parameters)
    )


def _values(parameters: Any) -> Iterable[Any]:
    """Return the values of a statement's parameters, or of those of many."""
    if isinstance(parameters, dict):
        return parameters.values()
    rows = parameters or ()
    return [value for row in rows for value in (_values(row) if _is_row(row) else [row])]


def _is_row(value: Any) -> bool:
    return isinstance(value, (dict, tuple))
