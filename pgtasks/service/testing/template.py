"""Templates: databases built once from the project's files, from which each test gets a clone.

A template is built under another name, and closed and renamed when it is whole: one that a killed
run left half built is dropped by the next. Its comment holds the time when it was last used.

Names prove nothing, and whoever made a template decides which code a test runs: only databases of
the connecting role are used or dropped, and these only with our comment.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg2 import sql

from pgtasks.database import drop, side
from pgtasks.errors import Locked, Refused
from pgtasks.schema import privileges, seed
from pgtasks.schema.setup import Setup
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import COMMENT
from pgtasks.service.testing import fileset, ours
from pgtasks.service.testing.server import TestServer
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_PATIENCE = 600.0  # seconds: another worker builds it
_LONGEST = 24  # characters of the project in the names of databases
_USE = re.compile(r"used [0-9]{1,12}")
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
        # what the files of roles give is in no template that was built without the roles
        lacking = privileges.lacking(privileges.read(project), target)
        facts = (str(conn.server_version), target.user, scale, *lacking)
        name = f"{beginning}_tpl_{fileset.digest(project, target.seeds, *facts)}"
        template = Template(target.at(name))
        if not _is_whole(conn, name):
            with _locked(template.target):
                if not _is_whole(conn, name):
                    _build(conn, project, template.target, scale)
        connection.execute(conn, _use(name))
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
    """Return whether the template is there, raising Refused for one that is not ours."""
    row = connection.row(
        conn,
        "SELECT datistemplate AND NOT datallowconn, pg_get_userbyid(datdba),"
        " datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user),"
        f" coalesce({COMMENT}, '')"
        " FROM pg_database WHERE datname = %s",
        (name,),
        into=tuple[bool, str, bool, str],
    )
    if row is None:
        return False
    whole, owner, mine, comment = row
    if not mine or not (whole and _USE.fullmatch(comment)):
        raise Refused(
            f"database {name!r} of {owner!r} has the name of the template for tests, and was not "
            "made by them: rename or drop it"
        )
    return True


def _build(conn: Connection, project: Project, target: Target, scale: str) -> None:
    building = target.at(f"{target.database}_new")
    name = sql.Identifier(building.database)
    ours.drop(conn, building)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8' CONNECTION LIMIT {}")
    template = sql.Identifier(target.template)
    connection.execute(conn, create.format(name, template, sql.Literal(side.BEGUN)))
    connection.execute(conn, ours.marking(conn, building))
    seeds = None
    if target.seeds:
        seeds = seed.plan(project, target, (), scale=scale, protection="")
    with Lock(building, "tests") as lock:
        Setup(project, building, None, seeds).fill(lock, say=lambda line: None)
    statements = (
        "BEGIN",
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE true").format(name),
        _use(building.database),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, sql.Identifier(target.database)),
        "COMMIT",
    )
    texts = (sql.SQL(each) if isinstance(each, str) else each for each in statements)
    connection.execute(conn, sql.SQL(";").join(texts))


def _use(name: str) -> sql.Composed:
    """Return the statement that notes the time of use."""
    used = sql.Literal(f"used {time.time():.0f}")
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), used)


def _drop_old(conn: Connection, target: Target, beginning: str, name: str) -> None:
    """Drop templates of other files that were not used for an hour, but for the newest ones."""
    rows = connection.rows(
        conn,
        f"SELECT datname, split_part({COMMENT}, ' ', 2)"
        " FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s AND datistemplate"
        " AND datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        f" AND {COMMENT} ~ '^used [0-9]{{1,12}}$' ORDER BY 2 DESC",
        (f"{beginning}_tpl_", name),
        into=tuple[str, str],
    )
    for old, used in rows[_KEPT:]:
        if time.time() - int(used) > _UNUSED:
            drop.drop(conn, target, old)
