"""Units of work that threads do without a pause, and what became of them."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from servers import Cluster
from sqlalchemy import text
from sqlalchemy.orm import Session
from waiting import PATIENCE, until

from pgtasks.service import CommitUnknown, DatabaseService

ROWS = "CREATE TABLE public.rows (worker int, number int)"
_SETTING = "INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_PATIENCE"


def let_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services of dev wait for a server as long as a loaded machine takes to bring it back."""
    monkeypatch.setenv(_SETTING, str(int(PATIENCE)))


class Load:
    """Threads that read and write without a pause; `done` has the number of units of each.

    A unit is repeated once. So who disturbs them twice waits in between until all that were under
    way are done: those of a thread that got little time may be as old as the first disturbance.
    """

    def __init__(self, service: DatabaseService, threads: int) -> None:
        self.errors: list[BaseException] = []
        self.done = [0] * threads
        self._workers: list[threading.Thread] = []
        self._service, self._threads, self._stop = service, threads, threading.Event()

    def work(self, worker: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self._service.run(lambda session, number=number: write(session, worker, number))
                self._service.run(read, read_only=True)
            except BaseException as exc:
                self.errors.append(exc)
            self.done[worker] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        self._workers = [
            threading.Thread(target=self.work, args=(n,)) for n in range(self._threads)
        ]
        for worker in self._workers:
            worker.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Let the threads end after their next unit, and wait for them."""
        self._stop.set()
        for worker in self._workers:
            worker.join()

    def await_units(self, number: int) -> None:
        """Wait until each thread has begun and done so many further units."""
        enough = [done + 1 + number for done in self.done]
        until(lambda: all(map(operator.ge, self.done, enough)), lambda: f"{self.done}")

    def check(self, cluster: Cluster, database: str, *, swaps: int) -> None:
        """Check that no unit failed and no row is there twice."""
        unknown = [error for error in self.errors if isinstance(error, CommitUnknown)]
        others = [error for error in self.errors if error not in unknown]
        assert not others, [f"{each.__class__.__name__}: {each}" for each in others]
        assert len(unknown) <= swaps * self._threads  # a COMMIT under way is never repeated
        rows = Counter(cluster.execute("SELECT worker, number FROM rows", database))
        assert [row for row, times in rows.items() if times > 1] == []
        assert rows, "nothing was written after the last swap"


def write(session: Session, worker: int, number: int) -> None:
    session.execute(text("INSERT INTO rows VALUES (:w, :n)"), {"w": worker, "n": number})


def read(session: Session) -> int:
    return int(session.execute(text("SELECT count(*) FROM rows")).scalar_one())
