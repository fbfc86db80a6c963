"""Cut connections off that are still open some seconds after they were opened.

A driver waits for an answer without limit, and the server's own timeouts are of no use where it is
the server that is silent: a pooler that is paused lets in and answers nothing.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

_DEADLINE = "pgtasks.deadline"


def listen(engine: Engine, seconds: float) -> None:
    """Cut off the connections of an engine that its pool has not closed after some seconds."""

    def opened(connection: Any, record: Any) -> None:
        record.info[_DEADLINE] = _Deadline(connection.fileno(), seconds)

    def closed(connection: Any, record: Any) -> None:
        if deadline := record.info.pop(_DEADLINE, None):
            deadline.cancel()

    event.listen(engine, "connect", opened, insert=True)  # SQLAlchemy asks the server there too
    event.listen(engine, "close", closed)


class _Deadline:
    def __init__(self, descriptor: int, seconds: float) -> None:
        # of its own: the number of the driver's may be another connection's by then
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        with suppress(OSError):  # it was closed meanwhile
            self._socket.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> None:
        self._timer.cancel()
        self._socket.close()
