"""Detect a server that stops answering during a statement.

libpq waits for an answer without limit, and TCP keepalives do not detect a stopped server, or a
proxy or firewall that dropped the session. So every statement is watched. A small query has a
limit. Other statements may run as long as the server is alive: after some seconds without an
answer, another session checks. If that one gets no answer either, or if the server reports that the
first session is idle although its statement was sent long ago, the socket of the first session is
shut down, and the driver returns.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from pgtasks.host.worker import Worker

ANSWER = 40.0  # seconds that a small query may take
_DOUBT = 12.0  # seconds of silence after which another session checks
_PATIENCE = 12  # seconds that the other session may take to connect, and to be answered
_AGAIN = 4.0  # seconds until it checks again whether the server waits for us
_TICK = 1.0


class SessionLost(psycopg2.OperationalError):
    """A session was closed because the server did not answer."""


@dataclass(eq=False)
class Wait:
    """A running statement. `pid` is its backend, 0 if the server has not reported it.

    `over` is called once where the server has ended a statement that still sends to it.
    """

    socket: int
    place: Mapping[str, Any]
    pid: int
    limit: float | None
    began: float = field(default_factory=time.monotonic)
    next_look: float = 0.0
    strikes: int = 0
    fault: str = ""
    over: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.next_look = self.began + _DOUBT


_waits: set[Wait] = set()
_lock = threading.Lock()
_some = threading.Event()
_watcher: threading.Thread | None = None


@contextmanager
def watched(wait: Wait) -> Iterator[None]:
    """Watch a statement for the length of a block, raising SessionLost if it was given up."""
    global _watcher
    with _lock:
        _waits.add(wait)
        if _watcher is None:
            _watcher = threading.Thread(target=_watch, name="silence", daemon=True)
            _watcher.start()
    _some.set()
    try:
        yield
    except psycopg2.Error:
        if wait.fault:
            raise SessionLost(wait.fault) from None
        raise
    finally:
        with _lock:  # from now on the socket is not shut down
            _waits.discard(wait)


def _watch() -> None:
    while True:
        _some.wait()
        with _lock:
            waits = list(_waits)
            if not waits:
                _some.clear()
        now = time.monotonic()
        for wait in waits:
            _look(wait, now)
        time.sleep(_TICK)


def _look(wait: Wait, now: float) -> None:
    if wait.limit is not None and now - wait.began > wait.limit:
        _give_up(wait, f"the server did not answer for {wait.limit:.0f} seconds")
    elif now > wait.next_look:
        wait.next_look = now + 2 * _PATIENCE + _DOUBT
        threading.Thread(target=_judge, args=(wait,), name="silence", daemon=True).start()


def _judge(wait: Wait) -> None:
    """Check the silent session from another one, and give it up if it is lost."""
    asking = _Asking(wait)
    worker = Worker(asking.ask, name="silence")
    worker.start()
    has_ended = worker.wait(_PATIENCE + _PATIENCE / 2)
    waited = time.monotonic() - wait.began
    if not has_ended or asking.silent:
        _give_up(wait, f"the server stopped answering, also to a second session ({waited:.0f} s)")
    elif asking.waits_for_us:
        wait.strikes += 1
        if wait.strikes > 1 and (over := wait.over):
            wait.over = None
            over()
        elif wait.strikes > 1:
            _give_up(wait, f"a statement sent {waited:.0f} s ago did not reach the server")
    else:
        wait.strikes = 0
    wait.next_look = time.monotonic() + (_AGAIN if wait.strikes else _DOUBT)


class _Asking:
    """Check the server in another session."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self.silent = self.waits_for_us = False

    def ask(self) -> None:
        began = time.monotonic()
        try:
            state = self._state()
        except psycopg2.Error:
            # a refused connection, for example by a limit, is an answer too
            self.silent = time.monotonic() - began > _PATIENCE - 1
        else:
            self.waits_for_us = state is not None and state.startswith("idle")

    def _state(self) -> str | None:
        place = {**self._wait.place, "connect_timeout": _PATIENCE}
        with closing(psycopg2.connect(**place)) as other, other.cursor() as cursor:
            cursor.execute(
                "SELECT state FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) %s",
                (self._wait.pid,),
            )
            row = cursor.fetchone()
            return str(row[0]) if row else None


def _give_up(wait: Wait, fault: str) -> None:
    with _lock:
        if wait not in _waits or wait.fault:
            return
        wait.fault = fault
        with suppress(OSError):
            handle = socket.socket(fileno=os.dup(wait.socket))
            with closing(handle):
                handle.shutdown(socket.SHUT_RDWR)
