"""Remove the files that interrupted runs left in stores and in the folder for temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pgtasks.backup.store import remote
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import Failed
from pgtasks.host import tempfiles
from pgtasks.server.embedded import temporary
from pgtasks.server.reach import Reached


def sweep(reached: Reached, backups: Path) -> list[str]:
    """Remove interrupted backups and temporary files of killed runs; return a line for each."""
    here = LocalStore(backups)
    done = [*here.sweep()]
    done += [
        f"left {broken.name!r} alone, its manifest cannot be read: {broken.error.message}"
        for broken in here.list().broken
    ]
    places = dict.fromkeys((tempfile.gettempdir(), temporary.SHORT))
    for path in (path for place in places for path in tempfiles.left(place)):
        tempfiles.remove(path)
        done.append(f"removed {str(path)!r}, which a killed run left")
    remote_store = remote.of(reached.host, reached.target.ssh)
    return [*done, *(_swept(remote_store) if remote_store else ())]


def _swept(store: Store) -> Sequence[str]:
    """Sweep a store; if it cannot be read, return a warning."""
    try:
        return store.sweep()
    except Failed as exc:
        return [f"warning: {exc.message}"]
