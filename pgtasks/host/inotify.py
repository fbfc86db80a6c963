"""Which files of a folder were opened for writing, and which are closed (Linux, inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_CLOSE_WRITE, _CREATE, _OVERFLOW = 0x8, 0x100, 0x4000
_HEAD = struct.Struct("iIII")  # watch descriptor, mask, cookie, length of the name
_PIECE = 1 << 16


@dataclass(frozen=True)
class Event:
    """A file that was created, or that its writer has closed."""

    name: str
    closed: bool


class Watch:
    """The events of one folder; raises OSError where there is no inotify, or no instance left.

    An overflow of the kernel's queue loses events, then `lost` is set: list the folder at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.lost = False
        self._handle = _checked(_libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            _checked(
                _libc().inotify_add_watch(self._handle, os.fsencode(folder), _CLOSE_WRITE | _CREATE)
            )
        except OSError:
            self.close()
            raise

    def wait(self, seconds: float) -> list[Event]:
        """Return the events of the next `seconds` at most, as soon as there are some."""
        if not select.select([self._handle], [], [], seconds)[0]:
            return []
        events = []
        for mask, name in _events(os.read(self._handle, _PIECE)):
            if mask & _OVERFLOW:
                self.lost = True
            else:
                events.append(Event(name, closed=bool(mask & _CLOSE_WRITE)))
        return events

    def close(self) -> None:
        """Stop watching."""
        os.close(self._handle)


def _events(content: bytes) -> list[tuple[int, str]]:
    events, start = [], 0
    while start < len(content):
        _, mask, _, length = _HEAD.unpack_from(content, start)
        start += _HEAD.size
        name = os.fsdecode(content[start : start + length].rstrip(b"\0"))
        start += length
        events.append((mask, name))
    return events


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError("no inotify on this system")
    return libc


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
