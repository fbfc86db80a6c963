"""Templates: databases built once from the project's files, from which each test gets a clone.

A template is built under another name, and closed and renamed when it is whole: one that a killed
run left half built is dropped by the next. Its comment holds the time when it was last used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg2 import sql

from pgtasks.database import drop
from pgtasks.errors import Locked
from pgtasks.schema import seed
from pgtasks.schema.setup import Setup
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.identity import system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp, comment_statement
from pgtasks.service.testing import fileset
from pgtasks.service.testing.server import TestServer
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_PATIENCE = 600.0  # seconds: another worker builds it
_LONGEST = 24  # characters of the project in the names of databases
_KEPT = 2  # templates of other files, for other branches
_UNUSED = 3600.0  # seconds after which others are dropped


@dataclass(frozen=True)
class Template:
    """A template that is whole. `target` has the server, the role and the seeds."""

    target: Target

    @property
    def name(self) -> str:
        """Return the name of its database."""
        return self.target.database


def names_begin(project: Project) -> str:
    """Return what the names of a project's databases for tests begin with."""
    return re.sub(r"[^a-z0-9]+", "_", project.root.name.lower())[:_LONGEST].strip("_") or "project"


def ready(
    server: TestServer, project: Project, *, seeds: tuple[str, ...] | None, scale: str
) -> Template:
    """Return the template for the files of a project, building it if there is none.

    `seeds` are the sets of rows; None means those of the environment. Raises what a setup raises.
    """
    target = server.target if seeds is None else replace(server.target, seeds=seeds)
    beginning = names_begin(project)
    with connection.session(target, purpose="tests") as conn:
        facts = (str(conn.server_version), target.user, scale)
        name = f"{beginning}_tpl_{fileset.digest(project, target.seeds, *facts)}"
        template = Template(target.at(name))
        if not _is_whole(conn, name):
            with _locked(template.target):
                if not _is_whole(conn, name):
                    _build(conn, project, template.target, scale)
        _note_use(conn, name)
        _drop_old(conn, target, beginning, name)
    return template


@contextmanager
def _locked(target: Target) -> Iterator[None]:
    """Hold the lock of a template, waiting for the worker that builds it."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        lock = Lock(target, "tests")
        try:
            lock.__enter__()
            break
        except Locked:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _is_whole(conn: Connection, name: str) -> bool:
    query = "SELECT datistemplate AND NOT datallowconn FROM pg_database WHERE datname = %s"
    return bool(connection.row(conn, query, (name,), into=bool))


def _build(conn: Connection, project: Project, target: Target, scale: str) -> None:
    building = target.at(f"{target.database}_new")
    name = sql.Identifier(building.database)
    drop.drop_plainly(conn, target.database)
    drop.drop_plainly(conn, building.database)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'")
    connection.execute(conn, create.format(name, sql.Identifier(target.template)))
    mark = Stamp(target.environment, building.database, system_identifier(conn))
    connection.execute(conn, comment_statement(building.database, "", mark))
    seeds = None
    if target.seeds:
        seeds = seed.plan(project, target, (), scale=scale, protection="")
    with Lock(building, "tests") as lock:
        Setup(project, building, None, seeds).fill(lock, say=lambda line: None)
    final = sql.Identifier(target.database)
    for statement in (
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE true").format(name),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, final),
    ):
        connection.execute(conn, statement)


def _note_use(conn: Connection, name: str) -> None:
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
    used = sql.Literal(f"used {time.time():.0f}")
    connection.execute(conn, statement.format(sql.Identifier(name), used))


def _drop_old(conn: Connection, target: Target, beginning: str, name: str) -> None:
    """Drop templates of other files that were not used for an hour, but for the newest ones."""
    rows = connection.rows(
        conn,
        "SELECT datname, split_part(shobj_description(oid, 'pg_database'), ' ', 2)"
        " FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s AND datistemplate"
        " AND shobj_description(oid, 'pg_database') ~ '^used [0-9]{1,12}$' ORDER BY 2 DESC",
        (f"{beginning}_tpl_", name),
        into=tuple[str, str],
    )
    for old, used in rows[_KEPT:]:
        if time.time() - int(used) > _UNUSED:
            drop.drop(conn, target, old)
