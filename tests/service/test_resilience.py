"""A service goes on where its database is swapped, its server restarted, its connection cut."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import swaps
from poolers import needs_pgbouncer, pooler
from projects import make_project, put_stamp
from servers import Cluster
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from units import ROWS, Load, let_wait, read, write
from waiting import until

from pgtasks.database import swap
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.server.lock import Lock
from pgtasks.service import CommitUnknown, DatabaseService, admission, patience
from pgtasks.settings.target import Target

BACKEND = text("SELECT pg_backend_pid()")
THREADS = 8
SWAPS = 5


def served(cluster: Cluster, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project whose dev is a database with a table of rows."""
    put_stamp(cluster.target(database))
    cluster.execute(ROWS, database)
    project = make_project(folder / "shop", cluster.url(database))
    monkeypatch.chdir(project)
    monkeypatch.setenv("PGTASKS_ENV", "dev")
    return project


@pytest.fixture(params=["psycopg2", "psycopg"])
def service(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DatabaseService]:
    served(cluster, database, tmp_path, monkeypatch)
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", request.param)
    service = DatabaseService()
    yield service
    service.dispose()


def settings(line: str) -> None:
    """Add a line to the settings of dev, in the project around."""
    with Path("env/dev.yaml").open("a") as file:
        file.write(f"{line}\n")


