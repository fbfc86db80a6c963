"""The backups folder of a database host."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from pgtasks.backup.format import files, names
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.records import FileRecord, Reading, Unread
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import (
    choice,
    filestream,
    lines,
    remote_index,
    remote_trash,
    scripts,
    staging,
    tarstream,
    trash_scripts,
    tree,
)
from pgtasks.backup.store.base import (
    NEWEST,
    Backup,
    BackupExists,
    CheckNames,
    Contents,
    newest_first,
)
from pgtasks.backup.store.filestream import FileStream, FileStreams, Tell
from pgtasks.backup.store.remote_index import FAULTS, Index, room, small_names
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, Locked, NotProven, PgtasksError, Refused
from pgtasks.host import disk, streams
from pgtasks.host.base import Command, Host
from pgtasks.server.quoting import folder_name
from pgtasks.settings.ssh import Login

DEFAULT = "pgtasks-backups"
_LISTING = 4 << 30  # bytes of all manifests, which are copied to this machine
_FRAME = 16_384  # bytes beside one file in an archive, and at its end
_READ = 1_000_000  # lowest rate at which a host reads its own disk, in bytes per second
_LARGEST = 10**13  # largest backup, in bytes, for the timeout of reading it
_READERS = 2  # processes on the host that read the received files


class RemoteStore:
    """The folder `ssh.backups` on a host: absolute, or relative to the home folder there."""

    def __init__(self, host: Host, folder: str = "") -> None:
        self.host, self.folder = host, folder or DEFAULT
        self.name, self.prefix = host.name, f"{host.name}:"

    def __str__(self) -> str:
        return f"{self.prefix}{self.folder}"

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, as the setting names it."""
        return f"{self.folder}/{_home(environment, database)}"

    # the contents

    def list(self) -> Contents:
        """Return the contents of the folder, with a local copy of all manifests."""
        index = self._index()
        return index.contents(self)

    def _index(self) -> Index:
        path, below, faults = room(self.host), "", {}
        said: dict[str, list[str]] = {"dead": [], "link": [], "trash": []}
        with self._reading(scripts.listing(self.folder), "read", most=_LISTING) as source:
            for kind, _, rest in lines.words(source):
                if kind == "base":
                    below = rest
                elif kind in said:
                    said[kind].append(rest)
                elif kind in FAULTS:
                    faults[rest] = FAULTS[kind]
                    remote_index.bar(path, rest)
                else:
                    remote_index.place(path, rest)
            arriving = tarstream.unpack(source, several=True)
            manifests_there = filestream.admitted(arriving, remote_index.admit)
            filestream.laid(path, manifests_there, durable=False)
        return Index(
            self.prefix, path, below, tuple(said["dead"]), faults, said["link"], said["trash"]
        )

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return a backup by its path on the host, or as `choice.select` finds it."""
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
        with self._reading(scripts.pack(backup.folder, sorted(packed)), "read", most) as source:
            yield from tarstream.unpack(source)

    def complete(self, backup: Backup) -> None:
        """Copy all files of a backup to this machine, except the dump."""
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
        reading = self.sums(backup.folder, jobs, check=check, tell=tell)
        return {name: reading[name] for name in backup.manifest.files if name in reading}

    def sums(
        self, folder: str, jobs: int, *, check: CheckNames | None = None, tell: Tell | None = None
    ) -> Reading:
        """Return the records of all files below a folder on the host."""
        sizes, sums = {}, {}
        with self._reading(scripts.sums(folder, max(1, jobs)), "read") as source:
            for line in lines.raw(source):
                name, size, kind = lines.listed(line)
                if kind:
                    raise NotProven(f"{self.prefix}{folder}/{name}: {kind}")
                sizes[name] = size
            source.wait(min(sum(sizes.values()), _LARGEST) / _READ)
            if check:
                check(set(sizes))
            for sha256, _, name in lines.words(source):
                plain = name.strip(" *").removeprefix("./")
                sums[plain] = sha256
                if tell:
                    tell(sizes.get(plain, 0))
        return {
            name: FileRecord(size, sums[name]) if name in sums else Unread()
            for name, size in sizes.items()
        }

    # writing

    @contextmanager
    def draft(self, environment: str, database: str, id: str = "") -> Iterator[RemoteDraft]:
        """Create a backup in a folder with a temporary name.

        If the connection is lost, the next run removes it.
        """
        id = id or staging.new_id()
        path, free = self._make(_home(environment, database), id)
        try:
            yield RemoteDraft(self, id, room(self.host), Path(path), free)
        except OSError as exc:  # for example a full local disk
            raise Failed(f"cannot write {str(exc.filename)!r}: {exc.strerror}") from None
        finally:
            self.remove(path)

    def _make(self, home: str, id: str) -> tuple[str, int | None]:
        """Create a temporary folder; return its path and the number of free bytes."""
        path, free = "", None
        script = scripts.make(self.folder, home, staging.name(id), id)
        for kind, _, rest in self._run(script):
            if kind == scripts.THERE:
                raise BackupExists(f"backup {id} exists already")
            if kind == scripts.BUSY:
                raise Locked(f"another run is creating backup {id} on {self.name}")
            if kind == "at":
                path = rest
            elif kind == "free":
                file_system = disk.parse(path, rest)
                free = file_system.free if file_system else None
        return path, free

    def note(self, backup: Backup, checks: Checks) -> None:
        """Write the checks to the host, and to the local copy."""
        self.put(f"{backup.folder}/{names.CHECKS}", checks.text().encode())
        checks.write(backup.path)

    def put(self, path: str, content: bytes) -> None:
        """Write a small file on the host, replacing an existing one."""
        before, _, name = path.rpartition("/")
        command = scripts.replace(path, f"{before}/.{name}.{secrets.token_hex(8)}")
        with self._worded("written"), streams.writing(self.host, command) as sink:
            sink.write(content)

    def unpack(self, path: str, arriving: Iterable[FileStream]) -> None:
        """Write files below a folder on the host."""
        with self._worded("written"), streams.writing(self.host, scripts.unpack(path)) as sink:
            tarstream.pack(sink, arriving)

    def finish(self, path: str, id: str) -> str:
        """Make a temporary folder durable, give it its final name, and return its path."""
        for kind, _, _ in self._run(scripts.finish(path, id)):
            if kind == scripts.THERE:
                raise Refused(f"there is another backup {id} on {self.name}")
        return str(PurePosixPath(path).with_name(id))

    def remove(self, path: str) -> None:
        """Remove a folder on the host, if the connection still works."""
        try:
            self._run(scripts.remove(path))
        except PgtasksError:
            pass  # the next run removes it

    def sweep(self) -> Sequence[str]:
        """Remove the folders of interrupted runs, not those of active ones."""
        removed = [PurePosixPath(rest).name for _, _, rest in self._run(scripts.sweep(self.folder))]
        return [f"removed {name!r} on {self.name}, an interrupted backup" for name in removed]

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        """Return those of the newest names whose manifests can be read."""
        home, path = _home(environment, database), room(self.host)
        command = trash_scripts.newest(self.folder, home, NEWEST)
        with self._reading(command, "read", most=_LISTING) as source:
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
        return bool(self._run(trash_scripts.has(backup.folder)))

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        """Let the host list the files."""
        return remote_trash.unfit(self._listed, backups)

    def _listed(self, command: Command) -> Sequence[tuple[str, int, str]]:
        with self._reading(command, "read") as source:
            return [lines.listed(line) for line in lines.raw(source)]

    @contextmanager
    def retaining(self, environment: str, database: str) -> Iterator[None]:
        """Hold a lock in the trash folder."""
        home = _home(environment, database)
        with remote_trash.locked(self._run, self.remove, self.folder, home):
            yield

    def retain(self, backup: Backup, retention: Retention) -> None:
        """Write it to the host, and to the local copy."""
        self.put(f"{backup.folder}/{names.RETENTION}", retention.text().encode())
        retention.write(backup.path)

    def drop(self, backups: Sequence[Backup], when: datetime) -> Mapping[str, str]:
        """Let the host rename the folders."""
        return remote_trash.drop(self._run, backups, when)

    def bring_back(self, trashed: Trashed) -> None:
        """Let the host rename the folder."""
        remote_trash.bring_back(self._run, trashed)

    def empty(self, trashed: Sequence[Trashed]) -> Mapping[str, str]:
        """Let the host rename the folders, and remove them."""
        return remote_trash.empty(self._run, trashed)

    # scripts

    def _run(self, command: Command) -> Sequence[tuple[str, str, str]]:
        """Return the lines that a script prints; first it may write much to the disk."""
        with self._reading(command, "written") as source:
            return [*lines.words(source)]

    @contextmanager
    def _reading(
        self, command: Command, what: str, most: int = lines.MOST
    ) -> Iterator[streams.Source]:
        with self._worded(what), streams.reading(self.host, command, most=most) as source:
            yield source

    @contextmanager
    def _worded(self, what: str) -> Iterator[None]:
        """Name the folder and the setting behind it when a script fails."""
        try:
            yield
        except streams.CutShort:
            raise
        except Failed as exc:
            words = exc.hint.strip().splitlines()[:1]
            if not words:
                raise
            raise Failed(
                f"the backups of {self} cannot be {what}: {words[0]} (ssh.backups names the folder)"
            ) from None


@dataclass(frozen=True)
class RemoteDraft:
    """A backup that is being written to a folder with a temporary name on a host."""

    store: RemoteStore
    id: str
    path: Path
    folder: Path
    free: int | None

    def clear(self, path: Path) -> None:
        """Remove a file or a folder on the host."""
        self.store.remove(str(path))

    def write(self, streams: Iterable[FileStream]) -> Reading:
        """Send files, and let the host read the received ones."""
        self.store.unpack(str(self.folder), streams)
        return self.store.sums(str(self.folder), _READERS)

    def records(self, jobs: int, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """Let the host read the dump, and read the small files here."""
        records = {}
        for name, record in self.store.sums(str(self.folder), jobs).items():
            if isinstance(record, Unread):
                raise Failed(f"{self.store.prefix}{self.folder}/{name}: {record.reason}")
            records[name] = record
        return records | files.records(self.path, files.below(self.path), jobs=jobs)

    def finish(self) -> Backup:
        """Send the small files, the manifest last."""
        small = files.below(self.path)
        small.remove(manifests.NAME)
        ordered = [*small, manifests.NAME]
        self.store.unpack(str(self.folder), filestream.opened(self.path, ordered))
        folder = self.store.finish(str(self.folder), self.id)
        return Backup(self.path, tree.manifest_in(self.path), self.store, folder)


def _home(environment: str, database: str) -> str:
    return f"{folder_name(environment)}/{folder_name(database)}"


def of(host: Host, ssh: Login | None) -> RemoteStore | None:
    """Return the store on a host after the login, None if that is this machine."""
    return RemoteStore(host, ssh.backups) if ssh else None
