"""The pytest plugin: a database of its own for each test, made of the project's files.

pytest loads this module with every run, so it imports nothing else until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import flask
    import sqlalchemy
    import sqlalchemy.orm

    from pgtasks.service.testing.database import TestDatabase, TestDatabases
    from pgtasks.settings.project import Project

_KEEP = ("failed", "all", "none")
_DATABASE = pytest.StashKey["TestDatabase"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("pgtasks", "databases of tests")
    group.addoption(
        "--pgtasks-keep",
        choices=_KEEP,
        default="failed",
        help="the databases that stay after the run, until the next one (default: failed)",
    )
    group.addoption(
        "--pgtasks-fresh",
        action="store_true",
        help="remove the server in memory first, with its templates",
    )
    parser.addini("pgtasks_root", "folder of the project (default: that of the settings of pytest)")
    parser.addini("pgtasks_env", "environment of the tests (default: test)", default="test")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    line = "pgtasks(seeds=[...], scale='small'): the seed sets in the test's database"
    config.addinivalue_line("markers", line)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove the server in memory if asked to, once for all workers."""
    config = session.config
    if config.getoption("--pgtasks-fresh") and not hasattr(config, "workerinput"):
        from pgtasks.service.testing import server

        server.remove(_project(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the database of a test that failed, and say where it is."""
    result = yield
    database = item.stash.get(_DATABASE, None)
    if database is None or call.when != "call":
        return result
    keep = item.config.getoption("--pgtasks-keep")
    database.keep = keep == "all" or (keep == "failed" and result.failed)
    if database.keep:
        result.sections.append(("database", f"kept until the next run: {database.url()}"))
    return result


@pytest.fixture(scope="session")
def pgtasks_databases(pytestconfig: pytest.Config) -> Iterator[TestDatabases]:
    """Return what makes databases: `with pgtasks_databases.database(seeds=["core"]) as database:`.

    Most tests use `pgtasks_database` instead.
    """
    from pgtasks.service.testing import database, server

    with ExitStack() as stack:
        with _plainly():
            project, environment = _project(pytestconfig), pytestconfig.getini("pgtasks_env")
            running = stack.enter_context(server.serving(project, environment))
            databases = stack.enter_context(database.serving(running, project))
        yield databases
        running.stays = bool(databases.kept)


@pytest.fixture
def pgtasks_database(
    request: pytest.FixtureRequest,
    pgtasks_databases: TestDatabases,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TestDatabase]:
    """Return a database for this test alone: `.url()`, `.connect()`, `.engine`, `.name`.

    It has the schema, the triggers and the seeds of the project. While the test runs, the
    environment of the tests leads to it, for `pgtasks.get_database_url()`, for `inv`, and for
    `pgtasks.service`, also in an application that was imported before.
    """
    from pgtasks.service import default

    marker = request.node.get_closest_marker("pgtasks")
    with ExitStack() as stack:
        with _plainly():
            made = pgtasks_databases.database(**(marker.kwargs if marker else {}))
            database = stack.enter_context(made)
        request.node.stash[_DATABASE] = database
        for name, value in database.variables().items():
            monkeypatch.setenv(name, value)
        stack.enter_context(default.set_aside())
        yield database


@pytest.fixture
def pgtasks_engine(pgtasks_database: TestDatabase) -> sqlalchemy.Engine:
    """Return the SQLAlchemy engine of the test's database."""
    return pgtasks_database.engine


@pytest.fixture(scope="session")
def _pgtasks_shared(pgtasks_databases: TestDatabases) -> Iterator[TestDatabase]:
    with ExitStack() as stack:
        with _plainly():
            database = stack.enter_context(pgtasks_databases.database())
        yield database


@pytest.fixture
def pgtasks_session(_pgtasks_shared: TestDatabase) -> Iterator[sqlalchemy.orm.Session]:
    """Return an ORM session whose work is rolled back, also what the test commits.

    It takes a millisecond where a database takes a tenth of a second. Other sessions do not see its
    rows, and now() stands still.
    """
    from sqlalchemy.orm import Session

    with _pgtasks_shared.engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def pgtasks_environment() -> Iterator[Callable[[str], str]]:
    """Return what chooses an environment for this test: `pgtasks_environment("qa")`.

    Afterwards the process has the one that it had, and its service. A protected one is refused.
    """
    from pgtasks.service.testing import switches

    with switches.environments():
        yield switches.choose


@pytest.fixture
def pgtasks_without_csrf() -> Iterator[Callable[[flask.Flask], flask.Flask]]:
    """Return what lets forms of an application come without a CSRF token, until the test ends.

    Refused where the environment of the process or of the application is protected.
    """
    from pgtasks.service.testing import switches

    with ExitStack() as stack:
        yield lambda app: stack.enter_context(switches.without_csrf(app))


@pytest.fixture
def pgtasks_integration() -> Iterator[None]:
    """Let `pgtasks.service.is_integration_test()` be true; refused where protected."""
    from pgtasks.service.testing import switches

    with ExitStack() as stack:
        with _plainly():
            stack.enter_context(switches.integration())
        yield


@contextmanager
def _plainly() -> Iterator[None]:
    """Fail the test with the line of an error, without a traceback of this library."""
    from pgtasks.errors import PgtasksError

    try:
        yield
    except PgtasksError as exc:
        pytest.fail("\n".join(filter(None, [exc.message, exc.hint])), pytrace=False)


def _project(config: pytest.Config) -> Project:
    import os

    from pgtasks.settings import libpq
    from pgtasks.settings.project import load

    root = config.rootpath / (config.getini("pgtasks_root") or ".")
    return load(root.resolve(), libpq=libpq.variables(os.environ))
