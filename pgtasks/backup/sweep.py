"""What interrupted runs left where backups lie, and in the system's folder for temporary files."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from pgtasks.backup.store import local, remote
from pgtasks.backup.store.remote import Depot
from pgtasks.errors import Failed
from pgtasks.host import tempfiles
from pgtasks.server.reach import Reached


def sweep(reached: Reached, backups: Path) -> list[str]:
    """Remove interrupted backups and a killed run's temporary files; return what is gone."""
    done = list(local.sweep(backups))
    done += [
        f"left {path.name!r} alone, a backup whose manifest cannot be read: {why}"
        for path, why in local.unreadable(backups)
    ]
    for path in tempfiles.left(tempfile.gettempdir()):
        tempfiles.remove(path)
        done.append(f"removed {str(path)!r}, which a killed run left")
    there = remote.of(reached.host, reached.target.ssh)
    return done + (_swept_there(there) if there else [])


def _swept_there(there: Depot) -> list[str]:
    """Sweep interrupted backups on a host; a folder that cannot be read is said, no more."""
    try:
        gone = [PurePosixPath(path).name for path in there.sweep()]
    except Failed as exc:
        return [f"warning: {exc.message}"]
    return [f"removed {name!r} on {there.host.name}, an interrupted backup" for name in gone]
