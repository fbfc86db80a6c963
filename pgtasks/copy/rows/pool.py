"""The workers of a copy: pairs of sessions that copy tables and build their indexes.

What takes longest comes first: a table counts with its indexes, because they can only be built
when it is in. A failure of one worker ends all.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg2

from pgtasks.copy.rows import stream, tables
from pgtasks.copy.rows.flush import Flusher
from pgtasks.copy.rows.indexes import IndexBuild
from pgtasks.copy.rows.relay import Relay
from pgtasks.copy.rows.tables import TableCopy
from pgtasks.copy.rows.throttle import Throttle
from pgtasks.errors import PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.report import count, plural
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.rows import hides

Opened = Callable[[], Connection]
Checked = Callable[[Connection, Sequence[TableCopy]], None]


@dataclass(frozen=True)
class Work:
    """What the workers do, and their sessions.

    `source` are sessions in the snapshot, one for each worker, which ends it when the last table is
    read; `target` opens a session. `lock` is called before tables are read and `check`
    afterwards, while they are locked: it raises an error if they are not those of the snapshot.
    A `relay` copies large tables on the host of both servers. `masks` says that the source has
    masked columns, which conditions may read.
    """

    source: Sequence[Connection]
    target: Opened
    batches: Sequence[Sequence[TableCopy]]
    indexes: Mapping[int, Sequence[IndexBuild]]
    lock: Checked
    check: Checked
    throttle: Throttle
    relay: Relay | None = None
    masks: bool = False


@dataclass
class _Pair:
    """The sessions of a worker; that of the target is opened when it is first needed."""

    source: Connection
    open_target: Opened
    _target: Connection | None = None

    @property
    def target(self) -> Connection:
        if self._target is None:
            self._target = self.open_target()
        return self._target

    def cancel(self) -> None:
        for conn in (self.source, self._target):
            if conn is not None and not conn.closed:
                with suppress(psycopg2.Error):
                    conn.cancel()

    def close(self) -> None:
        self.source.close()
        if self._target is not None:
            self._target.close()


@dataclass(order=True)
class _Step:
    cost: int  # negative, so that the largest is first
    number: int
    run: Callable[[_Pair], None] = field(compare=False)
    reads: bool = field(compare=False)
    index: str = field(compare=False, default="")


class Pool:
    """Workers in threads. Leaving the block ends them."""

    def __init__(self, work: Work) -> None:
        self._work, self._steps = work, list[_Step]()
        self._ready = threading.Condition()
        self._reading = self._running = self._number = 0
        self._left = {table: len(builds) for table, builds in work.indexes.items()}
        self._failure: BaseException | None = None
        self._stopped = False
        self._pairs = [_Pair(conn, work.target) for conn in work.source]
        self._workers = [Worker(self._serve, pair, name="copy") for pair in self._pairs]
        self.rows: dict[int, int] = {}
        self.seconds: dict[str, float] = {}
        self._copied_bytes = self._passed = 0
        self._passing: dict[TableCopy, int] = {}
        self._flusher = Flusher(work.target, lambda: self._passed)
        self._tables = sum(map(len, work.batches))
        self._building_now: set[str] = set()
        for batch in work.batches:
            self._put(self._cost(batch), self._copying(batch), reads=True)

    def _cost(self, batch: Sequence[TableCopy]) -> int:
        return sum(
            table.relation.bytes + max((build.cost for build in self._builds(table)), default=0)
            for table in batch
        )

    def _builds(self, table: TableCopy) -> Sequence[IndexBuild]:
        return self._work.indexes.get(table.relation.oid, ())

    def _put(
        self, cost: int, run: Callable[[_Pair], None], *, reads: bool = False, index: str = ""
    ) -> None:
        with self._ready:
            self._number += 1
            self._reading += reads
            heapq.heappush(self._steps, _Step(-cost, self._number, run, reads, index))
            self._ready.notify()

    def __enter__(self) -> Pool:
        return self

    def start(self) -> None:
        """Start the workers."""
        for worker in self._workers:
            worker.start()
        self._flusher.start()

    def _serve(self, pair: _Pair) -> None:
        try:
            while (step := self._next(pair)) is not None:
                step.run(pair)
                self._done(step)
        except BaseException as exc:
            with self._ready:
                self._failure = self._failure or exc
                self._stopped = True
                self._ready.notify_all()
        finally:
            pair.close()

    def _next(self, pair: _Pair) -> _Step | None:
        with self._ready:
            while not self._stopped:
                if not self._reading:
                    pair.source.close()  # it holds back the vacuum of the source
                if self._steps:
                    self._running += 1
                    step = heapq.heappop(self._steps)
                    self._building_now |= {step.index} - {""}
                    return step
                if not self._running:
                    break
                self._ready.wait()
            return None

    def _done(self, step: _Step) -> None:
        with self._ready:
            self._running -= 1
            self._reading -= step.reads
            self._building_now.discard(step.index)
            self._ready.notify_all()

    def _copying(self, batch: Sequence[TableCopy]) -> Callable[[_Pair], None]:
        def copy(pair: _Pair) -> None:
            began = time.monotonic()
            self._work.lock(pair.source, batch)
            relay = self._work.relay
            if relay is not None and len(batch) == 1 and relay.takes(batch[0]):
                with _naming(batch[0]):
                    rows = relay.copy(batch[0], pair.target, lambda: self._stopped)
                self.rows[batch[0].relation.oid] = rows
                self._work.check(pair.source, batch)
                self._copied(batch, began)
                return
            with _transaction(pair.target):
                if truncate := tables.truncate_statement(batch):
                    connection.execute(pair.target, truncate)
                for table in batch:
                    out, into = tables.out_statement(table), tables.in_statement(table)
                    with _naming(table):
                        rows = stream.copy(
                            pair.source,
                            pair.target,
                            out,
                            into,
                            taken=partial(self._taken, table),
                            is_over=lambda: self._stopped,
                            hidden=hides(table.relation, masks=self._work.masks),
                        )
                    self.rows[table.relation.oid] = rows
                self._work.check(pair.source, batch)
                if len(batch) > 1:
                    for build in (build for table in batch for build in self._builds(table)):
                        connection.execute(pair.target, build.create)
                        if build.adopt is not None:
                            connection.execute(pair.target, build.adopt)
            self._copied(batch, began)

        return copy

    def _taken(self, table: TableCopy, size: int) -> None:
        self._work.throttle.take(size)
        with self._ready:
            self._passed += size
            self._passing[table] = self._passing.get(table, 0) + size

    @property
    def bytes_done(self) -> int:
        """Return the bytes of the tables that are copied, and of what is copied of others."""
        with self._ready:
            under_way = sum(min(size, each.relation.bytes) for each, size in self._passing.items())
            return self._copied_bytes + under_way

    def _copied(self, batch: Sequence[TableCopy], began: float) -> None:
        """Count tables that are copied, and let the indexes of a large one be built."""
        with self._ready:
            self._copied_bytes += sum(table.relation.bytes for table in batch)
            for table in batch:
                self._passing.pop(table, None)
        if len(batch) == 1:
            self.seconds[str(batch[0])] = time.monotonic() - began
            for build in self._builds(batch[0]):
                self._put(build.cost, self._building(build), index=build.name)

    def _building(self, build: IndexBuild) -> Callable[[_Pair], None]:
        def run(pair: _Pair) -> None:
            with self._ready:
                is_alone = self._running == 1 and not self._steps
            connection.execute(pair.target, build.statement(is_alone=is_alone))
            with self._ready:
                self._left[build.table] -= 1
                if self._left[build.table]:
                    return
            for other in self._work.indexes[build.table]:
                if other.adopt is not None:
                    connection.execute(pair.target, other.adopt)

        return run

    @property
    def slowest(self) -> tuple[tuple[str, float], ...]:
        """Return the three tables that took longest, with their seconds."""
        return tuple(sorted(self.seconds.items(), key=lambda item: -item[1])[:3])

    @property
    def note(self) -> str:
        """Return what is done: `12 of 38 tables, building visit_at, visit_pkey`."""
        with self._ready:
            building = sorted(self._building_now)
        done = f"{count(len(self.rows))} of {plural(self._tables, 'table')}"
        return f"{done}, building {', '.join(building)}" if building else done

    @property
    def failed(self) -> bool:
        """Whether a worker has failed."""
        return self._failure is not None

    @property
    def reading(self) -> bool:
        """Whether tables of the source are still to be read."""
        with self._ready:
            return bool(self._reading) and not self._stopped

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether all is done. Raises the error of a worker."""
        end = time.monotonic() + seconds
        are_done = all(worker.wait(max(0.0, end - time.monotonic())) for worker in self._workers)
        if self._failure is not None:
            self._ended()
            raise self._failure
        return are_done

    def _ended(self) -> None:
        """End all workers: repeatedly, because a cancel between two statements has no effect."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        self._work.throttle.end()
        self._flusher.end()
        while not all(worker.wait(0) for worker in self._workers):
            for pair in self._pairs:
                pair.cancel()
            for worker in self._workers:
                worker.wait(0.05)

    def __exit__(self, *_: object) -> None:
        self._ended()
        for pair in self._pairs:
            pair.close()


@contextmanager
def _naming(table: TableCopy) -> Iterator[None]:
    """Name the table in an error."""
    try:
        yield
    except PgtasksError as exc:
        raise type(exc)(f"table {table}: {exc.message}", hint=exc.hint) from None


@contextmanager
def _transaction(conn: Connection) -> Iterator[None]:
    """Run a block in a transaction of a session in autocommit mode."""
    connection.execute(conn, "BEGIN")
    try:
        yield
    except BaseException:
        with suppress(PgtasksError, psycopg2.Error):
            connection.execute(conn, "ROLLBACK")
        raise
    connection.execute(conn, "COMMIT")
