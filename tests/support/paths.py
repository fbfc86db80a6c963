"""Where the repository, its tests, and what the tests write are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parent.parent
_IN_MEMORY = Path("/dev/shm")
_ENOUGH = 6 * 1024**3  # bytes; a run of all tests needs less than a quarter


def _temporary() -> Path:
    """Return the folder for servers, databases, projects and backups: in memory where there is.

    On a disk a new database costs ten times the CPU time, for its three hundred files. The path is
    short: sockets are created below it.
    """
    usable = os.access(_IN_MEMORY, os.W_OK | os.X_OK)
    if usable and shutil.disk_usage(_IN_MEMORY).free > _ENOUGH:
        return _IN_MEMORY
    return Path("/tmp")


TEMPORARY = _temporary()
