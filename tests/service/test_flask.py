"""The service in a Flask application, its health, its log of statements."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from projects import put_stamp
from servers import Cluster
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from units import ROWS, read, write
from werkzeug.exceptions import NotFound
from werkzeug.routing import RequestRedirect

from pgtasks.service import DatabaseService, check_health
from pgtasks.service.flask import health, init_app

BACKEND = text("SELECT pg_backend_pid()")


@pytest.fixture
def service(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseService]:
    monkeypatch.chdir(project)
    cluster.execute(ROWS, database)
    service = DatabaseService("dev")
    yield service
    service.dispose()


@pytest.fixture
def client(service: DatabaseService, cluster: Cluster) -> FlaskClient:
    """Return a client of an application whose views lose their first connection."""
    app = Flask("rows")
    init_app(app, service)
    app.register_blueprint(health())
    calls: list[str] = []

    def cut_once(session: object, view: str) -> None:
        calls.append(view)
        if calls.count(view) == 1:
            backend = session.execute(BACKEND).scalar()  # type: ignore[attr-defined]
            cluster.execute(f"SELECT pg_terminate_backend({backend})")

    @app.get("/rows")
    def rows() -> dict[str, int]:
        with service.session(read_only=True) as session:
            cut_once(session, "get")
            return {"rows": read(session)}

    @app.post("/rows")
    def add() -> dict[str, int]:
        with service.session() as session:
            cut_once(session, "post")
            write(session, 1, len(calls))
        return {"calls": calls.count("post")}

    @app.post("/run")
    def add_by_run() -> dict[str, int]:
        def unit(session: object) -> None:
            cut_once(session, "run")
            write(session, 2, len(calls))  # type: ignore[arg-type]

        service.run(unit)
        return {"calls": calls.count("run")}

    @app.get("/open")
    def leave_open() -> str:
        write(service.session().__enter__(), 3, 3)
        return "left open"

    return app.test_client()


def test_a_get_whose_connection_was_lost_is_answered_again(client: FlaskClient) -> None:
    assert client.get("/rows").json == {"rows": 0}


def test_a_post_is_not_repeated_by_itself(client: FlaskClient) -> None:
    answer = client.post("/rows")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert client.post("/rows").json == {"calls": 2}
    assert client.post("/run").json == {"calls": 2}
    assert client.get("/rows").json == {"rows": 2}


def test_a_block_that_is_left_open_is_rolled_back_and_logged(
    client: FlaskClient, service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/open").text == "left open"
    assert "leave_open left a block open: its work was rolled back" in caplog.text
    assert service.unit is None
    assert service.engine.pool.checkedout() == 0
    assert client.get("/rows").json == {"rows": 0}


def test_a_block_that_is_opened_before_a_request_does_not_reach_the_next_one(
    service: DatabaseService,
) -> None:
    """The application's own function, which runs first, opens a block and ends the request."""
    app = Flask("early")
    blocks: list[object] = []

    @app.before_request
    def early() -> str | None:
        if blocks:
            return None
        blocks.append(service.session())
        write(blocks[0].__enter__(), 3, 3)  # type: ignore[attr-defined]
        return "no"

    init_app(app, service)

    @app.get("/write")
    def view() -> str:
        with service.session() as session:
            write(session, 4, 4)
        return "yes"

    client = app.test_client()
    assert [client.get("/write").text for _ in range(2)] == ["no", "yes"]
    assert service.run(read) == 1
    assert service.engine.pool.checkedout() == 0


@pytest.mark.parametrize(("apart", "status", "visits"), [(False, 503, 1), (True, 200, 2)])
def test_a_get_that_has_committed_is_not_repeated_but_for_what_is_apart(
    service: DatabaseService, cluster: Cluster, apart: bool, status: int, visits: int
) -> None:
    app = Flask("twice")
    init_app(app, service)
    calls: list[int] = []

    @app.get("/visit")
    def visit() -> str:
        calls.append(1)
        count = partial(service.run, lambda session: write(session, 5, len(calls)))
        copy_context().run(count) if apart else count()
        with service.session(read_only=True) as session:
            if len(calls) == 1:
                backend = session.execute(BACKEND).scalar()
                cluster.execute(f"SELECT pg_terminate_backend({backend})")
            return str(read(session))

    assert app.test_client().get("/visit").status_code == status
    assert len(calls) == visits
    assert service.run(read) == visits


class Closed(Exception):
    """What an application answers in its own way."""


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (NotFound(), 404),
        (RequestRedirect("/elsewhere"), 308),
        (Closed(), 418),
        (IntegrityError("INSERT", {}, Exception("taken")), 409),
        (ProgrammingError("SELECT", {}, Exception("no such table")), 500),
        (ZeroDivisionError(), 500),
    ],
    ids=lambda each: each if isinstance(each, int) else type(each).__name__,
)
def test_what_a_repeated_view_raises_is_answered_as_the_first_time(
    service: DatabaseService, cluster: Cluster, ending: Exception, status: int
) -> None:
    app = Flask("ends")
    init_app(app, service)
    app.register_error_handler(Closed, lambda _: ("closed", 418))
    app.register_error_handler(IntegrityError, lambda _: ("taken", 409))
    calls: list[int] = []

    @app.get("/view")
    def view() -> str:
        calls.append(1)
        with service.session(read_only=True) as session:
            if len(calls) == 1:
                backend = session.execute(BACKEND).scalar()
                cluster.execute(f"SELECT pg_terminate_backend({backend})")
                read(session)
            raise ending

    assert app.test_client().get("/view").status_code == status
    assert len(calls) == 2


