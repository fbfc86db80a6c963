"""What is small of the backups on a database host, on this machine for the length of a run."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.store import local, scripts, tarstream
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import tempfiles
from pgtasks.host.local import Host

FAULTS = {
    "odd": "no plain file",
    "large": "larger than any manifest",
    "closed": os.strerror(errno.EACCES),
}

_rooms: weakref.WeakKeyDictionary[Host, Path] = weakref.WeakKeyDictionary()


def room(host: Host) -> Path:
    """Return a new folder on this machine for what is small of what lies on a host.

    It goes with the host's object; what a killed run leaves, the next one removes.
    """
    if host not in _rooms:
        _rooms[host] = tempfiles.folder()
        weakref.finalize(host, tempfiles.remove, _rooms[host])
    return Path(tempfile.mkdtemp(dir=_rooms[host]))


def place(path: Path, name: str) -> None:
    """Make the folder of a backup whose name a host says, raising NotProven for another's."""
    folder = tarstream.checked(name)
    if len(folder.parts) != 3:
        raise NotProven(f"the host lists {name!r}, which is no backup's folder")
    try:
        (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NotProven(f"the host lists {name!r}: {exc.strerror}") from None


def admit(name: str, size: int) -> None:
    """Raise NotProven for what a host sends beside manifests and checks, or too large."""
    parts = name.split("/")
    most = {manifests.NAME: manifests.LIMIT, names.CHECKS: scripts.CHECKS}
    if len(parts) != 4 or size > most.get(parts[-1], -1):
        raise NotProven(f"the host sends {name!r} of {size:,} bytes, which is no manifest")


@dataclass(frozen=True)
class Mirror:
    """What lies in a host's backups folder `base`; `path` holds the manifests as they lie there.

    `faults` says why a manifest did not come, by its name below `base`.
    """

    host: Host
    path: Path
    base: str
    dead: tuple[str, ...]
    faults: Mapping[str, str] = field(default_factory=dict)

    def backups(
        self, *, environment: str | None = None, database: str | None = None
    ) -> list[Backup]:
        """Return the finished backups there, newest first."""
        found = local.list_backups(self.path, environment=environment, database=database)
        return [self._there(backup) for backup in found]

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return one backup as `store.find` does; a path is one on the host."""
        try:
            if which and os.sep in which:
                return self._there(local.load(self._mirrored(which)))
            return self._there(local.find(self.path, environment, database, which))
        except Refused as exc:
            raise Refused(f"on {self.host.name}: {exc.message}") from None
        except local.Unreadable as exc:
            raise local.Unreadable(self._worded(exc.message), id=exc.id) from None
        except PgtasksError as exc:
            raise type(exc)(self._worded(exc.message)) from None

    def _mirrored(self, path: str) -> Path:
        found = self.path / os.path.relpath(path, self.base)
        if not found.is_relative_to(self.path) or ".." in found.parts or not found.is_dir():
            raise Refused(f"no backup at {path!r}, they lie below {self.base!r}")
        return found

    def _there(self, backup: Backup) -> Backup:
        return replace(backup, host=self.host, folder=self._name(backup.path))

    def _name(self, path: Path) -> str:
        return f"{self.base}/{path.relative_to(self.path).as_posix()}"

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the folders there that have no readable manifest, with why."""
        found = local.unreadable(self.path)
        where = f"{self.host.name}:"
        return [(where + self._name(path), self._worded(why)) for path, why in found]

    def _worded(self, why: str) -> str:
        """Return words about what lies in `path` as words about what lies on the host."""
        for name, fault in self.faults.items():
            missing = f"{self.path / name}: {os.strerror(errno.ENOENT)}"
            why = why.replace(missing, f"{self.path / name}: {fault}")
        return why.replace(str(self.path), f"{self.host.name}:{self.base}")

    def leftovers(self) -> list[str]:
        """Return the temporary folders of runs that ended without a word."""
        return [f"{self.host.name}:{self.base}/{name}" for name in self.dead]


def small_names(made: Manifest) -> list[str]:
    """Return the names of a backup's files but for its dump."""
    dump = names.dump_name(made.layout)
    return [name for name in made.files if name.split("/")[0] != dump and "/" not in name]
