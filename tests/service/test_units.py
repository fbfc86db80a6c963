"""Blocks of a service: what is committed, what is rolled back, and who sees it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import shelf
from servers import Cluster
from shelf import Author
from sqlalchemy import text
from sqlalchemy.exc import (
    DBAPIError,
    InternalError,
    InvalidRequestError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.orm import Session
from waiting import until

from pgtasks.errors import Failed, Refused
from pgtasks.service import DatabaseService


@pytest.fixture
def service(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseService]:
    monkeypatch.chdir(project)
    monkeypatch.setenv("PGTASKS_ENV", "dev")
    cluster.execute(shelf.TABLES, database)
    service = DatabaseService()
    yield service
    service.dispose()


class Stop(Exception):
    pass


def add_and_stop(service: DatabaseService, name: str) -> None:
    with service.session() as session:
        session.add(Author(name=name))
        session.flush()
        raise Stop


@pytest.fixture
def names(cluster: Cluster, database: str) -> object:
    """Return what reads the names of all authors, in a session of its own."""
    return lambda: [
        name for (name,) in cluster.execute("SELECT name FROM authors ORDER BY name", database)
    ]


def test_a_block_commits_as_it_is_left(service: DatabaseService, names) -> None:
    with service.session() as session:
        session.add(Author(name="a"))
        session.flush()
        assert names() == []
        assert session.query(Author).one().name == "a"
    assert names() == ["a"]


def test_a_block_is_no_session_and_says_so(service: DatabaseService) -> None:
    expected = "a block has no 'execute', its session has: with get_db_session"
    with pytest.raises(AttributeError, match=expected):
        service.session().execute(text("SELECT 1"))  # type: ignore[union-attr]
    with service.session(), pytest.raises(AttributeError, match=expected):
        service.session().execute(text("SELECT 1"))  # type: ignore[union-attr]
    assert not hasattr(service.session(), "_token")


def test_an_error_rolls_the_block_back(service: DatabaseService, names) -> None:
    with pytest.raises(Stop):
        add_and_stop(service, "a")
    assert names() == []
    assert service.engine.pool.checkedout() == 0


def test_an_error_that_is_swallowed_loses_nothing_in_silence(
    service: DatabaseService, names
) -> None:
    def swallow() -> None:
        with service.session() as session:
            session.add(Author(name="a"))
            session.flush()
            with suppress(ProgrammingError):
                session.execute(text("SELECT nothing"))
            session.execute(text("SELECT 1"))

    with pytest.raises(InternalError, match="current transaction is aborted"):
        swallow()
    assert names() == []


def test_an_error_that_is_swallowed_at_the_end_is_no_commit(
    service: DatabaseService, names
) -> None:
    """The server answers such a COMMIT by a rollback, and calls that no error."""

    def swallow(session: Session) -> None:
        session.add(Author(name="a"))
        session.flush()
        with suppress(ProgrammingError):
            session.execute(text("SELECT nothing"))

    with pytest.raises(Failed, match=r"^nothing was committed: a statement failed"):
        service.run(swallow)
    with service.session() as session:
        swallow(session)
        with pytest.raises(Failed, match="nothing was committed"):
            session.commit()
        session.rollback()
        session.add(Author(name="b"))
    assert names() == ["b"]
    with service.session() as session:
        session.add(Author(name="c"))
        with suppress(ProgrammingError), service.session():
            session.execute(text("SELECT nothing"))
    assert names() == ["b", "c"]


def test_a_block_within_a_block_is_a_savepoint(service: DatabaseService, names) -> None:
    with service.session() as outer:
        outer.add(Author(name="a"))
        with service.session() as inner:
            assert inner is outer
            inner.add(Author(name="b"))
        with pytest.raises(Stop):
            add_and_stop(service, "c")
        assert names() == []
    assert names() == ["a", "b"]


def test_a_failed_flush_of_a_savepoint_leaves_the_outer_work(
    service: DatabaseService, names
) -> None:
    with service.session() as outer:
        outer.add(Author(name="a"))
        with pytest.raises(Exception, match="duplicate key"), service.session() as inner:
            inner.add(Author(name="a"))
        outer.add(Author(name="b"))
    assert names() == ["a", "b"]


def test_a_block_that_joins_and_fails_spoils_the_outer_one(service: DatabaseService, names) -> None:
    service.nested = False
    with service.session() as outer:
        with service.session() as inner:
            inner.add(Author(name="a"))
        outer.add(Author(name="b"))
    assert names() == ["a", "b"]
    outer = service.session()
    outer.__enter__()
    with pytest.raises(Stop):
        add_and_stop(service, "c")
    with pytest.raises(Failed, match=r"nothing was committed: a block within .* \(Stop\)"):
        outer.__exit__(None, None, None)
    assert names() == ["a", "b"]


def test_only_the_outermost_block_commits(service: DatabaseService, names) -> None:
    with service.session() as outer:
        outer.add(Author(name="a"))
        with service.session() as inner:
            inner.add(Author(name="b"))
            with pytest.raises(Refused, match=r"use session\.flush\(\)"):
                inner.commit()
            assert names() == []
    assert names() == ["a", "b"]


def test_the_server_refuses_writes_of_a_read_only_block(service: DatabaseService, names) -> None:
    with (
        pytest.raises(InternalError, match="read-only transaction"),
        service.session(read_only=True) as session,
    ):
        session.add(Author(name="a"))
    with service.session() as session:  # on the same connection
        session.add(Author(name="b"))
    assert names() == ["b"]


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_read_only_block_lifts_no_setting_of_the_role(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", driver)
    cluster.execute(shelf.TABLES, database)
    cluster.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on", database)
    service = DatabaseService("dev", pool_size=1, max_overflow=0)
    for read_only in (False, True, False):
        with (
            pytest.raises(InternalError, match="read-only transaction"),
            service.session(read_only=read_only) as session,
        ):
            session.add(Author(name="a"))
    service.dispose()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SET TRANSACTION READ WRITE", "SET TRANSACTION READ WRITE"),
        ("/*/**/*/ set transaction isolation level serializable, read/**/write", "SET TRANSACTION"),
        ("SET LOCAL transaction_read_only = off", "SET transaction_read_only"),
        ("SELECT 1; SET SESSION transaction_read_only TO 'F'", "SET transaction_read_only"),
        ("""SET U&"\\0054ransaction_Read_Only" = 0""", "SET transaction_read_only"),
        ("SET transaction_read_only = :value", "SET transaction_read_only"),
        ("SET transaction_read_only TO DEFAULT", "SET transaction_read_only"),
        ("RESET transaction_read_only", "RESET transaction_read_only"),
        ("START TRANSACTION READ WRITE", "START"),
    ],
)
def test_no_statement_lets_a_read_only_block_write(
    service: DatabaseService, names, statement: str, words: str
) -> None:
    values = {"value": "off"}
    with pytest.raises(Refused, match=f"^{words}"), service.session(read_only=True) as session:
        session.execute(text(statement), values)
    with (
        pytest.raises(Refused, match="may let a read-only block write: open one without"),
        service.session(read_only=True) as session,
        service.session(read_only=True, nested=False) as inner,
    ):
        inner.execute(text("SET TRANSACTION READ WRITE; INSERT INTO authors (name) VALUES ('b')"))
    with service.session() as session:
        if not words.startswith(("START", "RESET")):  # the server has no RESET of it
            session.execute(text(statement.replace("DEFAULT", "off")), values)
        session.add(Author(name="a"))
    assert names() == ["a"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT set_config(:name, :value, false)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET default_transaction_read_only = off",
        "DO $$ BEGIN SET TRANSACTION READ WRITE; END $$",
        "SELECT 'SET TRANSACTION READ WRITE'",
        "/* SET TRANSACTION READ WRITE */ SELECT $$;SET transaction_read_only = off$$ -- RESET ALL",
        "SET TRANSACTION READ ONLY",
        "SET LOCAL transaction_read_only = tru",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, DEFERRABLE",
        "SHOW transaction_read_only",
        "SELECT 1 AS transaction_read_only, 'SET' AS \"set\"",
    ],
)
def test_what_the_server_refuses_and_what_only_looks_so_is_left_to_it(
    service: DatabaseService, names, statement: str
) -> None:
    values = {"name": "transaction_read_only", "value": "off"}

    def write() -> None:
        with service.session(read_only=True) as session:
            if "set_config" in statement or statement.startswith("DO"):
                with pytest.raises(DBAPIError, match="before any query"):
                    session.execute(text(statement), values)
                session.rollback()  # the next transaction of the block only reads, too
            else:
                session.execute(text(statement))
            session.add(Author(name="a"))

    with pytest.raises(InternalError, match="read-only transaction"):
        write()
    assert names() == []


def test_a_block_that_writes_is_refused_within_a_read_only_one(service: DatabaseService) -> None:
    with service.session(read_only=True):
        with pytest.raises(Refused, match="within a read-only one"), service.session():
            pass
        with service.session(read_only=True) as session:
            assert session.query(Author).all() == []


def test_a_read_only_block_within_one_that_writes(service: DatabaseService, names) -> None:
    with service.session() as session:
        session.add(Author(name="a"))
        with service.session(read_only=True) as inner:
            assert inner.query(Author).one().name == "a"
        with (
            pytest.raises(InternalError, match="read-only transaction"),
            service.session(read_only=True) as inner,
        ):
            inner.add(Author(name="b"))
        session.add(Author(name="c"))
    assert names() == ["a", "c"]


def test_each_thread_has_its_own_session(service: DatabaseService) -> None:
    sessions: list[Session] = []

    def work() -> None:
        with service.session() as session:
            sessions.append(session)

    with service.session() as session:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert sessions[0] is not session


def test_tasks_of_asyncio_share_no_session(service: DatabaseService) -> None:
    def inside() -> Session:
        with service.session() as session:
            return session

    async def main() -> None:
        with service.session() as session:
            assert inside() is session
            in_task = await asyncio.create_task(asyncio.to_thread(inside))
            assert in_task is not session

            async def task() -> Session:
                return inside()

            assert await asyncio.create_task(task()) is not session
            assert await task() is session

    asyncio.run(main())


def test_a_forked_process_has_its_own_connections(service: DatabaseService) -> None:
    backend = text("SELECT pg_backend_pid()")
    with service.session() as session:
        parents = session.execute(backend).scalar()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with service.session() as session:
                os.write(writes, str(session.execute(backend).scalar()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        assert int(answer.read()) != parents
    os.waitpid(child, 0)
    with service.session() as session:
        assert session.execute(backend).scalar() == parents


def test_two_services_have_two_units(service: DatabaseService) -> None:
    other = DatabaseService()
    with service.session() as one, other.session() as two:
        assert one is not two
    other.dispose()


# --- what would end a unit in another way than its outermost block does ---


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_an_inner_block_cannot_end_the_outer_one(service: DatabaseService, names, end: str) -> None:
    def end_it() -> None:
        with service.session() as session:
            session.add(Author(name="before"))
            with service.session() as inner:
                getattr(inner, end)()
            session.add(Author(name="after"))

    with pytest.raises(Refused, match=rf"session\.{end}\(\) in a block within another"):
        end_it()
    assert names() == []
    assert service.engine.pool.checkedout() == 0


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("COMMIT", "COMMIT in a block would end or change its transaction: leave the block"),
        (" /* ; */ -- now\n end", "COMMIT in a block"),
        ("/* one /* in */ another */ COMMIT", "COMMIT in a block"),
        ("SELECT 1; -- a line that ends so\rCOMMIT", "COMMIT in a block"),
        ("rollback", r"ROLLBACK in a block .* in the outermost one"),
        ("INSERT INTO authors (name) VALUES ('%'); Commit", "COMMIT in a block"),
        ("BEGIN", "BEGIN in a block"),
        ("START TRANSACTION READ ONLY", "START in a block"),
        ("PREPARE TRANSACTION 'x'", "PREPARE in a block"),
        ("SAVEPOINT mine", r"SAVEPOINT in a block .*: use session\.begin_nested\(\)"),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", r"ROLLBACK TO in .*begin_nested\(\)"),
        ("RELEASE sa_savepoint_1", "RELEASE in a block"),
        ("SET LOCAL work_mem = {0}; COMMIT", "COMMIT in a block"),
        ("SELECT 1 WHERE '1' IN ({0}) AND date {0} IS NULL; COMMIT", "COMMIT in a block"),
    ],
)
@pytest.mark.parametrize("driver", [False, True])
def test_a_statement_cannot_end_the_transaction_of_a_block(
    service: DatabaseService, names, statement: str, message: str, driver: bool
) -> None:
    def end_it() -> None:
        with service.session() as session:
            session.add(Author(name="before"))
            with service.session() as inner:
                if driver:
                    values = ("1",) * statement.count("{0}")
                    inner.connection().exec_driver_sql(statement.format("%s"), values)
                else:
                    inner.execute(text(statement.format(":value")), {"value": "1"})

    with pytest.raises(Refused, match=message):
        end_it()
    assert names() == []
    assert service.engine.pool.checkedout() == 0


def test_statements_that_only_look_like_its_end_run(service: DatabaseService, names) -> None:
    with service.session() as session:
        session.execute(text("PREPARE named AS SELECT 1"))
        session.execute(text("SELECT '; COMMIT', $$;\nROLLBACK$$ -- ;commit\n"))
        session.execute(text("CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'"))
        # a look for COMMIT behind each `;` to the end of the line took minutes
        session.execute(text(f"SELECT '{';--' * 200_000}'"))
        with session.begin_nested():
            session.add(Author(name="a"))
    with service.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as own:
        own.execute(text("BEGIN"))  # the engine is the application's own affair
        own.execute(text("COMMIT"))
    assert names() == ["a"]


def test_a_block_that_joined_and_failed_keeps_from_an_early_commit_too(
    service: DatabaseService, names
) -> None:
    service.nested = False

    def commit() -> None:
        with service.session() as session:
            with suppress(Stop):
                add_and_stop(service, "half")
            session.commit()

    with pytest.raises(Failed, match="nothing was committed"):
        commit()
    assert names() == []


def test_a_session_is_of_no_use_after_its_block(service: DatabaseService, names) -> None:
    with service.session() as session:
        context = contextvars.copy_context()
    with pytest.raises(InvalidRequestError, match="closed"):
        session.execute(text("INSERT INTO authors (name) VALUES ('lost')"))

    def later() -> None:
        with service.session() as another:
            another.add(Author(name="later"))

    context.run(later)
    assert names() == ["later"]
    assert service.engine.pool.checkedout() == 0


def test_a_child_does_not_speak_on_the_connection_of_an_open_block(
    service: DatabaseService,
) -> None:
    reads, writes = os.pipe()
    with service.session() as session:
        session.execute(text("SELECT 1"))
        child = os.fork()
        if child == 0:
            os.write(writes, b"shared" if service.unit else b"own")
            os._exit(0)
        os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        assert answer.read() == "own"


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize(
    ("error", "known"), [(None, "Refused"), (Stop(), "Stop"), (SystemExit(), "SystemExit")]
)
def test_a_child_that_leaves_the_block_of_its_parent_ends_nothing_of_it(
    names, monkeypatch: pytest.MonkeyPatch, service: DatabaseService, driver: str, error, known: str
) -> None:
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", driver)
    service, parent, end = DatabaseService(), os.getpid(), "none"
    reads, writes = os.pipe()
    try:
        with service.session() as session:
            session.add(Author(name="a"))
            with service.session():
                child = os.fork()
                if child:
                    os.waitpid(child, 0)  # it has left both blocks
                else:
                    with suppress(OperationalError):
                        session.execute(text("DELETE FROM authors"))
                    if error:
                        raise error
    except BaseException as exc:
        end = type(exc).__name__
    finally:
        if os.getpid() != parent:
            os.write(writes, end.encode())
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        assert answer.read() == known
    assert (end, names()) == ("none", ["a"])
    service.dispose()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_session_of_a_parent_that_was_killed_ends_while_its_child_lives(
    service: DatabaseService, cluster: Cluster, is_open: bool
) -> None:
    reads, writes = os.pipe()
    lives, ends = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            with ExitStack() as stack:
                session = stack.enter_context(service.session())
                backend = str(session.execute(text("SELECT pg_backend_pid()")).scalar())
                if not is_open:
                    stack.close()
                os.close(ends)
                if os.fork():
                    os.write(writes, backend.encode())
                    signal.pause()
                os.read(lives, 1)  # until the test closes its end
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb", buffering=0) as answer, os.fdopen(ends, "wb"):
        backend = int(answer.read(20))
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        query = f"SELECT FROM pg_stat_activity WHERE pid = {backend}"
        until(lambda: not cluster.execute(query))
    os.close(lives)


def test_a_block_is_entered_where_it_is_made(service: DatabaseService, names) -> None:
    block = service.session()

    def twice() -> None:
        with block as session:
            session.add(Author(name="a"))
            with block:
                pass

    with pytest.raises(Refused, match="made before another one"):
        twice()
    with service.session():
        inner = service.session()
    with pytest.raises(Refused, match="entered where that is not open"):
        inner.__enter__()
    assert names() == []
    assert service.engine.pool.checkedout() == 0
