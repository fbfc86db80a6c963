"""Refuse a database that is another environment's, when a connection to it is opened."""

from __future__ import annotations

import os
from typing import Any

from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server import guard, stamp
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target

# the path is set for this transaction alone, so that no function of the application's is called
_QUESTION = (
    "SET LOCAL search_path = pg_catalog, pg_temp; SELECT datname, current_user::text,"
    f" {stamp.COMMENT}, pg_is_in_recovery(), oid::bigint,"
    " (SELECT system_identifier::text FROM pg_control_system())"
    " FROM pg_database WHERE datname = current_database()"
)


class NotAdmitted(Refused):
    """The database is another environment's, or may not be used here."""


_TESTS = "PYTEST_VERSION"  # pytest sets it while it runs, for its children too


def refuse_tests(target: Target) -> None:
    """Raise NotAdmitted within a test that has got to a protected environment."""
    if target.protected and _TESTS in os.environ:
        raise NotAdmitted(
            f"a test asks for the database of environment {target.environment!r}, which is "
            "protected: the fixture pgtasks_database gives the test one of its own"
        )


def check(connection: Any, target: Target) -> None:
    """Raise NotAdmitted if the database of a driver's connection may not be used as `target`.

    A database without a stamp is refused for a protected environment alone.
    """
    agree(identified(connection), target)


def identified(connection: Any) -> Identity:
    """Return the identity of the database of a driver's connection, outside of a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_QUESTION)
        if cursor.description is None:  # psycopg 3 begins with the result of the first statement
            cursor.nextset()
        database, user, comment, standby, oid, system = cursor.fetchone()
    connection.rollback()
    text, its_stamp = stamp.split(comment)
    return Identity(database, system, user, text, its_stamp, False, standby, oid=oid)


def agree(identity: Identity, target: Target) -> None:
    """Raise NotAdmitted if a database may not be used as `target`."""
    evidence = guard.Evidence(
        access=guard.Access.READ,
        environment=target.environment,
        database=identity.database,  # a pooler may have another name for it
        protected=target.protected,
        identity=identity,
        terminal=False,
        lineage=target.lineage,
    )
    try:
        guard.decide(evidence)
    except Refused as exc:
        raise NotAdmitted(exc.message, hint=exc.hint) from None
    if target.protected and identity.stamp is None:
        raise NotAdmitted(
            f"environment {target.environment!r} is protected, and database "
            f"{identity.database!r} has no stamp: {typed.task('env.stamp')} says whose it is"
        )
