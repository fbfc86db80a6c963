"""What is small of the backups on a database host, on this machine for the length of a run."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.store import scripts, tarstream, tree
from pgtasks.backup.store.base import (
    Backup,
    Broken,
    Contents,
    Store,
    UnreadableManifest,
    newest_first,
)
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
class Index:
    """The manifests of a host's backups folder `base`, in `path` as they lie there.

    `faults` says why a manifest did not come, by its name below `base`; `dead` are the temporary
    folders of runs that ended without a word.
    """

    prefix: str
    path: Path
    base: str
    dead: tuple[str, ...]
    faults: Mapping[str, str] = field(default_factory=dict)

    def contents(self, store: Store) -> Contents:
        """Return what lies in the store, in words that name the host's own paths."""
        backups, broken = [], []
        for path, manifest in tree.manifests_below(self.path):
            if isinstance(manifest, PgtasksError):
                place = f"{self.prefix}{self._folder(path)}"
                home = path.relative_to(self.path).parts[:-1]
                broken.append(Broken(home, path.name, place, self._worded(manifest)))
            else:
                backups.append(Backup(path, manifest, store, self._folder(path)))
        interrupted = [f"{self.prefix}{self.base}/{name}" for name in self.dead]
        return Contents(newest_first(backups), broken, interrupted)

    def at(self, folder: str, store: Store) -> Backup:
        """Return the backup of a folder there, or of its manifest, raising Refused for no such."""
        folder = folder.removesuffix(f"/{manifests.NAME}")
        path = self.path / os.path.relpath(folder, self.base)
        if not path.is_relative_to(self.path) or ".." in path.parts or not path.is_dir():
            raise Refused(f"no backup at {folder!r}, they lie below {self.base!r}")
        try:
            return Backup(path, tree.manifest_in(path), store, self._folder(path))
        except NotProven as exc:
            raise UnreadableManifest(self._worded(exc).message, id=path.name) from None

    def _folder(self, path: Path) -> str:
        return f"{self.base}/{path.relative_to(self.path).as_posix()}"

    def _worded(self, error: PgtasksError) -> PgtasksError:
        """Return an error about what lies in `path` as one about what lies on the host."""
        words = error.message
        for name, fault in self.faults.items():
            missing = f"{self.path / name}: {os.strerror(errno.ENOENT)}"
            words = words.replace(missing, f"{self.path / name}: {fault}")
        return type(error)(words.replace(str(self.path), f"{self.prefix}{self.base}"))


def small_names(made: Manifest) -> list[str]:
    """Return the names of a backup's files but for its dump."""
    dump = names.dump_name(made.layout)
    return [name for name in made.files if name.split("/")[0] != dump and "/" not in name]
