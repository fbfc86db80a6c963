"""The project's own files of a folder, by name; a pipe or a device among them is not opened.

Hidden names are not the project's: editors lock and save there, systems keep attributes.
"""

from __future__ import annotations

import os
from pathlib import Path

from pgtasks.host import plainfile


def listed(folder: Path, *suffixes: str) -> list[Path]:
    """Return the paths of a folder's files that end so, none without a folder; raises OSError."""
    try:
        paths = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(each for each in paths if each.suffix in suffixes and each.name[0] != ".")


def text(path: Path, *, errors: str = "strict") -> str:
    """Read a file of text as `Path.read_text` does, which may be a link; raises OSError.

    A named pipe would hold the run until somebody writes into it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, encoding="utf-8-sig", errors=errors) as file:
        if fault := plainfile.kind(os.fstat(handle).st_mode):
            raise plainfile.UnusableFile(path, fault)
        return file.read()
