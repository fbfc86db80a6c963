"""Where a new backup goes: to this machine, or to the database host."""

from __future__ import annotations

from pathlib import Path

from pgtasks.backup.store import remote
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import Refused
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


def check(target: Target, *, on_host: bool) -> None:
    """Raise Refused where the host is to keep a backup and is this machine."""
    if on_host and not target.ssh:
        raise Refused(
            f"--on-host: environment {target.environment!r} has no ssh, "
            "its backups lie on this machine"
        )


def of(reached: Reached, folder: Path, *, on_host: bool = False) -> Store:
    """Return the store for a backup: `folder` here, or `on_host` the one of the target's host."""
    far = remote.of(reached.host, reached.target.ssh) if on_host else None
    return far or LocalStore(folder)
