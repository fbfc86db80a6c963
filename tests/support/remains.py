"""Processes and files that a run leaves on a database host."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from hosts import DatabaseHost


def left(place: DatabaseHost) -> list[str]:
    """Return what lies in the folder for temporary files there."""
    return sorted(path.name for path in place.path(place.temporary).iterdir())


def clear(place: DatabaseHost) -> None:
    """End what a test that failed left there, so that the next one does not fail of it."""
    for each in place.processes():
        session = each.command.startswith("postgres")
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(each.outside, signal.SIGTERM if session else signal.SIGKILL)
    place.do("sh", "-c", f"rm -rf {place.temporary}/*")


def running(place: DatabaseHost, word: str) -> bool:
    return any(word in each.command for each in place.processes())
