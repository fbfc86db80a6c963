"""What a database host sends of its backups: their manifests, and what is beside them."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.store import scripts, tarstream, trash, tree
from pgtasks.backup.store.backup import Backup, Holder, newest_first
from pgtasks.backup.store.contents import Broken, Contents
from pgtasks.backup.store.faults import UnreadableManifest
from pgtasks.backup.store.filestream import FileStream
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


def settle(backup: Backup) -> None:
    """Write what was read of a backup into its local folder, if that is not there.

    Raises NotProven for a name that no folder can have.
    """
    path = backup.path
    if backup.beside is None or path.exists():
        return
    try:
        path.mkdir(parents=True)
        for name, content in backup.beside.items():
            if isinstance(content, bytes):
                (path / name).write_bytes(content)
            else:  # it is there and must not count as missing
                (path / name).mkdir()
    except OSError as exc:
        raise NotProven(f"the host lists {backup.folder!r}: {exc.strerror}") from None


def admit(name: str, size: int) -> None:
    """Raise NotProven unless a file is a manifest or what is beside it, within the size limit."""
    parts = name.split("/")
    most = {manifests.NAME: manifests.LIMIT, **dict.fromkeys(names.BESIDE, scripts.CHECKS)}
    if len(parts) != 4 or size > most.get(parts[-1], -1):
        raise NotProven(f"the host sends {name!r} of {size:,} bytes, which is not a manifest")


def admit_of_home(name: str, size: int) -> None:
    """Do the same for names below the folder of one database."""
    admit(f"//{name}", size)


@dataclass
class Index:
    """What a host has sent of its backups: the manifests, and what is beside them.

    `folders` has the content of files, or why it was not sent, by folder below `base` and by name;
    `dead` are the temporary folders of killed runs, `links` the backups that are symbolic links,
    `trash` the names in the trash of databases. `path` is a local folder for their small files.
    """

    prefix: str
    path: Path
    base: str = ""
    folders: dict[str, dict[str, bytes | str]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    trash: list[str] = field(default_factory=list)

    def listed(self, kind: str, name: str) -> None:
        """Take a line of the listing, raising NotProven for a name that is no folder's."""
        if kind == "base":
            self.base = name
        elif kind in ("dead", "link", "trash"):
            {"dead": self.dead, "link": self.links, "trash": self.trash}[kind].append(name)
        elif kind in FAULTS:
            folder, _, file = name.rpartition("/")
            self._of(folder)[file] = FAULTS[kind]
        else:
            self._of(name)

    def take(self, files: Iterable[FileStream]) -> None:
        """Take files, raising NotProven if one comes twice."""
        for file in files:
            admit(file.name, file.size)
            folder, _, name = file.name.rpartition("/")
            known = self._of(folder)
            if isinstance(known.get(name), bytes):
                raise NotProven(f"the archive contains {name!r} twice")
            known[name] = b"".join(file.chunks)

    def _of(self, folder: str) -> dict[str, bytes | str]:
        known = self.folders.get(folder)
        if known is None:
            parts = tarstream.checked(folder).parts
            if len(parts) != 3 or "/".join(parts) != folder:  # `a//b` and `a/./b` are spelled oddly
                raise NotProven(f"the host lists {folder!r}, which is not the folder of a backup")
            known = self.folders[folder] = {}
        return known

    def contents(self, store: Holder) -> Contents:
        """Return the contents of the store, with the host's paths in messages."""
        backups, broken = [], []
        for name in sorted(self.folders):
            try:
                backups.append(self._backup(name, store))
            except PgtasksError as exc:
                environment, database, id = name.split("/")
                beside = {key: self.folders[name][key] for key in self._beside(name)}
                place = f"{self.prefix}{self.base}/{name}"
                broken.append(Broken((environment, database), id, place, exc, beside))
        interrupted = [f"{self.prefix}{self.base}/{name}" for name in self.dead]
        links = frozenset(f"{self.base}/{name}" for name in self.links)
        return Contents(newest_first(backups), broken, interrupted, self._dropped(), links)

    def _backup(self, name: str, store: Holder) -> Backup:
        known = self.folders[name]
        where = f"{self.prefix}{self.base}/{name}/{manifests.NAME}"
        content = known.get(manifests.NAME, os.strerror(errno.ENOENT))
        manifest = tree.parsed(content, where, name.rpartition("/")[2])
        return Backup(self.path / name, manifest, store, f"{self.base}/{name}", known)

    def _beside(self, name: str) -> Iterable[str]:
        return self.folders[name].keys() & set(names.BESIDE)

    def _dropped(self) -> list[Trashed]:
        parts = [path.split("/", 3) for path in self.trash]
        found = [
            trash.found((each[0], each[1]), each[3], f"{self.base}/{'/'.join(each)}")
            for each in parts
            if len(each) == 4 and each[2] == trash.FOLDER
        ]
        return [each for each in found if each is not None]

    def at(self, folder: str, store: Holder) -> Backup:
        """Return the backup in a folder of the host, by the path of folder or manifest."""
        folder = folder.removesuffix(f"/{manifests.NAME}")
        name = os.path.relpath(folder, self.base)
        if name not in self.folders:
            raise Refused(f"no backup at {folder!r}, backups are below {self.base!r}")
        try:
            return self._backup(name, store)
        except NotProven as exc:
            raise UnreadableManifest(exc.message, id=name.rpartition("/")[2]) from None


def small_names(made: Manifest) -> list[str]:
    """Return the names of a backup's files, without its dump."""
    dump = names.dump_name(made.layout)
    return [name for name in made.files if name.split("/")[0] != dump and "/" not in name]
