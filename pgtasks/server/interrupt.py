"""Handle Ctrl-C during a long statement.

libpq keeps waiting for the server after a signal, and Python raises KeyboardInterrupt only when the
driver returns: without this module, Ctrl-C during CREATE INDEX takes effect when it is done.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from pgtasks.host.signals import ENDING
from pgtasks.host.worker import Worker
from pgtasks.report import typed
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.settings.target import Target


@contextmanager
def cancelling(connections: Collection[Any]) -> Iterator[None]:
    """Cancel the statements of these connections when a signal ends the run, during a block.

    The collection may grow meanwhile. The signal's own handler runs when the driver returns. Only
    the main thread gets signals; in any other thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = Worker(_watch, reader, connections)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # the watcher reads an end of file
        watcher.wait()
        os.close(reader)


def _watch(reader: int, connections: Collection[Any]) -> None:
    while number := os.read(reader, 1):
        if number[0] not in ENDING:  # somebody else's handler: a terminal was resized, for example
            continue
        for running in list(connections):
            try:
                running.cancel()
            except Exception:  # closed, lost, or a driver without cancel
                continue


@contextmanager
def telling_of(target: Target) -> Iterator[None]:
    """Report the state of a target if Ctrl-C ends a block that replaces or drops it.

    The block writes nothing into the target's database itself. The state is read from the server.
    """
    before = _state(target)
    with telling(lambda: _difference(target.database, before, _state(target))):
        yield


def _state(target: Target) -> tuple[int, bool] | None:
    """Return the OID of the target's database and whether it is valid, None if it is missing."""
    place = target.at(target.maintenance)
    with connection.session(place, read_only=True, purpose="interrupted") as conn:
        return connection.row(
            conn,
            "SELECT oid::bigint, datconnlimit <> -2 FROM pg_database WHERE datname = %s",
            (target.database,),
            into=tuple[int, bool],
        )


def _difference(name: str, before: tuple[int, bool] | None, after: tuple[int, bool] | None) -> str:
    if before == after:
        return f"{name!r} is as it was" if before else f"{name!r} does not exist, as before"
    if after is None:
        return f"{name!r} is dropped"
    if not after[1]:
        return f"{name!r} is half dropped, {typed.task('db.drop')} drops the rest"
    return f"{name!r} is replaced, {typed.task('db.undo')} takes that back"
