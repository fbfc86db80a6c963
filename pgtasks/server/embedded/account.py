"""The account that a server runs as: this one, or an unprivileged one where this one is root.

PostgreSQL refuses to run as root, and initdb needs an account with a passwd entry.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.errors import Failed

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account of the system that can own processes and folders."""

    name: str
    uid: int
    gid: int

    @property
    def other(self) -> bool:
        """Whether this is another account than that of this process."""
        return self.uid != os.geteuid()

    def identity(self) -> dict[str, Any]:
        """Return the arguments that make `subprocess` start a process as this account."""
        if not self.other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def take(self, path: Path) -> None:
        """Make this account the owner of a file or folder of pgtasks; links are not followed."""
        if self.other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def take_tree(self, folder: Path) -> None:
        """Make this account the owner of a folder of pgtasks and of all its contents."""
        if not self.other:
            return
        self.take(folder)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                self.take(Path(parent, name))

    def reaches(self, *paths: Path) -> bool:
        """Return whether this account may enter these folders and run these files.

        This is tried, because access lists and mount options count too.
        """
        if not self.other:
            return all(os.access(path, os.X_OK) for path in paths)
        script = 'for path; do test -x "$path" || exit 1; done'
        argv = ["/bin/sh", "-c", script, "sh", *map(str, paths)]
        return subprocess.run(argv, cwd="/", env={}, **self.identity()).returncode == 0


def by_uid(uid: int) -> Account:
    """Return the account of a user id, named by its number where passwd does not know it."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, os.getegid() if uid == os.geteuid() else uid)
    return Account(entry.pw_name, uid, entry.pw_gid)


def unprivileged() -> Account:
    """Return the account that runs the servers of root."""
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    known = " nor ".join(repr(name) for name in UNPRIVILEGED)
    raise Failed(f"PostgreSQL does not run as root, and there is no account {known}: add one")


def for_server(data: Path) -> Account:
    """Return the account that runs the server of a data folder, whether that exists yet or not.

    Raises Failed where the folder belongs to an account that this one cannot act for.
    """
    owner = by_uid(data.stat().st_uid) if data.exists() else None
    if os.geteuid() == 0:
        # owned by root after `cp -r`: PostgreSQL cannot use it until it is handed over
        return owner if owner and owner.uid != 0 else unprivileged()
    if owner and owner.other:
        raise Failed(f"{str(data)!r} belongs to {owner.name!r}: run as that account, or as root")
    return by_uid(os.geteuid())
