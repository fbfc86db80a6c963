"""Apply grants and settings to a new side database before its load, which may need them."""

from __future__ import annotations

from dataclasses import replace

from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable
from pgtasks.report import Say
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target


def lay(
    conn: Connection,
    target: Target,
    name: str,
    facts: DatabaseProperties,
    *,
    leave_behind: bool,
    purpose: str,
    say: Say,
) -> None:
    """Apply the grants and settings of `facts` to the side database `name`.

    Raises Refused for one that this role may not apply, or says so with `leave_behind`.
    """
    settings = facts.settings
    libraries = [preload for preload in settings if preload.name.lower() in properties.PRELOADING]
    others = tuple(preload for preload in settings if preload not in libraries)
    for statement in properties.laying_statements(name, replace(facts, settings=others)):
        try:
            connection.execute(conn, statement)
        except Failed as exc:
            _leave(statement.as_string(conn), exc, say, leave_behind=leave_behind)
    for setting in libraries:
        statement = properties.setting_statement(name, setting)
        try:
            connection.execute(conn, statement)
            connection.connect(target.at(name), purpose=purpose).close()
        except (Failed, Unreachable) as exc:
            if isinstance(exc, Unreachable):  # no session can start: the server lacks the library
                reset = properties.reset_statement(name, setting.role, setting.name)
                connection.execute(conn, reset)
            _leave(statement.as_string(conn), exc, say, leave_behind=leave_behind)


def _leave(text: str, fault: PgtasksError, say: Say, *, leave_behind: bool) -> None:
    if not leave_behind:
        raise Refused(
            f"cannot carry over: {text} ({fault.message}): run it as a role that may, "
            "or go without with --leave-behind"
        ) from None
    say(f"left behind: {text} ({fault.message})")
