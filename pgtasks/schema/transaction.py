"""The transaction of a migration's connection, as the server and the driver know it."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import STATUS_BEGIN, TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection


def idle(connection: Connection) -> bool:
    """Whether the server has no transaction open; False if the driver does not know."""
    if connection.closed or connection.invalidated:
        return False
    info = getattr(connection.connection.dbapi_connection, "info", None)
    return getattr(info, "transaction_status", None) == TRANSACTION_STATUS_IDLE


def autocommits(connection: Connection) -> bool:
    """Whether each statement is a transaction of its own.

    After a COMMIT that was sent as a statement, psycopg2 begins no transaction until its own
    commit or rollback.
    """
    driver: Any = connection.connection.dbapi_connection
    options = connection.get_execution_options()
    if getattr(driver, "autocommit", False) or options.get("isolation_level") == "AUTOCOMMIT":
        return True
    return idle(connection) and getattr(driver, "status", None) == STATUS_BEGIN
