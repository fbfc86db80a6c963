"""A local copy of the small files of the backups on a database host, for one run."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.store import scripts, tarstream, trash, tree
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.contents import Broken, Contents
from pgtasks.backup.store.faults import UnreadableManifest
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import tempfiles
from pgtasks.host.base import Host

FAULTS = {
    "odd": "not a regular file",
    "large": "larger than any manifest",
    "closed": os.strerror(errno.EACCES),
}

_rooms: weakref.WeakKeyDictionary[Host, Path] = weakref.WeakKeyDictionary()


def room(host: Host) -> Path:
    """Create a local folder for the small files of a host's backups.

    It is removed with the host object; the next run removes that of a killed run.
    """
    if host not in _rooms:
        _rooms[host] = tempfiles.folder()
        weakref.finalize(host, tempfiles.remove, _rooms[host])
    return Path(tempfile.mkdtemp(dir=_rooms[host]))


def place(path: Path, name: str) -> Path:
    """Create the local folder of a backup that a host lists, raising NotProven for another name."""
    folder = tarstream.checked(name)
    if len(folder.parts) != 3:
        raise NotProven(f"the host lists {name!r}, which is not the folder of a backup")
    try:
        (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NotProven(f"the host lists {name!r}: {exc.strerror}") from None
    return path / folder


def admit(name: str, size: int) -> None:
    """Raise NotProven unless a file is a manifest or its checks, within the size limit."""
    parts = name.split("/")
    most = {manifests.NAME: manifests.LIMIT, **dict.fromkeys(names.BESIDE, scripts.CHECKS)}
    if len(parts) != 4 or size > most.get(parts[-1], -1):
        raise NotProven(f"the host sends {name!r} of {size:,} bytes, which is not a manifest")


def admit_of_home(name: str, size: int) -> None:
    """Do the same for names below the folder of one database."""
    admit(f"//{name}", size)


def bar(path: Path, name: str) -> None:
    """Mark a file that the host did not send: it is there, so it must not count as missing."""
    if name.endswith(f"/{names.RETENTION}"):
        (place(path, name.removesuffix(f"/{names.RETENTION}")) / names.RETENTION).mkdir(
            exist_ok=True
        )


@dataclass(frozen=True)
class Index:
    """A copy in `path` of the manifests below the folder `base` of a host.

    `faults` are the reasons for missing manifests, by their names below `base`; `dead` are the
    temporary folders of killed runs, `links` the backups that are symbolic links, `trash` the names
    in the trash of databases.
    """

    prefix: str
    path: Path
    base: str
    dead: tuple[str, ...]
    faults: Mapping[str, str] = field(default_factory=dict)
    links: Collection[str] = ()
    trash: Sequence[str] = ()

    def contents(self, store: Store) -> Contents:
        """Return the contents of the store, with the host's paths in messages."""
        backups, broken = [], []
        for path, manifest in tree.manifests_below(self.path):
            if isinstance(manifest, PgtasksError):
                place = f"{self.prefix}{self._folder(path)}"
                home = path.relative_to(self.path).parts[:-1]
                broken.append(Broken(home, path.name, place, self._worded(manifest), path))
            else:
                backups.append(Backup(path, manifest, store, self._folder(path)))
        interrupted = [f"{self.prefix}{self.base}/{name}" for name in self.dead]
        links = frozenset(f"{self.base}/{name}" for name in self.links)
        return Contents(newest_first(backups), broken, interrupted, self._dropped(), links)

    def _dropped(self) -> list[Trashed]:
        parts = [path.split("/", 3) for path in self.trash]
        found = [
            trash.found((each[0], each[1]), each[3], f"{self.base}/{'/'.join(each)}")
            for each in parts
            if len(each) == 4 and each[2] == trash.FOLDER
        ]
        return [each for each in found if each is not None]

    def at(self, folder: str, store: Store) -> Backup:
        """Return the backup in a folder of the host, by the path of folder or manifest."""
        folder = folder.removesuffix(f"/{manifests.NAME}")
        path = self.path / os.path.relpath(folder, self.base)
        if not path.is_relative_to(self.path) or ".." in path.parts or not path.is_dir():
            raise Refused(f"no backup at {folder!r}, backups are below {self.base!r}")
        read = tree.own_manifest if manifests.is_id(path.name) else tree.manifest_in
        try:
            return Backup(path, read(path), store, self._folder(path))
        except NotProven as exc:
            raise UnreadableManifest(self._worded(exc).message, id=path.name) from None

    def _folder(self, path: Path) -> str:
        return f"{self.base}/{path.relative_to(self.path).as_posix()}"

    def _worded(self, error: PgtasksError) -> PgtasksError:
        """Return an error about a file in `path` as one about the file on the host."""
        words = error.message
        for name, fault in self.faults.items():
            missing = f"{self.path / name}: {os.strerror(errno.ENOENT)}"
            words = words.replace(missing, f"{self.path / name}: {fault}")
        return type(error)(words.replace(str(self.path), f"{self.prefix}{self.base}"))


def small_names(made: Manifest) -> list[str]:
    """Return the names of a backup's files, without its dump."""
    dump = names.dump_name(made.layout)
    return [name for name in made.files if name.split("/")[0] != dump and "/" not in name]
