"""Give back the space of a part of a file (fallocate(2), Linux)."""

from __future__ import annotations

import ctypes
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_KEEP_SIZE, _PUNCH_HOLE = 0x1, 0x2


def punch(handle: int, start: int, length: int) -> None:
    """Give back the space of a part of a file, which then reads as zeros; raises OSError."""
    if _fallocate()(handle, _KEEP_SIZE | _PUNCH_HOLE, start, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def possible(folder: Path) -> bool:
    """Return whether the file system of a folder can do that; writes a file without a name."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
            punch(file.fileno(), 0, 1 << 16)
    except OSError:
        return False
    return True


@cache
def _fallocate() -> Any:
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:
        raise OSError("no fallocate on this system") from None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function
