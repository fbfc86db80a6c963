"""Threads that one can wait for, also after a wait that a signal ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from waiting import PATIENCE

from pgtasks.host.worker import Worker


@pytest.fixture
def alarm() -> Iterator[None]:
    """Let SIGALRM raise what Ctrl-C raises."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_wait_that_a_signal_ends_leaves_the_worker_running(alarm: None) -> None:
    leave = threading.Event()
    worker = Worker(leave.wait)
    worker.start()
    for seconds in (None, 60):
        with pytest.raises(KeyboardInterrupt):
            _interrupted(worker, seconds)
        assert not worker.wait(0)
    leave.set()
    assert worker.wait(PATIENCE)


def _interrupted(worker: Worker, seconds: float | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    worker.wait(seconds)


def test_a_worker_that_was_never_begun_is_not_waited_for() -> None:
    assert Worker(lambda: None).wait()


def test_a_failure_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    worker = Worker(int, "no number")
    worker.start()
    assert worker.wait(PATIENCE)


def test_a_signal_does_not_come_between_start_and_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that was started must be waited for, whenever the signal comes."""
    leave = threading.Event()
    worker = Worker(leave.wait)
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.start()
    assert not worker.wait(0)
    leave.set()
    assert worker.wait(PATIENCE)
