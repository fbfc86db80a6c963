"""Where the repository, its tests, and what the tests write are."""

from __future__ import annotations

import os
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
    if not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return Path("/tmp")
    system = os.statvfs(_IN_MEMORY)
    programs_run = not system.f_flag & os.ST_NOEXEC  # tests make some
    return (
        _IN_MEMORY if programs_run and system.f_bavail * system.f_frsize > _ENOUGH else Path("/tmp")
    )


TEMPORARY = _temporary()
HOMES = TEMPORARY / "pgtasks-homes"  # of embedded servers of root, see server/embedded/home.py
