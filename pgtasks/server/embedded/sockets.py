"""The folder of a server's socket: short, of mode 0700, and made by pgtasks itself.

A socket's whole path must fit into about 100 bytes (unix(7): 108 on Linux, 104 elsewhere), which a
project's path may not. So the socket always lies in a folder of /tmp: one rule, and connection
strings without the blanks, quotes and emoji of project paths. Not in $XDG_RUNTIME_DIR, which goes
when its user logs out while the server stays.

The name is made from the identity of the data folder (device and inode): that survives a rename of
the project, and a copy of the project has another one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.server.embedded.account import Account
from pgtasks.settings.libpq import SOCKET

PORT = 5432
LONGEST = 93 - 4  # bytes; leaves room for /.s.PGSQL.5432 on every system
_PLACES = (Path("/tmp"), Path("/var/tmp"))  # nosec B108
_FILES = (f"{SOCKET}{PORT}", f"{SOCKET}{PORT}.lock")


def name(data: Path, uid: int) -> str:
    """Return the name of the socket folder of a data folder."""
    found = data.stat()
    digest = hashlib.sha256(f"{found.st_dev}:{found.st_ino}".encode()).hexdigest()
    return f"pgtasks-{uid}-{digest[:12]}"


def candidates(data: Path, uid: int) -> Iterator[Path]:
    """Return the folders to try in order; the plain name in /tmp unless someone else took it."""
    base = name(data, uid)
    for place in _PLACES:
        for suffix in ("", "-1", "-2", "-3"):
            yield place / (base + suffix)
    beside = data.parent / "socket"
    if len(os.fsencode(beside)) <= LONGEST:
        yield beside
    # where others took all these names, which they can compute
    for place in _PLACES:
        yield from sorted(place.glob(f"{base}-r*"))


def _new(data: Path, uid: int) -> Iterator[Path]:
    """Return folders of names that nobody can know."""
    for place in _PLACES:
        yield place / f"{name(data, uid)}-r{secrets.token_hex(8)}"


def make(data: Path, account: Account) -> Path:
    """Make the socket folder of a data folder and return it; an older one of ours is taken."""
    for folder in (*candidates(data, account.uid), *_new(data, account.uid)):
        try:
            # one that is there may be a link: it is not followed, and no name of it is taken
            folder.mkdir(mode=0o700, exist_ok=True)
            if is_ours(folder, os.geteuid()):
                account.take(folder)
        except OSError:  # no /tmp, not writable, or a file of this name
            continue
        if is_ours(folder, account.uid):
            return folder
    raise Failed("no place for a socket: neither /tmp nor /var/tmp takes a folder of our own")


def is_ours(folder: Path, uid: int) -> bool:
    """Tell whether a folder is no link, of mode 0700, and owned by the server's account."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def clear(folder: Path, uid: int) -> None:
    """Delete what a killed server left; to be called only while no server can be there."""
    if is_ours(folder, uid):
        for file in _FILES:
            (folder / file).unlink(missing_ok=True)


def remove(data: Path, uid: int) -> None:
    """Delete the socket folders of a data folder whose server has stopped."""
    for folder in candidates(data, uid):
        clear(folder, uid)
        if is_ours(folder, uid):
            try:
                folder.rmdir()
            except OSError:  # something of the user's lies in it
                pass
