"""The clinic's database for its tests: migrated, with triggers, owned by an ordinary role."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paths import ROOT
from servers import Cluster

from pgtasks.service.testing import template
from pgtasks.service.testing.server import TestServer
from pgtasks.settings.project import load as load_project

if TYPE_CHECKING:  # each run of any test imports this file
    import sqlalchemy
    from alembic.config import Config

OWNER = "clinic_builder"  # no superuser: whoever owns a database must be able to do all this
# what only the running application fills
UNSEEDED = {"refresh_tokens", "login_throttle", "rate_limits", "security_events"}
_NUMBERS = itertools.count()

# rows and an order-free hash of every table, partitions counted with their parent
CONTENT = """
SELECT format(
    'SELECT %L, count(*), coalesce(sum(hash_record_extended(row(t.*), 0)), 0) FROM public.%I t',
    relname, relname)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY relname
"""


def make_owner(cluster: Cluster) -> None:
    """Create the owner's role where it is not there yet."""
    if not cluster.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", parameters=(OWNER,)):
        cluster.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB")


def engine(cluster: Cluster, database: str) -> sqlalchemy.Engine:
    """Return an engine that logs in as the owner and keeps no connection."""
    import sqlalchemy

    url = sqlalchemy.URL.create(
        "postgresql+psycopg2",
        username=OWNER,
        database=database,
        query={"host": cluster.host, "port": str(cluster.port)},
    )
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)


def alembic(cluster: Cluster, database: str, run: Callable[[Config], None]) -> None:
    """Run one Alembic command on a connection that is handed over."""
    from alembic.config import Config

    with engine(cluster, database).connect() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        run(config)
        connection.commit()


def migrate(cluster: Cluster, database: str) -> None:
    """Bring the schema to its newest revision."""
    from alembic import command

    alembic(cluster, database, lambda config: command.upgrade(config, "head"))


def psql(
    cluster: Cluster, database: str, *args: str | Path, options: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run psql as the owner, whatever its exit code."""
    place = ["-h", cluster.host, "-p", str(cluster.port), "-U", OWNER, "-d", database]
    return subprocess.run(
        [cluster.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *place, *args],
        env={**os.environ, "PGOPTIONS": options},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def load(cluster: Cluster, database: str, seed: str, scale: int = 2, options: str = "") -> None:
    """Load a seed as the seed tasks do."""
    done = psql(
        *(cluster, database, "--single-transaction", "-v", f"scale={scale}"),
        *("-f", ROOT / "sql" / "seeds" / f"{seed}.sql"),
        options=options,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def apply_triggers(cluster: Cluster, database: str) -> None:
    """Run all files of functions and triggers."""
    files = [*ROOT.glob("sql/functions/*.sql"), *ROOT.glob("sql/triggers/*.sql")]
    done = psql(cluster, database, *(f"--file={file}" for file in files))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def content(cluster: Cluster, database: str) -> dict[str, tuple[int, int]]:
    """Return rows and hash of every table."""
    queries = " UNION ALL ".join(text for (text,) in cluster.execute(CONTENT, database))
    return {table: (rows, int(sum)) for table, rows, sum in cluster.execute(queries, database)}


class Templates:
    """What tests clone, one of each kind for a server: with rows (the small seeds) or without."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, tuple[str, ...]], tuple[Cluster, str]] = {}

    def bare(self, cluster: Cluster) -> str:
        """Return the name of a clinic without rows."""
        return self._ready(cluster, ())

    def seeded(self, cluster: Cluster) -> str:
        """Return the name of a clinic with rows."""
        return self._ready(cluster, ("core", "clinic"))

    def content(self, cluster: Cluster) -> dict[str, tuple[int, int]]:
        """Return rows and hash of every table of a clinic with rows."""
        with cloned(cluster, self.seeded(cluster)) as clinic:
            return content(cluster, clinic.name)

    def _ready(self, cluster: Cluster, seeds: tuple[str, ...]) -> str:
        key = (id(cluster), seeds)
        if key not in self._made:
            make_owner(cluster)
            server = TestServer(replace(cluster.target(environment="test"), user=OWNER))
            made = template.ready(server, load_project(ROOT), seeds=seeds, scale="small")
            self._made[key] = (cluster, made.name)
        return self._made[key][1]

    def drop(self) -> None:
        """Leave nothing for tests that look at all databases of a server."""
        for cluster, name in self._made.values():
            cluster.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
            cluster.execute(f"DROP DATABASE {name}")


def clone(cluster: Cluster, template: str, name: str) -> None:
    """Copy a database that nobody is connected to."""
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")


class Clinic:
    """A clone of the template. Every call is a session of its own unless one is given."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def connect(self, user: str = OWNER) -> Any:
        """Connect in autocommit; the caller closes."""
        return self.cluster.connect(self.name, user=user)

    def run(self, statement: str, *parameters: Any, session: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement as the owner, or in a session, and return its rows."""
        if session is None:
            with closing(self.connect()) as own:
                return self.run(statement, *parameters, session=own)
        with session.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description is not None else []

    def value(self, statement: str, *parameters: Any, session: Any = None) -> Any:
        """Return the first column of the first row."""
        return self.run(statement, *parameters, session=session)[0][0]


@contextmanager
def cloned(cluster: Cluster, template: str) -> Iterator[Clinic]:
    """Yield a clone of a template, dropped after use."""
    name = f"clinic_{next(_NUMBERS)}_{os.getpid()}"
    clone(cluster, template, name)
    try:
        yield Clinic(cluster, name)
    finally:
        cluster.drop(name)


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    """Return what makes the databases that the tests of a module clone."""
    made = Templates()
    yield made
    made.drop()


@pytest.fixture
def seeded(cluster: Cluster, templates: Templates) -> Iterator[Clinic]:
    """Return a clinic with the rows of the small seed."""
    with cloned(cluster, templates.seeded(cluster)) as clinic:
        yield clinic