def test_a_block_around_a_request_stays_open(client: FlaskClient, service: DatabaseService) -> None:
    with service.session() as session:
        write(session, 1, 1)
        client.get("/health/live")
        write(session, 1, 2)
    assert service.run(read) == 2


# --- health ---


def test_the_health_of_a_database(client: FlaskClient, service: DatabaseService) -> None:
    assert client.get("/health/live").json == {"status": "ok"}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "database": "ok"})
    state = check_health(service)
    assert (state.ok, state.environment, state.stamp, state.migrations) == (
        *(True, "dev", "dev"),
        "none",
    )
    assert state.server_version.startswith("16.")
    assert state.pool == {"size": 10, "in_use": 0}


def test_a_database_of_another_environment_is_not_ready(
    client: FlaskClient,
    service: DatabaseService,
    cluster: Cluster,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put_stamp(cluster.target(database, environment="prod"))
    client.get("/health/ready")
    answer = client.get("/health/ready")
    logged = [each.getMessage() for each in caplog.records if each.name == "pgtasks.service"]
    assert len(logged) == 1, "once, although a probe asks every few seconds"
    assert logged[0].startswith(f"not ready: database {database!r} is stamped 'prod'")
    assert (answer.status_code, answer.json) == (
        503,
        {"status": "unavailable", "database": "refused"},
    )
    assert "is stamped 'prod'" in check_health(service).reason
    service.dispose()
    answer = client.get("/rows")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_a_database_that_is_away_is_not_ready_and_recovers(
    client: FlaskClient, service: DatabaseService, cluster: Cluster, database: str
) -> None:
    away = f"{database}_away"
    cluster.execute(f"ALTER DATABASE {database} RENAME TO {away}")
    try:
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json) == (
            503,
            {"status": "unavailable", "database": "not reached"},
        )
        assert "does not exist" in check_health(service).reason
        assert client.get("/rows").status_code == 503
    finally:
        cluster.execute(f"ALTER DATABASE {away} RENAME TO {database}")
    assert client.get("/health/ready").status_code == 200
    assert client.get("/rows").status_code == 200


def test_a_request_for_which_no_connection_is_free(service: DatabaseService) -> None:
    small = DatabaseService("dev", pool_size=1, max_overflow=0, pool_timeout=0.1)
    app = Flask("small")
    init_app(app, small)

    @app.route("/rows", methods=["GET", "POST"])
    def rows() -> dict[str, int]:
        return {"rows": small.run(read)}

    with small.engine.connect():
        for answer in (app.test_client().get("/rows"), app.test_client().post("/rows")):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "All connections are in use." in answer.text
    assert app.test_client().get("/rows").status_code == 200
    small.dispose()


def test_the_look_at_health_raises_nothing(cluster: Cluster, service: DatabaseService) -> None:
    """Also where the service cannot have a pool."""
    other = DatabaseService("dev", creator=lambda: cluster.connect("postgres"))
    assert "'creator' opens connections" in check_health(other).reason


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_server_that_lets_in_and_is_silent_holds_up_no_probe(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", driver)
    other, stopped = DatabaseService("dev"), list[int]()

    @event.listens_for(other.probe, "connect")
    def opened(connection: Any, record: Any) -> None:
        stopped.append(connection.info.backend_pid)
        os.kill(stopped[0], signal.SIGSTOP)

    try:
        state = check_health(other)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert (state.ok, state.reason) == (
        False,
        "the server let in and did not answer within 2 seconds",
    )


def test_what_the_files_of_migrations_take_is_not_the_servers_time(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To load Alembic may take longer than a server has to answer."""
    are_open, seen = list[Any](), list[int]()
    event.listen(service.probe, "connect", lambda connection, _: are_open.append(connection))
    event.listen(service.probe, "close", lambda connection, _: are_open.remove(connection))
    monkeypatch.setattr(DatabaseService, "heads", property(lambda _: seen.append(len(are_open))))
    assert check_health(service).ok
    assert seen == [0]


# --- the log of statements ---


def test_statements_are_logged_with_their_caller_and_without_values(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    service.statements.turn(True)
    try:
        with service.session() as session:
            session.execute(text("SELECT :secret ,\n 1"), {"secret": "hunter2"})
    finally:
        service.statements.turn(False)
    (line,) = [
        record.getMessage() for record in caplog.records if "SELECT %(secret)s" in record.message
    ]
    assert "test_flask.py" in line
    assert "test_statements_are_logged" in line
    assert line.endswith("SELECT %(secret)s , 1  [1 value]")
    assert "hunter2" not in caplog.text
    assert logging.getLogger("pgtasks.service").level == logging.NOTSET


def test_an_error_shows_no_value(service: DatabaseService) -> None:
    query = text("SELECT 1 / length(left(:s, 0))")
    with pytest.raises(Exception, match="SQL parameters hidden") as failure:
        service.run(lambda session: session.execute(query, {"s": "hunter2"}))
    assert "hunter2" not in str(failure.value)
