"""Connect to a server that is busy becoming available: it restarts, fails over, swaps a database.

The errors are known by their texts, since libpq has no SQLSTATE for a refused connection. Where the
server's messages are in another language, only the network's own errors are known.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

Connected = TypeVar("Connected")

_PASSING = re.compile(
    r"just been dropped or renamed|is not currently accepting connections|is starting up"
    r"|is shutting down|recovery|hot standby|session is (not )?read-only"
    r"|terminating connection due to administrator command|connection (already|is) closed"
    r"|Connection refused|No such file or directory|server closed the connection|Connection reset"
)
_FIRST, _LONGEST = 0.01, 0.25  # seconds between two attempts


class Patience:
    """Repeats an attempt for some seconds while the reason of its failure may pass.

    After seconds without success the next attempts fail at once, until one succeeds: a server that
    is down must not hold each request of an application for that time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_down = False

    def connected(
        self, connect: Callable[[], Connected], errors: tuple[type[Exception], ...]
    ) -> Connected:
        """Return what `connect` returns, raising its last error."""
        latest = time.monotonic() + (0 if self._is_down else self._seconds)
        pause = _FIRST
        while True:
            try:
                connection = connect()
            except errors as exc:
                if not _PASSING.search(str(exc)):
                    raise
                if time.monotonic() + pause > latest:
                    self._is_down = True
                    raise
            else:
                self._is_down = False
                return connection
            time.sleep(pause * random.uniform(0.5, 1))  # nosec B311: spreads the attempts
            pause = min(2 * pause, _LONGEST)
