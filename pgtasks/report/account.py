"""The account of this process, for messages and for application_name."""

from __future__ import annotations

import getpass
import os
import pwd
import socket

_LONGEST = 63  # bytes of an application_name: NAMEDATALEN - 1


def name_of(uid: int) -> str:
    """Return the name of an account, its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user() -> str | None:
    """Return the account's name, None without an entry in the password database."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def who() -> str:
    """Return user@host; under sudo, the user who called it."""
    return f"{os.environ.get('SUDO_USER') or name()}@{socket.gethostname()}"


def application_name(purpose: str) -> str:
    """Return the application_name of a session: purpose, process ID, user@host (63 bytes)."""
    shown = f"pgtasks {purpose}{end_of_names()}"
    return shown.encode("ascii", "replace").decode()[:_LONGEST]


def end_of_names() -> str:
    """Return the end of the application_name of each session of this process, unless cut."""
    host = socket.gethostname().split(".")[0]
    return f" {os.getpid()} {name()}@{host}".encode("ascii", "replace").decode()


def name() -> str:
    """Return the account's name, its number if it has none."""
    return user() or str(os.getuid())
