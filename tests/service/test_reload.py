"""Settings that change while an application runs: noticed, logged by name, told, or refused."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from layout import lay_out
from projects import put_stamp
from servers import Cluster, threads
from sqlalchemy import text
from waiting import PATIENCE, until

import pgtasks.service
from pgtasks.errors import BadConfiguration
from pgtasks.service import Change, DatabaseService, default, environment
from pgtasks.settings.project import Project

KEY = "0123456789abcdef" * 2
LOOK = 0.05  # seconds between two looks at the files


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project, whose folder the process has left."""
    root = lay_out(
        tmp_path / "shop",
        {
            "env/dev.yaml": "host: h1\ndatabase: d\n",
            "env/dev.env": "DATABASE_PASSWORD=hunter2\n",
            "env/prod.yaml": "host: h\ndatabase: d\nsettings: {mail: {port: 25}}\n",
        },
    )
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def service(app: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseService]:
    service = DatabaseService("dev")
    monkeypatch.chdir("/")
    yield service
    service.unwatch()


def told(service: DatabaseService) -> list[Change]:
    changes: list[Change] = []
    service.subscribe(changes.append)
    return changes


def test_a_reload_names_what_has_changed_and_no_value(
    app: Path, service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    changes = told(service)
    assert service.reload().keys == ()
    lay_out(
        app,
        {
            "env/dev.yaml": "host: h2\ndatabase: d\npool: {size: 3}\nsecurity: {hsts: 60}\n"
            "settings: {api: {token: t0ken, retries: 4}}\n",
            "env/dev.env": f"DATABASE_PASSWORD=other-secret\nSECURITY_KEYS={KEY}\n",
        },
    )
    change = service.reload()
    assert change.keys == (
        *("host", "password", "pool.size", "security.hsts", "security.keys"),
        *("settings.api.retries", "settings.api.token"),
    )
    assert changes == [change]
    assert (service.pool.size, service.url.host, service.url.password) == (3, "h2", "other-secret")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"settings of dev changed: {', '.join(change.keys)}"
    assert "other" not in repr(change)
    service.reload()
    assert changes == [change]


def test_wrong_settings_change_nothing(app: Path, service: DatabaseService) -> None:
    changes = told(service)
    before = service.environment
    lay_out(app, {"env/dev.yaml": "host: h2\nprt: 1\n"})
    with pytest.raises(BadConfiguration, match=r"env/dev\.yaml:2: unknown key 'prt'"):
        service.reload()
    assert service.environment is before
    assert changes == []


def test_settings_that_are_no_longer_secure_are_refused(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = DatabaseService("prod")
    lay_out(app, {"env/prod.yaml": "host: h\ndatabase: d\nsecurity: {cookie_secure: false}\n"})
    with pytest.raises(BadConfiguration, match="cookie_secure: false, expected true"):
        service.reload()
    assert service.environment.security().cookie_secure


def test_a_subscriber_that_fails_or_has_left_harms_nobody(
    app: Path, service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    left: list[Change] = []
    leave = service.subscribe(left.append)

    def fail(change: Change) -> None:
        raise ValueError("no")

    service.subscribe(fail)
    changes = told(service)
    leave()
    leave()
    lay_out(app, {"env/dev.yaml": "host: h1\ndatabase: d\nseeds: [core]\n"})
    assert service.reload().keys == ("seeds",)
    assert len(changes) == 1
    assert left == []
    assert "fail" in caplog.text


def test_connections_are_new_where_they_must_be(
    app: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stamp(cluster.target(database))
    lines = f"url: {cluster.url(database)}\n"
    lay_out(app, {"env/dev.yaml": lines, "env/dev.env": ""})
    service = DatabaseService("dev")
    question = text("SELECT pg_backend_pid(), current_setting('statement_timeout')")
    with service.session() as session:
        backend, timeout = session.execute(question).one()
        lay_out(app, {"env/dev.yaml": f"{lines}settings: {{a: 1}}\n"})
        assert not service.reload().reconnects
    with service.session() as session:
        assert session.execute(question).one() == (backend, timeout)
        lay_out(app, {"env/dev.yaml": f"{lines}pool: {{statement_timeout: 7}}\n"})
        assert service.reload().reconnects
        assert session.execute(question).one() == (backend, timeout)  # to the end of its block
    with service.session() as session:
        assert session.execute(question).one()[1] == "7s"
        assert service.engine.pool.checkedout() == 1
    gone = "SELECT FROM pg_stat_activity WHERE pid = %s"
    until(lambda: not cluster.execute(gone, parameters=(backend,)))
    service.dispose()


def test_the_service_of_the_process_is_reloaded(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default, "_service", None)
    monkeypatch.setenv("PGTASKS_ENV", "prod")
    changes: list[Change] = []
    pgtasks.service.subscribe(changes.append)
    lay_out(app, {"env/prod.yaml": "host: h\ndatabase: d\nsettings: {mail: {port: 26}}\n"})
    assert pgtasks.service.reload() == Change("prod", ("settings.mail.port",))
    assert len(changes) == 1


# --- the watch ---


def write_anew(path: Path, content: str) -> None:
    """Write a file as editors do: beside it, then renamed over it."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(content, encoding="utf-8")
    beside.replace(path)


def test_a_change_of_a_file_is_noticed(app: Path, service: DatabaseService) -> None:
    changes = told(service)
    service.watch(LOOK)
    lay_out(app, {"env/dev.yaml": "host: h2\ndatabase: d\n"})
    until(lambda: len(changes) == 1)
    write_anew(app / "env/dev.yaml", "host: h3\ndatabase: d\n")
    until(lambda: len(changes) == 2)
    write_anew(app / "env/dev.yaml", "host: h4\ndatabase: d\n")
    until(lambda: len(changes) == 3)
    lay_out(app, {".env": "INVOKE_PGTASKS_ENVIRONMENTS_DEV_JOBS=9\n"})
    until(lambda: len(changes) == 4)
    lay_out(app, {"invoke.yaml": "pgtasks: {environments: {dev: {seeds: [a]}}}\n"})
    until(lambda: len(changes) == 5)
    (app / "env/dev.env").unlink()
    until(lambda: len(changes) == 6)
    assert [change.keys for change in changes] == [
        *[("host",)] * 3,
        *(("jobs",), ("seeds",), ("password",)),
    ]


def stamp(path: Path) -> int:
    """Return the time that the file system gives to a file now."""
    path.write_text("")
    return path.stat().st_ctime_ns


def test_a_change_that_keeps_time_and_size_is_noticed(app: Path, service: DatabaseService) -> None:
    changes = told(service)
    service.watch(LOOK)
    file = app / "env/dev.yaml"
    before = file.stat()
    until(lambda: stamp(app / "later") > before.st_ctime_ns)  # some kernels count in clock ticks
    file.write_text("host: h2\ndatabase: d\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(lambda: len(changes) == 1)


@pytest.mark.parametrize("gone", ["file", "folder", "root", "content"])
def test_settings_that_are_gone_lead_to_no_other_database(
    app: Path, service: DatabaseService, gone: str
) -> None:
    changes = told(service)
    moved = {"file": app / "env/dev.yaml", "folder": app / "env", "root": app, "content": None}
    if path := moved[gone]:
        path.rename(app.parent / "aside")
    else:
        (app / "env/dev.yaml").write_text("")
    with pytest.raises(BadConfiguration, match=r"env/dev\.\w+: .*restart the application"):
        service.reload()
    assert (service.url.host, changes) == ("h1", [])
    if path:
        (app.parent / "aside").rename(path)
        assert service.reload().keys == ()


def test_the_watch_follows_the_settings_to_another_folder(
    app: Path, service: DatabaseService
) -> None:
    changes = told(service)
    service.watch(LOOK)
    lay_out(app, {"conf/dev.yaml": "host: h2\ndatabase: d\n"})
    lay_out(app, {"invoke.yaml": "pgtasks: {folders: {env: conf}}\n"})
    until(lambda: len(changes) == 1)
    lay_out(app, {"conf/dev.yaml": "host: h3\ndatabase: d\n"})
    until(lambda: len(changes) == 2)


def test_a_subscriber_that_exits_does_not_end_the_watch(
    app: Path, service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    changes = told(service)
    service.subscribe(lambda _: sys.exit(3))
    service.watch(LOOK)
    for number in (2, 3):
        lay_out(app, {"env/dev.yaml": f"host: h{number}\ndatabase: d\n"})
        until(lambda number=number: len(changes) == number - 1)
    assert "a subscriber has called sys.exit(3), the watch goes on" in caplog.text


@pytest.mark.parametrize("what", ["reload", "engine"])
def test_a_process_forked_meanwhile_is_not_held(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The thread that holds the lock is not there in the child."""
    inside, go_on = threading.Event(), threading.Event()
    real = environment.find_project

    def held(*args: Path) -> Project:
        inside.set()
        go_on.wait(2 * PATIENCE)
        return real(*args)

    monkeypatch.setattr(environment, "find_project", held)
    use = service.reload if what == "reload" else lambda: service.engine
    thread = threading.Thread(target=use)
    thread.start()
    assert inside.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE))
        go_on.set()
        use()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    thread.join()


def test_a_broken_file_is_logged_in_one_line_and_changes_nothing(
    app: Path, service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    changes = told(service)
    service.watch(LOOK)
    # whole from its first moment: one that is empty for as long as two looks would be logged too
    write_anew(app / "env/dev.yaml", "host: [\n")
    until(lambda: "the settings stay as they were: env/dev.yaml" in caplog.text)
    assert changes == []
    assert service.url.host == "h1"
    write_anew(app / "env/dev.yaml", "host: h2\ndatabase: d\n")
    until(lambda: len(changes) == 1)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.ERROR, logging.WARNING]


def test_a_watch_ends_and_is_not_busy(app: Path, service: DatabaseService) -> None:
    before = threads()
    service.watch(600)
    service.watch(600)  # in place of the first
    assert len(threads() - before) == 1
    service.unwatch()  # at once
    assert threads() <= before


def test_a_subscriber_may_end_the_watch(app: Path, service: DatabaseService) -> None:
    changes, before = told(service), threads()
    service.subscribe(lambda _: service.unwatch())
    service.watch(LOOK)
    lay_out(app, {"env/dev.yaml": "host: h2\ndatabase: d\n"})
    until(lambda: len(changes) == 1)
    until(lambda: threads() <= before)


def test_a_forked_process_watches_too(app: Path, service: DatabaseService) -> None:
    service.watch(LOOK)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        seen = threading.Event()
        service.subscribe(lambda _: seen.set())
        os.write(writes, b"ready")
        os._exit(0 if seen.wait(PATIENCE) else 1)
    assert os.read(reads, 5) == b"ready"
    lay_out(app, {"env/dev.yaml": "host: h2\ndatabase: d\n"})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    service.unwatch()
    child = os.fork()
    if child == 0:
        os._exit(threading.active_count())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    os.close(reads)
    os.close(writes)
