"""Plain files in folders that others may have filled: no link is followed, no pipe waited for.

A folder may lie behind a link, as whoever named it wants; what is in it may not.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_ABANDONED = 3600.0  # seconds
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Odd(OSError):
    """Report what is no plain file; `strerror` says what it is instead."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(0, why, str(path))


def kind(mode: int) -> str:
    """Return what a file's mode says that it is: nothing for a plain file, `a named pipe`."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no plain file")


def opened(folder: Path, name: str, flags: int = os.O_RDONLY) -> int:
    """Open a plain file below a folder by its relative name; raises Odd for anything else.

    No part of the name may be a link, the folder itself may. What O_CREAT makes is its owner's.
    """
    *above, last = name.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            below = _at(at, part, os.O_RDONLY | os.O_DIRECTORY, folder / name)
            os.close(at)
            at = below
        handle = _at(at, last, flags, folder / name)
    finally:
        os.close(at)
    fault = kind(os.fstat(handle).st_mode)
    if fault:
        os.close(handle)
        raise Odd(folder / name, fault)
    return handle


def _at(folder: int, name: str, flags: int, path: Path) -> int:
    """Open one name of a folder that is open, raising Odd that says why where that is refused."""
    try:
        return os.open(name, flags | _OPEN, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:
        # a link, a folder's place taken by a file, a socket: the system's words name none of them
        fault = kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if fault and not (flags & os.O_DIRECTORY and fault == _KINDS[stat.S_IFDIR]):
            raise Odd(path, fault) from None
        raise


def read(folder: Path, name: str, *, limit: int) -> bytes:
    """Read a plain file below a folder, raising Odd for another kind or more than `limit` bytes."""
    handle = opened(folder, name)
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > limit:
            raise Odd(folder / name, f"larger than {limit:,} bytes")
        content = file.read(size + 1)  # room for so much is made at once
    if len(content) > size:
        raise Odd(folder / name, "it grew while it was read")
    return content


def replace(folder: Path, name: str, content: bytes, *, mode: int = 0o600) -> None:
    """Put a small file into a folder, in the place of one that is there, whole or not at all.

    Several processes may do so at once: each writes a file of its own, and the last one stays.
    """
    _sweep(folder, name)
    making = folder / f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(making, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        making.replace(folder / name)  # in the place of a link, not of what it names
    except BaseException:
        making.unlink(missing_ok=True)
        raise


def _sweep(folder: Path, name: str) -> None:
    """Remove what killed processes left half written: nobody writes a small file for an hour."""
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _ABANDONED:
                    path.unlink()


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all that is below a folder but folders: its relative name, and what it is.

    A link comes as a link: nothing behind it is looked at.
    """
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(folder / above) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                name = f"{above}{entry.name}"
                if stat.S_ISDIR(status.st_mode):
                    pending.append(f"{name}/")
                else:
                    yield name, status
