"""The databases of tests: clones of a template, each for one test."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from pgtasks.database import drop, side
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.service.testing import ours, template
from pgtasks.service.testing.server import TestServer
from pgtasks.service.testing.template import Template
from pgtasks.settings.project import Project, stem
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    import sqlalchemy

_CLASS = 0x7067_7465  # of the advisory lock of a run
_RUN = 7  # hexadecimal digits of a run, which fit into the lock's key
_STRATEGY = 150000  # CREATE DATABASE ... STRATEGY: PostgreSQL 15


class TestDatabase:
    """A database that belongs to one test. Its sessions end when it is dropped."""

    __test__ = False  # of pytest: this is no test

    def __init__(self, target: Target) -> None:
        self.target = target
        self.keep = False  # after the test, to look at

    @property
    def name(self) -> str:
        """Return the name of the database."""
        return self.target.database

    def url(self, driver: str = "") -> str:
        """Return the URL with the password; `driver` is for SQLAlchemy, such as psycopg2."""
        return self.target.url(reveal=True, driver=driver)

    def connect(self) -> psycopg2.extensions.connection:
        """Open a session, in a transaction as psycopg2 does; the caller closes it."""
        return psycopg2.connect(self.url())

    @cached_property
    def engine(self) -> sqlalchemy.Engine:
        """Return the SQLAlchemy engine of this database."""
        import sqlalchemy

        return sqlalchemy.create_engine(self.url("psycopg2"))

    def variables(self) -> dict[str, str]:
        """Return the variables that let the environment of the tests lead here."""
        environment = self.target.environment
        return {"PGTASKS_ENV": environment, f"{stem(environment)}_DATABASE_URL": self.url()}

    def dispose(self) -> None:
        """Close the connections of the engine, if there is one."""
        if "engine" in self.__dict__:
            self.engine.dispose()


class TestDatabases:
    """The databases of one process of a test run.

    The process holds an advisory lock as long as it runs. Databases of a run that does not hold its
    lock are dropped by the next run.
    """

    __test__ = False

    def __init__(self, server: TestServer, project: Project, conn: Connection) -> None:
        self._server, self._project, self._conn = server, project, conn
        self._beginning = template.names_begin(project)
        self._run = secrets.token_hex(4)[:_RUN]
        self._numbers = itertools.count(1)
        self._templates: dict[tuple[tuple[str, ...] | None, str], Template] = {}
        self._unused: list[TestDatabase] = []  # where a drop waits for the disk
        self.kept: list[TestDatabase] = []
        connection.value(conn, "SELECT pg_try_advisory_lock(%s, %s)", (_CLASS, int(self._run, 16)))
        self._quick = connection.value(conn, "SHOW fsync", into=str) == "off"

    @contextmanager
    def database(
        self, *, seeds: Sequence[str] | None = None, scale: str = "small"
    ) -> Iterator[TestDatabase]:
        """Yield a new database, dropped afterwards unless it is to be kept.

        `seeds` are the sets of rows in it; without, those of the environment.
        """
        made = self._made(self._template(None if seeds is None else tuple(seeds), scale))
        try:
            yield made
        finally:
            self._release(made)

    def _template(self, seeds: tuple[str, ...] | None, scale: str) -> Template:
        known = self._templates.get((seeds, scale))
        if known is None:
            known = template.ready(self._server, self._project, seeds=seeds, scale=scale)
            self._templates[seeds, scale] = known
        return known

    def _made(self, origin: Template) -> TestDatabase:
        name = f"{self._beginning}_test_{self._run}_{next(self._numbers)}"
        target = origin.target.at(name)
        connection.execute(self._conn, self._create(name, origin))
        connection.execute(self._conn, ours.marking(self._conn, target))
        return TestDatabase(target)

    def _create(self, name: str, origin: Template) -> sql.Composed:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(origin.name)
        )
        statement += sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(side.BEGUN))
        if self._conn.server_version < _STRATEGY:
            return statement
        # copying files makes the server write and sync all of its dirty pages, with fsync
        return statement + sql.SQL(f" STRATEGY {'file_copy' if self._quick else 'wal_log'}")

    def _release(self, database: TestDatabase) -> None:
        database.dispose()
        if database.keep:
            self.kept.append(database)
        elif self._quick:
            drop.drop_plainly(self._conn, database.name)
        else:
            self._unused.append(database)

    def sweep(self) -> None:
        """Drop the databases that other runs have left."""
        names = connection.rows(
            self._conn,
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1",
            (f"{self._beginning}_test_",),
            into=str,
        )
        runs: dict[str, list[str]] = {}
        for name in names:
            run, _, number = name.removeprefix(f"{self._beginning}_test_").partition("_")
            if len(run) == _RUN and set(run) <= set("0123456789abcdef") and number.isdecimal():
                runs.setdefault(run, []).append(name)
        for run, left in runs.items():
            self._drop_of(run, left)

    def _drop_of(self, run: str, names: list[str]) -> None:
        key = (_CLASS, int(run, 16))
        if run == self._run or not connection.value(
            self._conn, "SELECT pg_try_advisory_lock(%s, %s)", key, into=bool
        ):
            return
        for name in names:
            target = self._server.target.at(name)
            if ours.is_ours(self._conn, target):
                drop.drop_plainly(self._conn, name)
        connection.value(self._conn, "SELECT pg_advisory_unlock(%s, %s)", key)

    def close(self) -> None:
        """Drop what is left to drop."""
        for database in self._unused:
            drop.drop_plainly(self._conn, database.name)


@contextmanager
def serving(server: TestServer, project: Project) -> Iterator[TestDatabases]:
    """Yield what makes databases on a server; those of runs that have ended are dropped before."""
    with connection.session(server.target, purpose="tests") as conn:
        databases = TestDatabases(server, project, conn)
        databases.sweep()
        try:
            yield databases
        finally:
            databases.close()
