"""Run the clinic's migrations: on a connection that was handed over, or on a URL.

`config.attributes["connection"]` wins over `sqlalchemy.url`, which wins over `DATABASE_URL`:
what a program says explicitly is never overruled by what happens to lie in the shell.
"""

from __future__ import annotations

import os
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool

from clinic.models import metadata

config = context.config


def database_url() -> str:
    """Return the URL for SQLAlchemy; `postgres://`, which many hosts hand out, counts too."""
    url = config.get_main_option("sqlalchemy.url") or os.environ.get("DATABASE_URL")
    if not url:
        raise CommandError("no database given, set DATABASE_URL or sqlalchemy.url")
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql+psycopg2"
    return scheme + separator + rest


def include_object(
    item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
) -> bool:
    """Leave out the partitions of the audit log: migrations make them, no model stands for one."""
    table = name if type_ == "table" else getattr(getattr(item, "table", None), "name", None)
    return not (table or "").startswith("audit_logs_")


OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "include_object": include_object,
    "compare_type": True,
}


def migrate(connection: Connection) -> None:
    """Run on *connection*; whoever opened it closes it."""
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


def migrate_online() -> None:
    """Run on the connection that was handed over, else on one of our own."""
    given = config.attributes.get("connection")
    if given is not None:
        migrate(given)
        return
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)


def migrate_offline() -> None:
    """Print SQL (`--sql`); this needs no server and so no URL."""
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


# Logging belongs to the program that runs us: only the stock tool asks for this file's.
if config.config_file_name is not None and "connection" not in config.attributes:
    fileConfig(config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    migrate_offline()
else:
    migrate_online()
