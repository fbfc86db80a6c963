"""Notice a connection of the pool that has ended, before a block uses it.

A server that ends a session says so and closes the socket, which then has something to read: to
look at that costs a hundredth of a round trip. What ends without a word (a line that was cut, a
firewall that forgets idle connections) does so while a connection is idle: after a second of that,
the server is asked.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidatePoolError

_TRUSTED = 1.0  # seconds of idleness after which a silent socket is no proof
_RETURNED = "pgtasks.returned"  # when the connection came back to the pool


def listen(engine: Engine) -> None:
    """Check each connection that was used before as it leaves the pool."""
    dialect = engine.dialect

    def returned(connection: Any, record: Any) -> None:
        record.info[_RETURNED] = time.monotonic()

    def checked(connection: Any, record: Any, proxy: Any) -> None:
        since = record.info.get(_RETURNED)  # a new connection has none
        if since is None or (time.monotonic() - since < _TRUSTED and is_silent(connection)):
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as exc:
            raise InvalidatePoolError from exc  # the others of the pool are no better

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", checked)


def is_silent(connection: Any) -> bool:
    """Return whether the socket of a driver's connection is open and has nothing to read.

    False, so that the server is asked, where nobody can say: Windows has no poll(), and eventlet
    takes it away.
    """
    if connection.closed or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
