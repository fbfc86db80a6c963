"""What a block changes of its session reaches no other block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from projects import make_project
from psycopg.rows import dict_row
from psycopg2.extras import NamedTupleCursor
from servers import Cluster
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from pgtasks.service import DatabaseService
from pgtasks.service.lasting import changes_session

BACKEND = text("SELECT pg_backend_pid()")
STATE = text(
    "SELECT current_setting('work_mem'), current_user,"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
    " to_regclass('pg_temp.mine')::text, (SELECT count(*) FROM pg_listening_channels()),"
    " (SELECT count(*) FROM pg_cursors WHERE is_holdable),"
    " (SELECT count(*) FROM pg_prepared_statements WHERE name = 'kept')"
)


@pytest.fixture(params=["psycopg2", "psycopg"])
def service(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DatabaseService]:
    monkeypatch.chdir(make_project(tmp_path / "shop", cluster.url(database)))
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", request.param)
    service = DatabaseService("dev")
    yield service
    service.dispose()


def backend(session: Session) -> Any:
    return session.execute(BACKEND).scalar_one()


def state(session: Session) -> Any:
    return session.execute(STATE).one()


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '9MB'",
        "/* for a report */ set session work_mem = '9MB'",
        "SELECT 1; SET work_mem = '9MB'",
        "SELECT set_config('work_mem', '9MB', false)",
        "SET ROLE pg_monitor",
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_try_advisory_lock_shared(7)",
        "CREATE TEMP TABLE mine (i int)",
        "CREATE TEMPORARY TABLE mine AS SELECT 1",
        "LISTEN news",
        "SELECT 1 AS i INTO TEMP mine",
        "CREATE OR REPLACE TEMP VIEW mine AS SELECT 1",
        "CREATE TABLE pg_temp.mine (i int)",
        "CREATE TEMP TABLE mine (i int); CREATE TEMP TABLE gone (i int) ON COMMIT DROP",
        "SET/**/work_mem = '9MB'",
        "/* a /* comment */ in one */ SET work_mem = '9MB'",
        "-- a comment\rSET work_mem = '9MB'",
        "UPDATE pg_settings SET setting = '9MB' WHERE name = 'work_mem'",
        "SELECT set_config('work_mem', '9MB', 1 = 2)",
        'SELECT "pg_advisory_lock" /* quoted */ (7)',
        "DO $$ BEGIN SET work_mem = '9MB'; END $$",
        "PREPARE kept AS SELECT 1",
        "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
    ],
)
def test_what_outlives_a_transaction_does_not_outlive_its_block(
    service: DatabaseService, statement: str
) -> None:
    before = service.run(state)

    def change(session: Session) -> Any:
        session.execute(text(statement))
        return backend(session)

    changed = service.run(change)
    assert service.run(state) == before
    assert service.run(backend) != changed


def test_a_value_that_is_bound(service: DatabaseService) -> None:
    def change(local: bool) -> Any:
        def unit(session: Session) -> Any:
            session.execute(select(func.set_config("work_mem", "9MB", local)))
            return backend(session)

        return service.run(unit)

    before, changed = service.run(state), change(False)
    assert service.run(state) == before
    kept = service.run(backend)
    assert kept != changed
    assert change(True) == kept
    assert service.run(backend) == kept


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL work_mem = '9MB'",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('work_mem', '9MB', true)",
        "SELECT pg_advisory_xact_lock(7)",
        "CREATE TEMP TABLE mine (i int) ON COMMIT DROP",
        "SELECT 'SET ROLE postgres'",
    ],
)
def test_what_ends_with_its_transaction_keeps_the_connection(
    service: DatabaseService, statement: str
) -> None:
    before = service.run(backend)
    service.run(lambda session: session.execute(text(statement)))
    assert service.run(backend) == before


@pytest.mark.parametrize(
    ("statement", "values", "changes"),
    [
        ("SELECT set_config(%(n)s, %(v)s, %(l)s)", {"n": "a.b", "v": "x", "l": True}, False),
        ("SELECT set_config(%(n)s, %(v)s, %(l)s)", {"n": "a.b", "v": "x", "l": False}, True),
        ("SELECT set_config(%(n)s, %(v)s, %(l)s::bool)", {"n": "a.b", "v": "t", "l": "no"}, True),
        ("SELECT set_config('a.b', %s, %s), '%%'", (False, True), False),
        ("SELECT set_config('a.b', %s, %s)", [("x", True), ("y", None)], True),
        ("SET LOCAL work_mem = %(v)s", {"v": "9MB"}, False),
        ("SET work_mem = %(v)s", {"v": "9MB"}, True),
        ("SELECT 1 FROM temperature WHERE i IN %s", ((1, 2),), False),
        (
            "CREATE FUNCTION f() RETURNS void SET work_mem = '9MB' LANGUAGE sql AS ''; --",
            None,
            False,
        ),
        ("ALTER ROLE a SET work_mem = '9MB'; --", None, False),
        ("SET transaction_read_only = on", None, False),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", None, True),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", None, True),
        ("CREATE TYPE pg_temp.pair AS (a int, b int)", None, True),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1", None, True),
        ("SELECT dblink_connect('kept', 'dbname=postgres')", None, True),
        ("SELECT " + "(" * 90 + "1" + ")" * 90 + "; --", None, False),
        ("SELECT 1; -- " + "x" * 20_000 + "\nSET work_mem = '9MB'", None, True),
        ("INSERT INTO a VALUES " + "(1, 'set'), " * 20_000 + "(2, '--x'); /* y */", None, False),
        ("CREATE TEMP TABLE a AS SELECT " + "1, " * 20_000 + "1", None, True),
    ],
)
def test_what_lasts_is_told_by_its_meaning(statement: str, values: Any, changes: bool) -> None:
    assert changes_session(statement, values) is changes


def _sets_autocommit(connection: Any) -> None:
    connection.rollback()
    connection.autocommit = True


def _only_reads(connection: Any) -> None:
    connection.rollback()
    setattr(connection, "readonly" if hasattr(connection, "readonly") else "read_only", True)


def _names_rows(connection: Any) -> None:
    if hasattr(connection, "cursor_factory") and not hasattr(connection, "row_factory"):
        connection.cursor_factory = NamedTupleCursor
    else:
        connection.row_factory = dict_row


@pytest.mark.parametrize("change", [_sets_autocommit, _only_reads, _names_rows])
def test_what_is_set_at_the_drivers_connection_is_of_its_block(
    service: DatabaseService, change: Callable[[Any], None]
) -> None:
    service.run(lambda session: session.execute(text("CREATE TABLE rows (i int)")))
    with service.session() as session:
        change(session.connection().connection.dbapi_connection)
    with suppress(KeyError), service.session() as session:
        session.execute(text("INSERT INTO rows VALUES (1)"))
        raise KeyError
    count = text("SELECT count(*) FROM rows")
    assert service.run(lambda session: session.execute(count).scalar_one()) == 0


def test_the_word_in_another_place() -> None:
    assert not changes_session("UPDATE t SET role = 'x'; UPDATE t\nSET work_mem = 1")
    assert not changes_session("SELECT asset_config(false)")
    assert changes_session("-- a comment\nRESET ROLE")


def test_what_an_application_sets_as_it_connects_stays(service: DatabaseService) -> None:
    @event.listens_for(service.engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '9MB'")
        connection.commit()

    first = service.run(backend)
    assert service.run(state)[0] == "9MB"
    assert service.run(backend) == first
    service.run(lambda session: session.execute(text("RESET ALL")))
    assert service.run(state)[0] == "9MB"


def test_connections_of_the_engine_are_no_exception(service: DatabaseService) -> None:
    with service.engine.connect() as connection:
        before = connection.execute(STATE).one()
        connection.exec_driver_sql("SET work_mem = '9MB'")
        connection.commit()
    with service.engine.connect() as connection:
        assert connection.execute(STATE).one() == before


def test_the_log_says_once_what_it_costs_and_no_value(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    for statement in ("SET clinic.token='hidden'", "SET work_mem = '9MB'"):
        service.run(functools.partial(Session.execute, statement=text(statement)))
    assert [record.getMessage() for record in caplog.records] == [
        "SET clinic.token may change its session: the connection is closed after its block; "
        "SET LOCAL, set_config(..., true) and pg_advisory_xact_lock() end with the transaction"
    ]
