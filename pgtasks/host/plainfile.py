"""Regular files in untrusted folders: no link is followed, and no pipe is opened.

The path of the folder may contain links, but no name in it may be one.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
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


class UnusableFile(OSError):
    """A file is refused: not a regular file, or too large; `strerror` has the reason."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(0, why, str(path))


def kind(mode: int) -> str:
    """Return the kind of a file by its mode: `a named pipe`, empty for a regular file."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def opened(folder: Path, name: str, flags: int = os.O_RDONLY) -> int:
    """Open a regular file below a folder, by its relative name; raises UnusableFile.

    No part of the name may be a link, the path of the folder may be one. O_CREAT makes a file that
    only its owner can read.
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
        raise UnusableFile(folder / name, fault)
    return handle


def _at(folder: int, name: str, flags: int, path: str | Path) -> int:
    """Open a name in an open folder, raising UnusableFile with the reason if that fails."""
    try:
        return os.open(name, flags | _OPEN, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:
        # a link, a file instead of a folder, a socket: the system's message does not say which
        fault = kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if fault and not (flags & os.O_DIRECTORY and fault == _KINDS[stat.S_IFDIR]):
            raise UnusableFile(path, fault) from None
        raise


def read(folder: Path, name: str, *, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes below a folder, raising UnusableFile."""
    handle = opened(folder, name)
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > limit:
            raise UnusableFile(folder / name, f"larger than {limit:,} bytes")
        content = file.read(size + 1)  # this allocates the whole size at once
    if len(content) > size:
        raise UnusableFile(folder / name, "it grew while it was read")
    return content


def read_several(folder: str, limits: Mapping[str, int]) -> dict[str, bytes | str]:
    """Read regular files of a folder, each of at most so many bytes.

    The result has the reason instead for those that are refused or cannot be read, and nothing for
    those that are not there.
    """
    found: dict[str, bytes | str] = {}
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        return dict.fromkeys(limits, _why(exc))
    try:
        for name, limit in limits.items():
            try:
                found[name] = _read_at(at, name, limit, f"{folder}/{name}")
            except FileNotFoundError:
                pass
            except OSError as exc:
                found[name] = _why(exc)
    finally:
        os.close(at)
    return found


def _why(exc: OSError) -> str:
    return exc.strerror or str(exc)


def _read_at(at: int, name: str, limit: int, path: str) -> bytes:
    """Read a regular file of an open folder at once, raising UnusableFile."""
    handle = _at(at, name, os.O_RDONLY, path)
    try:
        status = os.fstat(handle)
        if fault := kind(status.st_mode):
            raise UnusableFile(path, fault)
        if status.st_size > limit:
            raise UnusableFile(path, f"larger than {limit:,} bytes")
        content = os.read(handle, status.st_size + 1)
    finally:
        os.close(handle)
    if len(content) != status.st_size:
        raise UnusableFile(path, "its size changed while it was read")
    return content


def head(folder: Path, name: str, size: int) -> bytes:
    """Return the first bytes of a regular file, nothing if it cannot be read."""
    try:
        with os.fdopen(opened(folder, name), "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def replace(folder: Path, name: str, content: bytes, *, mode: int = 0o600) -> None:
    """Write a small file into a folder atomically, replacing an existing one.

    Several processes may do so at once: each writes its own temporary file, and the last one wins.
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
        making.replace(folder / name)  # this replaces a link itself, not its destination
    except BaseException:
        making.unlink(missing_ok=True)
        raise


def _sweep(folder: Path, name: str) -> None:
    """Remove temporary files of killed processes, those older than an hour."""
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _ABANDONED:
                    path.unlink()


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below a folder except folders: the relative name, and its status.

    Links are not followed.
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
