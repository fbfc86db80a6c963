"""The backups folder of a database host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

from pgtasks.backup.format import names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.records import Reading
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import (
    choice,
    filestream,
    lines,
    remote_draft,
    remote_index,
    remote_trash,
    scripts,
    staging,
    tarstream,
    trash_scripts,
    tree,
)
from pgtasks.backup.store.backup import Backup, CheckNames, newest_first
from pgtasks.backup.store.base import NEWEST
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.filestream import FileStreams, Tell
from pgtasks.backup.store.remote_draft import RemoteDraft
from pgtasks.backup.store.remote_index import Index, room, small_names
from pgtasks.backup.store.remote_shell import Shell
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import PgtasksError, Refused
from pgtasks.host.base import Host
from pgtasks.server.quoting import folder_name
from pgtasks.settings.ssh import Login

DEFAULT = "pgtasks-backups"
_LISTING = 4 << 30  # bytes of all manifests, which are copied to this machine
_FRAME = 16_384  # bytes beside one file in an archive, and at its end


class RemoteStore:
    """The folder `ssh.backups` on a host: absolute, or relative to the home folder there."""

    def __init__(self, host: Host, folder: str = "") -> None:
        self.host, self.folder = host, folder or DEFAULT
        self.name, self.prefix = host.name, f"{host.name}:"
        self.shell = Shell(host, str(self))

    def __str__(self) -> str:
        return f"{self.prefix}{self.folder}"

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, as the setting names it."""
        return f"{self.folder}/{_home(environment, database)}"

    # the contents

    def list(self) -> Contents:
        """Return the contents of the folder."""
        index = self._index()
        return index.contents(self)

    def _index(self) -> Index:
        index = Index(self.prefix, room(self.host))
        with self.shell.reading(scripts.listing(self.folder), most=_LISTING) as source:
            for kind, _, rest in lines.words(source):
                index.listed(kind, rest)
            index.take(tarstream.unpack(source, several=True))
        return index

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return a backup by its path on the host, or as `choice.select` finds it."""
        found = self._found(environment, database, which)
        self.settle(found)
        return found

    def _found(self, environment: str, database: str, which: str | None) -> Backup:
        index = self._index()
        try:
            if which is not None and os.sep in which:
                return index.at(which, self)
            flags, contents = ("--on-host",), index.contents(self)
            return choice.select(contents, environment, database, which, flags=flags)
        except Refused as exc:
            raise Refused(f"on {self.name}: {exc.message}") from None

    def dump(self, backup: Backup) -> Path:
        """Return the path of the dump on the host."""
        return Path(backup.folder) / names.dump_name(backup.manifest.layout)

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Yield files from an archive that tar writes on the host."""
        expected = {name: backup.manifest.files[name] for name in names or backup.manifest.files}
        # the arguments are folders: a dump may have more files than a command line can name
        packed = {name if names else name.split("/")[0] for name in expected}
        most = sum(each.size + _FRAME for each in expected.values()) + _FRAME * (len(packed) + 1)
        with self.shell.reading(scripts.pack(backup.folder, sorted(packed)), most=most) as source:
            yield from tarstream.unpack(source)

    def settle(self, backup: Backup) -> None:
        """Write what the host has sent of a backup into a local folder."""
        remote_index.settle(backup)

    def complete(self, backup: Backup) -> None:
        """Copy all files of a backup to this machine, except the dump."""
        self.settle(backup)
        missing = [
            name for name in small_names(backup.manifest) if not (backup.path / name).exists()
        ]
        if missing:
            admit = filestream.expecting({name: backup.manifest.files[name] for name in missing})
            with closing(self.read(backup, missing)) as arriving:
                filestream.laid(backup.path, filestream.admitted(arriving, admit))

    def records(
        self, backup: Backup, jobs: int, *, check: CheckNames, tell: Tell | None = None
    ) -> Reading:
        """Let the host read the files."""
        reading = self.shell.sums(backup.folder, jobs, check=check, tell=tell)
        return {name: reading[name] for name in backup.manifest.files if name in reading}

    # writing

    @contextmanager
    def draft(
        self, environment: str, database: str, id: str = "", *, replacing: bool = False
    ) -> Iterator[RemoteDraft]:
        """Create a backup in a folder with a temporary name."""
        id, home = id or staging.new_id(), _home(environment, database)
        making = remote_draft.made(self, self.shell, self.folder, home, id, replacing=replacing)
        with making as draft:
            yield draft

    def note(self, backup: Backup, checks: Checks) -> None:
        """Write the checks to the host, and to the local copy."""
        self.shell.put(f"{backup.folder}/{names.CHECKS}", checks.text().encode())
        self.settle(backup)
        checks.write(backup.path)

    def sweep(self) -> Sequence[str]:
        """Remove the folders of interrupted runs, not those of active ones."""
        removed = [
            PurePosixPath(rest).name for _, _, rest in self.shell.run(scripts.sweep(self.folder))
        ]
        return [f"removed {name!r} on {self.name}, an interrupted backup" for name in removed]

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        """Return those of the newest names whose manifests can be read."""
        home, path = _home(environment, database), room(self.host)
        command = trash_scripts.newest(self.folder, home, NEWEST)
        with self.shell.reading(command, most=_LISTING) as source:
            arriving = filestream.admitted(tarstream.unpack(source), remote_index.admit_of_home)
            filestream.laid(path, arriving, durable=False)
        backups = []
        for each in path.iterdir():
            try:
                folder = f"{self.folder}/{home}/{each.name}"
                manifest = tree.own_manifest(each, quick=True)
                backups.append(Backup(each, manifest, self, folder))
            except PgtasksError:
                pass  # damaged
        return newest_first(backups)

    # dropped backups

    def has(self, backup: Backup) -> bool:
        """Let the host look for the folder."""
        return bool(self.shell.run(trash_scripts.has(backup.folder)))

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        """Let the host list the files."""
        return remote_trash.unfit(self.shell, backups)

    @contextmanager
    def retaining(self, environment: str, database: str) -> Iterator[None]:
        """Hold a lock in the trash folder."""
        home = _home(environment, database)
        with remote_trash.locked(self.shell, self.folder, home):
            yield

    def retain(self, backup: Backup, retention: Retention) -> None:
        """Write it to the host, and to the local copy."""
        self.shell.put(f"{backup.folder}/{names.RETENTION}", retention.text().encode())
        self.settle(backup)
        retention.write(backup.path)

    def drop(
        self, environment: str, database: str, ids: Sequence[str], when: datetime
    ) -> Mapping[str, str]:
        """Let the host rename the folders."""
        home = _home(environment, database)
        return remote_trash.drop(self.shell, self.folder, home, ids, when)

    def bring_back(self, trashed: Trashed) -> None:
        """Let the host rename the folder."""
        remote_trash.bring_back(self.shell, trashed)

    def empty(self, trashed: Sequence[Trashed]) -> Mapping[str, str]:
        """Let the host rename the folders, and remove them."""
        return remote_trash.empty(self.shell, trashed)


def _home(environment: str, database: str) -> str:
    return f"{folder_name(environment)}/{folder_name(database)}"


def of(host: Host, ssh: Login | None) -> RemoteStore | None:
    """Return the store on a host after the login, None if that is this machine."""
    return RemoteStore(host, ssh.backups) if ssh else None
