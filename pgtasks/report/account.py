"""Who runs this: the account of this process, as a person and as a server know it."""

from __future__ import annotations

import getpass
import os
import pwd
import socket

_LONGEST = 63  # bytes of an application_name: NAMEDATALEN - 1


def name_of(uid: int) -> str:
    """Return the name of an account, its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user() -> str | None:
    """Return the account's name, None where it has none, as in a container without an entry."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def who() -> str:
    """Return user@host, through sudo the user who called it."""
    return f"{os.environ.get('SUDO_USER') or name()}@{socket.gethostname()}"


def application_name(purpose: str) -> str:
    """Return the name sessions show in pg_stat_activity: what, pid, who, where (63 bytes)."""
    host = socket.gethostname().split(".")[0]
    shown = f"pgtasks {purpose} {os.getpid()} {name()}@{host}"
    return shown.encode("ascii", "replace").decode()[:_LONGEST]


def name() -> str:
    """Return the account's name, its number where it has none."""
    return user() or str(os.getuid())
