"""What is small of the backups on a database host, on this machine for the length of a run."""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

from pgtasks import scratch
from pgtasks.backup import store
from pgtasks.backup.manifest import Manifest
from pgtasks.backup.store import Backup
from pgtasks.errors import Refused
from pgtasks.host import Host

_rooms: weakref.WeakKeyDictionary[Host, Path] = weakref.WeakKeyDictionary()


def room(host: Host) -> Path:
    """Return a new folder on this machine for what is small of what lies on a host.

    It goes with the host's object; what a killed run leaves, the next one removes.
    """
    if host not in _rooms:
        _rooms[host] = scratch.folder()
        weakref.finalize(host, scratch.remove, _rooms[host])
    return Path(tempfile.mkdtemp(dir=_rooms[host]))


@dataclass(frozen=True)
class Mirror:
    """What lies in a host's backups folder `base`; `path` holds the manifests as they lie there."""

    host: Host
    path: Path
    base: str
    dead: tuple[str, ...]

    def backups(
        self, *, environment: str | None = None, database: str | None = None
    ) -> list[Backup]:
        """Return the finished backups there, newest first."""
        found = store.list_backups(self.path, environment=environment, database=database)
        return [self._there(backup) for backup in found]

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return one backup as `store.find` does; a path is one on the host."""
        try:
            if which and os.sep in which:
                return self._there(store.load(self._mirrored(which)))
            return self._there(store.find(self.path, environment, database, which))
        except Refused as exc:
            raise Refused(f"on {self.host.name}: {exc.message}") from None

    def _mirrored(self, path: str) -> Path:
        found = self.path / os.path.relpath(path, self.base)
        if not path.startswith(self.base) or not found.is_dir():
            raise Refused(f"no backup at {path!r}, they lie below {self.base!r}")
        return found

    def _there(self, backup: Backup) -> Backup:
        return replace(backup, host=self.host, folder=self._name(backup.path))

    def _name(self, path: Path) -> str:
        return f"{self.base}/{path.relative_to(self.path).as_posix()}"

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the folders there that have no readable manifest, with why."""
        found = store.unreadable(self.path)
        where = f"{self.host.name}:"
        return [
            (where + self._name(path), why.replace(str(path), where + self._name(path)))
            for path, why in found
        ]

    def leftovers(self) -> list[str]:
        """Return the temporary folders of runs that ended without a word."""
        return [f"{self.host.name}:{self.base}/{name}" for name in self.dead]


def small_names(made: Manifest) -> list[str]:
    """Return the names of a backup's files but for its dump."""
    dump = store.dump_name(made.layout)
    return [name for name in made.files if name.split("/")[0] != dump and "/" not in name]
