"""Temporary files and folders of a run; the next run removes those of a killed one.

Their names contain the process ID of their run. Only this user can read them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "pgtasks-run-"


def file(suffix: str) -> tuple[int, Path]:
    """Create a temporary file and return it open, with its path."""
    sweep()
    handle, path = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", suffix=suffix)
    return handle, Path(path)


def folder(*, within: str | None = None) -> Path:
    """Create a temporary folder, in the system's folder for them or in `within`."""
    place = within or tempfile.gettempdir()
    sweep(place)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))


def sweep(place: str | None = None) -> None:
    """Remove the temporary files of killed runs of this user."""
    for path in left(place or tempfile.gettempdir()):
        remove(path)


def left(place: str) -> list[Path]:
    """Return the temporary files of killed runs of this user."""
    paths = []
    for path in Path(place).glob(f"{_PREFIX}*-*"):
        try:
            mine = path.lstat().st_uid == os.getuid()
        except OSError:
            continue  # another run was faster
        if mine and not _alive(path.name.removeprefix(_PREFIX).split("-")[0]):
            paths.append(path)
    return paths


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    if not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):
        pass  # a process of another user has that ID now, or the name is not ours
    return True
