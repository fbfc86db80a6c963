"""The folder of the embedded server that the tests of a project use: in memory if there is room."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # nosec B108
_ROOM = 512 << 20  # bytes that must be free there


def of_tests(project: Path) -> Path:
    """Return the folder for a project, which may not exist; it is its own at any time."""
    digest = hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:12]
    name = f"pgtasks-test-{os.geteuid()}-{digest}"
    known = (place / name for place in _places() if _is_ours(place / name))
    return next(known, _roomy() / name)


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is there, is no link, and belongs to this account."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _places() -> tuple[Path, Path]:
    return _MEMORY, Path(tempfile.gettempdir())


def _roomy() -> Path:
    try:
        free = shutil.disk_usage(_MEMORY).free
    except OSError:
        free = 0
    memory, disk = _places()
    return memory if free >= _ROOM and os.access(memory, os.W_OK) else disk


def running_tests(project: Path) -> list[Path]:
    """Return the folder of the server of the tests, if it is there and belongs to this account."""
    folder = of_tests(project)
    return [folder] if _is_ours(folder) else []
