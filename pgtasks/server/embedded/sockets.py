"""The folder of a server's socket: a short path, mode 0700, created by pgtasks.

The path of a socket has at most about 100 bytes (unix(7): 108 on Linux, 104 elsewhere), and that of
a project may be longer. So the socket is always in a folder below /tmp. Thus connection strings
have none of the blanks and quotes of project paths either. $XDG_RUNTIME_DIR is not used, because it
is deleted when its user logs out, while the server keeps running.

The name is made from the identity of the data folder (device and inode), which a renamed project
keeps and a copied one does not.
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
    status = data.stat()
    digest = hashlib.sha256(f"{status.st_dev}:{status.st_ino}".encode()).hexdigest()
    return f"pgtasks-{uid}-{digest[:12]}"


def candidates(data: Path, uid: int) -> Iterator[Path]:
    """Yield the folders to try, the plain name in /tmp first."""
    base = name(data, uid)
    for place in _PLACES:
        for suffix in ("", "-1", "-2", "-3"):
            yield place / (base + suffix)
    beside = data.parent / "socket"
    if len(os.fsencode(beside)) <= LONGEST:
        yield beside
    # other accounts can compute these names, and create all of them
    for place in _PLACES:
        yield from sorted(place.glob(f"{base}-r*"))


def _new(data: Path, uid: int) -> Iterator[Path]:
    """Yield folders whose names nobody can guess."""
    for place in _PLACES:
        yield place / f"{name(data, uid)}-r{secrets.token_hex(8)}"


def make(data: Path, account: Account) -> Path:
    """Create the socket folder of a data folder, or use an existing one of ours."""
    for folder in (*candidates(data, account.uid), *_new(data, account.uid)):
        try:
            # an existing one may be a link, which is not followed
            folder.mkdir(mode=0o700, exist_ok=True)
            if is_ours(folder, os.geteuid()):
                account.take(folder)
        except OSError:  # no /tmp, not writable, or a file of this name
            continue
        if is_ours(folder, account.uid):
            return folder
    raise Failed("no folder for a socket: none could be created in /tmp or /var/tmp")


def is_ours(folder: Path, uid: int) -> bool:
    """Return whether a folder, not a link, has mode 0700 and belongs to the server's account."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077


def clear(folder: Path, uid: int) -> None:
    """Delete the socket and lock of a killed server; call it only while no server can run."""
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
            except OSError:  # it contains a file of the user
                pass