def test_no_unit_fails_while_a_database_is_swapped(
    service: DatabaseService, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_wait(monkeypatch)
    load = Load(service, THREADS)
    with load.running(), Lock(cluster.target(database), "test") as lock:
        for _ in range(SWAPS):
            load.await_units(20)
            name, stamp, facts = swaps.build_side(lock, "new")
            cluster.execute(ROWS, name)
            swap.swap_in(lock, lock.target, name, stamp, facts=facts, replaces=True)
        load.await_units(1)
    load.check(cluster, database, swaps=SWAPS)


def cut(cluster: Cluster, session: Session) -> None:
    cluster.execute(f"SELECT pg_terminate_backend({session.execute(BACKEND).scalar()})")


def test_a_unit_whose_connection_is_cut_runs_once_more(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    calls: list[int] = []

    def unit(session: Session) -> str:
        calls.append(len(calls))
        write(session, 1, len(calls))
        if len(calls) == 1:
            cut(cluster, session)
            write(session, 1, 99)
        return "done"

    assert service.run(unit) == "done"
    assert cluster.execute("SELECT worker, number FROM rows", database) == [(1, 2)]


def test_a_connection_that_is_cut_as_it_is_opened_is_opened_again(
    service: DatabaseService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, checked = admission.check, list[int]()

    def cut_the_first(connection: Any, target: Target) -> None:
        checked.append(connection.info.backend_pid)
        if len(checked) == 1:
            cluster.execute(f"SELECT pg_terminate_backend({checked[0]}, 10000)")
        check(connection, target)

    monkeypatch.setattr(admission, "check", cut_the_first)
    assert service.run(read, retries=0) == 0
    assert len(checked) == 2


def test_a_unit_is_repeated_no_more_than_asked_for(
    service: DatabaseService, cluster: Cluster
) -> None:
    calls: list[int] = []

    def unit(session: Session) -> None:
        calls.append(1)
        cut(cluster, session)
        read(session)

    with pytest.raises(OperationalError):
        service.run(unit, retries=2)
    assert len(calls) == 3


def test_a_unit_within_a_block_is_not_repeated(service: DatabaseService, cluster: Cluster) -> None:
    calls: list[int] = []

    def unit(session: Session) -> None:
        calls.append(1)
        cut(cluster, session)
        read(session)

    block = service.session()
    block.__enter__()
    with pytest.raises(OperationalError) as failure:
        service.run(unit)
    block.__exit__(failure.type, failure.value, None)
    assert len(calls) == 1


def test_a_lost_commit_is_called_unknown_and_not_repeated(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    calls: list[int] = []

    def unit(session: Session) -> None:
        calls.append(1)
        write(session, 1, 1)
        backend = session.execute(BACKEND).scalar()

        def cut_off(conn: object) -> None:
            cluster.execute(f"SELECT pg_terminate_backend({backend})")
            until(lambda: not cluster.execute(f"SELECT FROM pg_stat_activity WHERE pid={backend}"))

        event.listen(session.connection(), "commit", cut_off)

    with pytest.raises(CommitUnknown, match="while COMMIT was under way"):
        service.run(unit)
    assert calls == [1]
    assert cluster.execute("SELECT * FROM rows", database) == []


@pytest.mark.parametrize("lost", ["commit", "later"])
def test_a_unit_that_commits_by_itself_is_not_doubled(
    service: DatabaseService, cluster: Cluster, lost: str
) -> None:
    calls: list[int] = []

    def unit(session: Session) -> None:
        calls.append(1)
        write(session, 1, len(calls))
        if lost == "commit":
            cut(cluster, session)
        session.commit()
        cut(cluster, session)
        read(session)

    with pytest.raises(CommitUnknown if lost == "commit" else OperationalError):
        service.run(unit)
    assert len(calls) == 1
    assert service.run(read) == (0 if lost == "commit" else 1)


def test_units_that_deadlock_run_again(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    cluster.execute("INSERT INTO rows VALUES (1, 0), (2, 0)", database)
    both = threading.Barrier(2)
    first = threading.local()
    errors: list[BaseException] = []

    def add(session: Session, worker: int) -> None:
        session.execute(
            text("UPDATE rows SET number = number + 1 WHERE worker = :w"), {"w": worker}
        )

    def work(order: tuple[int, int]) -> None:
        def unit(session: Session) -> None:
            add(session, order[0])
            if not hasattr(first, "met"):
                first.met = True
                both.wait()
            add(session, order[1])

        try:
            service.run(unit, retries=5)  # the two may meet again
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(order,)) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cluster.execute("SELECT number FROM rows", database) == [(2,), (2,)]


def test_a_database_that_is_not_there_fails_at_once(
    service: DatabaseService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = DatabaseService(url=cluster.url("nowhere"))
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(patience, "time", clock)
    with pytest.raises(OperationalError, match="does not exist"), absent.session() as session:
        read(session)
    assert pauses == []


def test_a_server_that_is_down_holds_up_the_first_request_alone(
    service: DatabaseService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings("pool: {patience: 2}")
    gone = DatabaseService(url=f"postgresql://u@/d?host={tmp_path}")
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr(patience, "time", clock)  # the time that it waits, not that it works
    for bounds in ((1.5, 2), (0, 0)):
        pauses.clear()
        with pytest.raises(OperationalError), gone.session() as session:
            read(session)
        assert bounds[0] <= sum(pauses) <= bounds[1]


def test_a_full_pool_says_so(service: DatabaseService) -> None:
    small = DatabaseService(pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.session() as session:
        read(session)
        failure: list[BaseException] = []

        def work() -> None:
            try:
                small.run(read)
            except PoolTimeout as exc:
                failure.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "QueuePool limit of size 1" in str(failure[0])
    assert small.run(read) == 0
    small.dispose()


def test_statements_end_by_the_timeouts_of_the_settings(service: DatabaseService) -> None:
    settings("pool: {statement_timeout: 1, size: 2}")
    hasty = DatabaseService()
    assert hasty.engine.pool.size() == 2
    with pytest.raises(OperationalError, match="statement timeout"), hasty.session() as session:
        session.execute(text("SELECT pg_sleep(30)"))
    hasty.dispose()


@needs_pgbouncer
def test_a_pooler_is_used_without_timeouts(
    service: DatabaseService, cluster: Cluster, database: str, tmp_path: Path
) -> None:
    (tmp_path / "pooler").mkdir()
    with pooler(cluster, tmp_path / "pooler", "pool_mode = transaction") as port:
        url = f"postgresql://{cluster.superuser}@127.0.0.1:{port}/{database}"
        with pytest.raises(OperationalError, match="unsupported startup parameter"):
            DatabaseService(url=url).run(read)
        settings("pool: {statement_timeout: 0, lock_timeout: 0, idle_timeout: 0}")
        pooled = DatabaseService(url=url)
        pooled.run(lambda session: write(session, 1, 1))
        assert pooled.run(read, read_only=True) == 1
        pooled.dispose()


# --- which database ---


def test_the_database_of_another_environment_is_refused(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    put_stamp(cluster.target(database, environment="prod"))
    with pytest.raises(
        Refused, match=r"is stamped 'prod', the chosen environment is 'dev': .*env\.stamp"
    ):
        service.run(read)
    assert service.engine.pool.checkedout() == 0
    there = (
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgtasks.service%%'"
        " AND datname = %s"
    )
    until(lambda: not cluster.execute(there, parameters=(database,)))


def test_a_protected_environment_needs_a_stamp(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    cluster.execute(f"COMMENT ON DATABASE {database} IS NULL", database)
    assert service.run(read) == 0
    service.dispose()
    settings("protected: true")
    strict = DatabaseService()
    with pytest.raises(Refused, match=r"'dev' is protected, and database '.*' has no stamp"):
        strict.run(read)
    settings("pool: {check_stamp: false}")
    lax = DatabaseService()
    assert lax.run(read) == 0
    for each in (strict, lax):
        each.dispose()


def test_a_new_service_connects_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "shop", "postgresql://u@127.0.0.1:1/d")
    monkeypatch.chdir(project)
    settings(f"password_command: touch {tmp_path / 'asked'}")
    service = DatabaseService("dev")
    block = service.session()
    assert not (tmp_path / "asked").exists()
    with pytest.raises(BadConfiguration, match="password_command"):
        block.__enter__()
    assert (tmp_path / "asked").exists()


def test_connections_that_somebody_else_opens_are_refused(
    service: DatabaseService, cluster: Cluster
) -> None:
    """Their stamp would not be looked at."""
    other = DatabaseService("dev", creator=lambda: cluster.connect("postgres"))
    with pytest.raises(BadConfiguration, match="'creator' opens connections whose stamp"):
        other.run(read)


def test_a_password_in_the_query_of_a_url_is_hidden(service: DatabaseService) -> None:
    url = DatabaseService("dev", url="postgresql://u@h/d?password=s3cret&sslmode=prefer").url
    assert url.password == "s3cret"
    assert "s3cret" not in repr(url) + url.render_as_string()
    assert url.query == {"sslmode": "prefer"}


def test_the_password_of_a_key_in_a_url_is_hidden(service: DatabaseService) -> None:
    other = DatabaseService("dev", url="postgresql://u:p@h/d?sslpassword=s3c%26et&sslkey=k")
    shown = repr(other.url) + repr(other.engine) + repr(other.engine.url) + str(other.url)
    assert "s3c" not in shown
    assert "sslpassword=***" in shown
    copied = other.url.set(host="h2").update_query_dict({"a": "b"})
    assert "s3c" not in repr(copied)
    assert "sslpassword=s3c%26et" in other.url.render_as_string(hide_password=False)
    assert other.url.query["sslpassword"] == "s3c&et"


def test_a_url_names_a_database_of_any_name(
    service: DatabaseService, cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(cluster, 'odd "name" ü\'%20/?')
    other = DatabaseService("dev", url=cluster.url(name))
    assert other.url.database == name
    with other.session() as session:
        assert session.execute(text("SELECT current_database()")).scalar() == name
    other.dispose()


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (
            "asyncpg",
            "a URL with the driver 'asyncpg', did you mean 'psycopg', known: psycopg2, psycopg",
        ),
        ("psycopg_async", "a URL with the driver 'psycopg_async', did you mean 'psycopg'"),
    ],
)
def test_a_driver_that_is_not_known_is_refused(
    service: DatabaseService, driver: str, message: str
) -> None:
    with pytest.raises(BadConfiguration, match=message):
        _ = DatabaseService("dev", url=f"postgresql+{driver}://u@h/d").engine


def test_a_driver_that_is_not_installed_is_named(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", "psycopg")
    with pytest.raises(BadConfiguration, match=r"'psycopg' is not installed .*psycopg\[binary\]"):
        _ = DatabaseService("dev").engine


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u@h/d", "a URL of 'mysql', expected postgresql://"),
        ("u:hunter2@h", "the URL cannot be read, expected postgresql://"),
        ("postgresql://u:hunter2@h:port/d", "the URL cannot be read, expected postgresql://"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_text(
    service: DatabaseService, url: str, message: str
) -> None:
    with pytest.raises(BadConfiguration) as failure:
        _ = DatabaseService(url=url).engine
    assert failure.value.message.startswith(message)
    assert "hunter2" not in failure.value.message
