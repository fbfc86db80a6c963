"""Folders and files of ours on this machine: their modes hold under any umask."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from pgtasks import plainfile
from pgtasks.errors import Failed

_OTHERS_WRITE = 0o002


def folder(path: Path, *, mode: int = 0o700) -> None:
    """Make a folder with what is missing above it, durably, for its owner alone.

    One of this account's that is there is closed to the writing of others: a umask of 0 made it so.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700)
        except FileExistsError:
            continue  # another run was faster
        each.chmod(mode)
        _sync(each.parent)
    if not missing:
        _close(path)


def state(path: Path) -> None:
    """Make a project's folder .pgtasks, which git ignores; what is there stays as it is."""
    folder(path, mode=0o755)  # the account of an embedded server must enter it
    if not (path / ".gitignore").exists():
        plainfile.replace(path, ".gitignore", b"*\n", mode=0o644)


def _close(path: Path) -> None:
    found = path.stat()
    shared = found.st_mode & stat.S_ISVTX  # as /tmp is
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS_WRITE and not shared:
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own(path: Path) -> None:
    """Raise Failed for a folder, or a link to one, that a stranger put where ours are."""
    try:
        found, above = path.lstat(), path.parent.stat()
    except FileNotFoundError:
        return
    if found.st_uid not in (os.geteuid(), 0, above.st_uid):
        raise Failed(
            f"{str(path)!r} belongs to {_account(found.st_uid)!r}, not to who runs this: "
            "look what is in it, and move it away"
        )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def opened(path: Path, flags: int) -> int:
    """Open a plain file, made for its owner alone where it is missing; raises OSError."""
    mode = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags | mode | os.O_CREAT, 0o600)
    if found := plainfile.kind(os.fstat(handle).st_mode):
        os.close(handle)
        raise plainfile.Odd(path, found)
    return handle
