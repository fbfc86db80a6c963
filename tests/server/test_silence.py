"""A server that lets in and then never answers ends a run; one that works on does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest
from servers import Cluster, running, wheel_bin

from pgtasks.host import pipeline
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.server import connection, silence
from pgtasks.server.errors import NoAnswer
from pgtasks.server.lock import Lock
from pgtasks.server.session import Session
from pgtasks.settings.target import Target

LONG = 300.0  # seconds in which each of these tests must have ended: the bounds are made small


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_DOUBT": 0.3, "_AGAIN": 0.2, "_TICK": 0.05, "_PATIENCE": 60}.items():
        monkeypatch.setattr(silence, name, seconds)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LONG


def pid_of(conn: connection.Connection) -> int:
    assert isinstance(conn, Session)
    return conn.pid


def test_the_bounds_add_up_to_less_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert silence.ANSWER + silence._TICK < 60
    assert silence._DOUBT + 1.5 * silence._PATIENCE + 2 * silence._TICK < 60


def test_a_statement_that_never_arrives(target: Target) -> None:
    with connection.session(target) as conn, stopped(pid_of(conn)), soon():
        with pytest.raises(NoAnswer, match="did not reach the server"):
            connection.execute(conn, "SELECT 1")
        assert conn.closed


def test_a_small_question_has_a_limit(target: Target) -> None:
    answer = pytest.raises(NoAnswer, match="did not answer for 1 seconds")
    with connection.session(target) as conn, soon(), answer:
        connection.value(conn, "SELECT 1 FROM pg_sleep(600)", limit=1)


def test_work_goes_on_while_the_server_lives(target: Target) -> None:
    with connection.session(target) as conn:
        connection.execute(conn, "SELECT pg_sleep(2)")
        assert connection.value(conn, "SELECT 1 FROM pg_sleep(1)", limit=None) == 1


def test_a_commit_is_watched_too(target: Target) -> None:
    with connection.session(target) as conn, soon():
        conn.autocommit = False
        connection.execute(conn, "SELECT 1")
        with stopped(pid_of(conn)), pytest.raises(psycopg2.OperationalError, match="did not reach"):
            conn.commit()


@pytest.fixture
def alone() -> Iterator[Cluster]:
    with running(wheel_bin(16)) as cluster:
        yield cluster


def test_a_server_that_stands_still(alone: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_PATIENCE", 2)
    answer = pytest.raises(NoAnswer, match="stopped answering, also to a second session")
    with (
        connection.session(alone.target()) as conn,
        soon(),
        stopped(alone.process.pid, pid_of(conn)),
        answer,
    ):
        connection.execute(conn, "SELECT pg_sleep(600)")


def test_ctrl_c_is_not_held_up_by_a_server_that_stands_still(
    alone: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.server.session._CANCEL_PATIENCE", 2)
    with (
        connection.session(alone.target()) as conn,
        soon(),
        stopped(alone.process.pid),
        pytest.raises(psycopg2.OperationalError),
    ):
        conn.cancel()


def test_a_run_ends_that_waits_for_a_tool_beside_a_silent_lock(target: Target) -> None:
    with soon(), pytest.raises(NoAnswer, match="did not reach the server"):
        _sleep_beside_a_silent_lock(target)


def _sleep_beside_a_silent_lock(target: Target) -> None:
    with Lock(target, "test") as lock, stopped(pid_of(lock.connection)):
        pipeline.run(HERE, [Command(("/bin/sleep", "600"))])
