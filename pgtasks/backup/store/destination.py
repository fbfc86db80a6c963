"""The store of a new backup: this machine, or the database host."""

from __future__ import annotations

from pathlib import Path

from pgtasks.backup.store.base import Store
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import Refused
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


def check(target: Target, *, on_host: bool) -> None:
    """Raise Refused for --on-host if the target has no host."""
    if on_host and not target.ssh:
        raise Refused(
            f"--on-host: environment {target.environment!r} has no ssh, "
            "its backups are on this machine"
        )


def of(reached: Reached, folder: Path, *, on_host: bool = False) -> Store:
    """Return the store of a backup: the local `folder`, or with `on_host` that of the host."""
    if on_host:
        from pgtasks.backup.store import remote

        if store := remote.of(reached.host, reached.target.ssh):
            return store
    return LocalStore(folder)
