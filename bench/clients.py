"""Clients that connect, ask and leave, again and again: what they see of a swap."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import psycopg2


@dataclass
class Clients:
    """A block's worth of clients, each in a loop without a pause.

    After the block `failed` is the number of probes that did not get their answer, `gap` the
    longest time in seconds in which no client got one.
    """

    url: str
    number: int = 8
    probes: int = 0
    failed: int = 0
    gap: float = 0.0
    _answers: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Clients:
        for _ in range(self.number):
            self._threads.append(threading.Thread(target=self._loop, daemon=True))
            self._threads[-1].start()
        return self

    def _loop(self) -> None:
        while not self._stop.is_set():
            answered = _probe(self.url)
            with self._lock:
                self.probes += 1
                if answered:
                    self._answers.append(time.monotonic())
                else:
                    self.failed += 1

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        answers = sorted(self._answers)
        pairs = itertools.pairwise(answers)
        self.gap = max((later - earlier for earlier, later in pairs), default=0.0)


def _probe(url: str) -> bool:
    """Tell whether a new connection gets an answer out of the database's content."""
    try:
        connection = psycopg2.connect(url, connect_timeout=30)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM role_master")
                return cursor.fetchone() != (0,)
        finally:
            connection.close()
    except psycopg2.Error:
        return False
