"""Run a project's env.py against one target, and against no other database.

An env.py may take its URL from anywhere: alembic.ini, a variable, an application's settings, its
own text. It gets the target in every way that is in use: as a connection in
`config.attributes["connection"]`, as `sqlalchemy.url`, as DATABASE_URL and as PGTASKS_ENV. Every
connection that SQLAlchemy opens meanwhile is checked before it is used, and the connection that
env.py gives to Alembic is checked again before Alembic uses it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, pool

from pgtasks import report
from pgtasks.errors import Failed, Refused
from pgtasks.host import password
from pgtasks.schema.migrate import application, foreign
from pgtasks.schema.migrate import scripts as where
from pgtasks.schema.migrate.errors import Translation
from pgtasks.schema.migrate.ledger import LOCK_TIMEOUT, Ledger, Milliseconds
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server import connection, interrupt, versiontable
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target

_WHERE_AM_I = (
    "SELECT pg_catalog.current_database(), (SELECT system_identifier::pg_catalog.text"
    " FROM pg_catalog.pg_control_system()), session_user,"
    " coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), 'socket'),"
    " pg_catalog.current_setting('port'), pg_catalog.pg_backend_pid()"
)

Work = Callable[[Any, MigrationContext], Iterable[Any]]


class EnvPy:
    """Run a project's env.py against one target.

    `read_only` makes every session refuse to write, `lock_timeout` is that of every session. The
    output of env.py goes to stderr. `pids` are the backends of the sessions, also of closed ones.
    """

    def __init__(
        self,
        scripts: Scripts,
        target: Target,
        identity: Identity,
        *,
        read_only: bool = False,
        lock_timeout: Milliseconds = LOCK_TIMEOUT,
    ) -> None:
        self.scripts, self.target, self.identity = scripts, target, identity
        self.read_only = read_only
        self.translation = Translation(scripts, target)
        self.lock_timeout = lock_timeout
        self.ledger = Ledger(lock_timeout)
        self.pids: list[int] = []
        self._warned: set[str] = set()

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[Config, ScriptDirectory]]:
        """Set folder, variables, listeners and a connection for the length of a block."""
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(password.passfile(self.target))
            stack.enter_context(_surroundings(self.scripts, self._variables(path)))
            stack.enter_context(self.translation.applied())
            config = where.config(self.scripts, self.target)
            directory = ScriptDirectory.from_config(config)
            stack.enter_context(self._listening())
            stack.enter_context(self.ledger.kept())
            config.attributes["connection"] = stack.enter_context(self.connected())
            stack.enter_context(application.entered(self.scripts, directory))
            yield config, directory

    def _variables(self, passfile: str) -> dict[str, str]:
        variables = {
            "DATABASE_URL": where.variable(self.scripts, self.target),
            "PGTASKS_ENV": self.target.environment,
        }
        return {**variables, "PGPASSFILE": passfile} if passfile else variables

    @contextlib.contextmanager
    def run(
        self, config: Config, directory: ScriptDirectory, work: Work, **options: Any
    ) -> Iterator[EnvironmentContext]:
        """Run env.py once, with `work` as its migrations; Alembic's context lasts for the block."""
        called: list[bool] = []

        def checked_work(heads: Any, context: MigrationContext) -> Iterable[Any]:
            called.append(True)
            return work(heads, context)

        context = EnvironmentContext(config, directory, fn=checked_work, **options)
        # `from alembic import context` is bound to this object's attributes when it is entered
        context.configure = self._checked_configure(context.configure)  # type: ignore[method-assign]
        with context:
            directory.run_env()
            if self.translation.fault is not None:
                raise self.translation.fault  # env.py caught the exception and continued
            if not called:
                shown = self.scripts.shown(directory.env_py_location)
                raise Failed(f"{shown} ended without running migrations, nothing was done")
            yield context

    def _checked_configure(self, configure: Callable[..., None]) -> Callable[..., None]:
        def checked(connection: Connection | None = None, *args: Any, **options: Any) -> None:
            table = options.get("version_table", versiontable.USUAL)
            self._check_given(connection, table, options.get("version_table_schema"))
            if self.scripts.models and options.get("target_metadata") is None:
                options["target_metadata"] = application.named(self.scripts.models, "models")
            configure(connection, *args, **options)

        return checked

    def _check_given(self, given: Connection | None, table: str, schema: str | None) -> None:
        if given is None:
            self._refuse("env.py gives Alembic no connection")
            return
        if given.dialect.name != "postgresql":
            self._refuse(f"env.py migrates a {given.dialect.name} database, expected {self.target}")
        began = given.in_transaction()
        row = given.exec_driver_sql(_WHERE_AM_I).one()
        objection = foreign.objection(given, table, schema)
        if not began:
            given.rollback()  # else Alembic would treat the transaction as the caller's
        self._check(tuple(row))
        if objection:
            self._refuse(objection)

    def _check(self, row: tuple[Any, ...]) -> None:
        database, system, user, address, port, pid = row
        self.pids.append(pid)
        if (database, system) != (self.identity.database, self.identity.system):
            self._refuse(
                f"env.py connects to {database!r} on server {system} ({user}@{address}:{port}),"
                f" the target is {self.target} on server {self.identity.system}:"
                " let it use config.attributes['connection'], sqlalchemy.url or DATABASE_URL"
            )
        if user != self.target.user and user not in self._warned:
            self._warned.add(user)
            report.say(
                f"warning: env.py connects as {user!r}, the environment says {self.target.user!r}"
            )

    def _refuse(self, message: str) -> None:
        self.translation.fault = Refused(f"{message}; nothing was migrated")
        raise self.translation.fault

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Check the database of each new connection of SQLAlchemy, whatever engine opened it."""
        entries: list[pool.ConnectionPoolEntry] = []
        connections: list[Any] = []

        def on_connect(opened: Any, entry: pool.ConnectionPoolEntry) -> None:
            entries.append(entry)
            connections.append(opened)
            cursor = opened.cursor()
            try:
                cursor.execute(_WHERE_AM_I)
                row = cursor.fetchone()
            except Exception:  # not PostgreSQL: an application's cache, for example
                opened.rollback()
                return
            self._check(tuple(row))
            cursor.execute(f"SET lock_timeout = {self.lock_timeout:d}")
            if self.read_only:
                cursor.execute("SET default_transaction_read_only = on")
            cursor.close()
            opened.commit()

        event.listen(pool.Pool, "connect", on_connect)
        try:
            with interrupt.cancelling(connections):
                yield
        finally:
            event.remove(pool.Pool, "connect", on_connect)
            for entry in entries:
                # an application's pool keeps its connections, and would give a read-only one to
                # the next run of env.py
                entry.invalidate()

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect to the target for the length of a block."""

        def connect() -> Any:
            made = connection.connect(self.target, purpose="migrate", own_path=True)
            made.autocommit = False
            return made

        engine = create_engine("postgresql+psycopg2://", creator=connect, poolclass=pool.NullPool)
        with engine.connect() as made:
            yield made


@contextlib.contextmanager
def bare(scripts: Scripts) -> Iterator[tuple[Config, ScriptDirectory]]:
    """Set folder and variables for work that runs no env.py and opens no connection."""
    with _surroundings(scripts, {}), Translation(scripts).applied():
        config = where.config(scripts)
        yield config, ScriptDirectory.from_config(config)


@contextlib.contextmanager
def _surroundings(scripts: Scripts, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a block with the project's folder, some variables, and stdout sent to stderr."""
    before, folder, path = dict(os.environ), Path.cwd(), list(sys.path)
    os.environ.update(variables)
    os.chdir(scripts.root)  # relative paths in alembic.ini are relative to where `alembic` runs
    sys.path.insert(0, str(scripts.root))
    logging.disable(logging.INFO)  # also if env.py configures logging
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(logging.NOTSET)
        sys.path[:] = path
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
