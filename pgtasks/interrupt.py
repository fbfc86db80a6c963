"""Ctrl-C during a long statement.

libpq waits for the server through every signal, and Python raises KeyboardInterrupt only when the
driver has returned: without help, Ctrl-C during CREATE INDEX is answered when the index is there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def cancelling(connections: Collection[Any]) -> Iterator[None]:
    """Cancel what runs on these connections as soon as a signal comes, for the length of a block.

    The collection may grow meanwhile. The signal's own handler runs when the driver returns. In
    another thread than the main one, which gets no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, connections), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # the watcher reads the end of the file
        watcher.join()
        os.close(reader)


def _watch(reader: int, connections: Collection[Any]) -> None:
    while os.read(reader, 1):
        for connection in list(connections):
            try:
                connection.cancel()
            except Exception:  # closed, lost, or of a driver without cancel
                continue
