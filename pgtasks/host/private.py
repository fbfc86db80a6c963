"""Folders and files that only this account can access, under any umask."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.host import plainfile
from pgtasks.report import account

_OTHERS_WRITE = 0o002


def folder(path: Path, *, mode: int = 0o700) -> None:
    """Create a folder and its parents, durably, which only this account can access.

    If this account's folder exists, write permission of others is removed from it: a umask of 0 may
    have given it.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700)
        except FileExistsError:
            continue  # another run was faster
        each.chmod(mode)
        sync(each.parent)
    if not missing:
        _close(path)


def state(path: Path) -> None:
    """Create a project's folder .pgtasks, which git ignores, unless it exists."""
    folder(path, mode=0o755)  # the account of an embedded server must enter it
    if not (path / ".gitignore").exists():
        plainfile.replace(path, ".gitignore", b"*\n", mode=0o644)


def _close(path: Path) -> None:
    status = path.stat()
    shared = status.st_mode & stat.S_ISVTX  # like /tmp
    if status.st_uid == os.geteuid() and status.st_mode & _OTHERS_WRITE and not shared:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own(path: Path) -> None:
    """Raise Failed if a folder, or a link to it, belongs to another account."""
    try:
        status, above = path.lstat(), path.parent.stat()
    except FileNotFoundError:
        return
    if status.st_uid not in (os.geteuid(), 0, above.st_uid):
        raise Failed(
            f"{str(path)!r} belongs to {account.name_of(status.st_uid)!r}, not to this account: "
            "look at its content, and move it away"
        )


def exposed(path: Path, owner: int) -> str:
    """Return why other accounts can change a folder, its content or a folder above, if they can.

    This account, root and `owner` (whose code is run anyway) are trusted.
    """
    trusted = {os.geteuid(), 0, owner}
    try:
        above = {*path.absolute().parents, *path.resolve().parents}
        inside = [path.absolute(), path.resolve(), *path.rglob("*")]
        for each in (*sorted(above), *inside):
            if why := _open_to(each.lstat(), trusted, above=each in above):
                return f"{str(each)!r} {why}"
    except OSError as exc:
        return f"{str(path)!r} cannot be read ({exc.strerror})"
    return ""


def _open_to(status: os.stat_result, trusted: set[int], *, above: bool) -> str:
    if status.st_uid not in trusted:
        return f"belongs to {account.name_of(status.st_uid)!r}"
    if stat.S_ISLNK(status.st_mode) or (above and status.st_mode & stat.S_ISVTX):
        return ""  # in a shared folder, such as /tmp, nobody can rename the files of others
    if status.st_mode & _OTHERS_WRITE:
        return "can be written by every account"
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return "can be written by its group"
    return ""


def _is_private(gid: int) -> bool:
    """Return whether a group has only one member, the account of the same name."""
    try:
        group = grp.getgrgid(gid)
        return pwd.getpwnam(group.gr_name).pw_gid == gid and {*group.gr_mem} <= {group.gr_name}
    except KeyError:
        return False


def opened(path: Path, flags: int) -> int:
    """Open a regular file, creating it if missing, for its owner only; raises OSError."""
    mode = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags | mode | os.O_CREAT, 0o600)
    if fault := plainfile.kind(os.fstat(handle).st_mode):
        os.close(handle)
        raise plainfile.UnusableFile(path, fault)
    return handle
