"""Where a backup is made and lies: on this machine, or in the backups folder of a host.

Its small files are written here in any case. What pg_dump writes, and whatever reads that, belongs
to the shelf's host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pgtasks.backup.format import files, manifest
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.format.records import FileRecord, Unread
from pgtasks.backup.store import local, remote, staging, tarstream
from pgtasks.backup.store.remote import Depot, Partial
from pgtasks.backup.store.remote_index import room
from pgtasks.errors import Failed, Refused
from pgtasks.host.local import HERE, Host
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


class Draft(Protocol):
    """A backup in the making: `path` is for small files, `folder` is where the tools write."""

    @property
    def id(self) -> str:
        """Return the ID that it will have."""

    @property
    def path(self) -> Path:
        """Return the folder for small files, on this machine."""

    @property
    def folder(self) -> Path:
        """Return the folder as the shelf's host sees it."""

    def clear(self, path: Path) -> None:
        """Remove a dump that is worth nothing."""

    def records(self, jobs: int) -> dict[str, FileRecord]:
        """Return the records of all files, these durable and their owner's alone."""

    def finish(self) -> Backup:
        """Give the backup its final name, durably."""


class Shelf(Protocol):
    """A folder of backups on a host."""

    @property
    def host(self) -> Host:
        """Return the host on which the folder is."""

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, for people."""

    def sweep(self) -> list[str]:
        """Remove what interrupted runs left behind and return its names."""

    def making(self, environment: str, database: str) -> AbstractContextManager[Draft]:
        """Make a backup for the length of a block; what is not finished then is removed."""


@dataclass(frozen=True)
class LocalShelf:
    """The backups folder of this machine."""

    base: Path
    host: Host = HERE

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups."""
        return str(local.home(self.base, environment, database))

    def sweep(self) -> list[str]:
        """Tidy up after interrupted runs, and say what was done."""
        return local.sweep(self.base)

    @contextmanager
    def making(self, environment: str, database: str) -> Iterator[Draft]:
        """Make a backup in a folder with a temporary name."""
        id = staging.new_id()
        with staging.making(local.home(self.base, environment, database), id) as path:
            yield _LocalDraft(id, path)


@dataclass(frozen=True)
class _LocalDraft:
    id: str
    path: Path

    @property
    def folder(self) -> Path:
        return self.path

    def clear(self, path: Path) -> None:
        files.remove(path)

    def records(self, jobs: int) -> dict[str, FileRecord]:
        return files.records(self.path, files.below(self.path), jobs=jobs)

    def finish(self) -> Backup:
        return local.load(staging.finish(self.path, self.id))


@dataclass(frozen=True)
class FarShelf:
    """The backups folder of a database host."""

    depot: Depot

    @property
    def host(self) -> Host:
        """Return the host."""
        return self.depot.host

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, its host before it."""
        return f"{self.depot}/{self.depot.home(environment, database)}"

    def sweep(self) -> list[str]:
        """Remove what interrupted runs left there, and say so."""
        return [f"removed {path!r}, an interrupted backup" for path in self.depot.sweep()]

    @contextmanager
    def making(self, environment: str, database: str) -> Iterator[Draft]:
        """Make a backup there in a folder with a temporary name."""
        id = staging.new_id()
        with self.depot.making(environment, database, id) as there:
            assert there is not None
            try:
                yield _FarDraft(id, room(self.host), self.depot, there)
            except OSError as exc:  # such as a full disk here
                raise Failed(f"cannot write {str(exc.filename)!r}: {exc.strerror}") from None


@dataclass(frozen=True)
class _FarDraft:
    id: str
    path: Path
    depot: Depot
    there: Partial

    @property
    def folder(self) -> Path:
        return Path(self.there.path)

    def clear(self, path: Path) -> None:
        self.depot.remove(str(path))

    def records(self, jobs: int) -> dict[str, FileRecord]:
        there = self.depot.sums(self.there.path, jobs)
        records = {name: _read(name, found) for name, found in there.items()}
        return {**records, **files.records(self.path, files.below(self.path), jobs=jobs)}

    def finish(self) -> Backup:
        """Send what is small, the manifest last."""

        def pack(sink: IO[bytes]) -> None:
            names = files.below(self.path)
            names.remove(manifest.NAME)
            tarstream.pack(sink, self.path, [*names, manifest.NAME])

        self.depot.unpack(self.there.path, pack)
        folder = self.depot.finish(self.there, self.id)
        made = local.load(self.path).manifest
        return Backup(self.path, made, self.depot.host, folder)


def _read(name: str, found: FileRecord | Unread) -> FileRecord:
    if isinstance(found, Unread):
        raise Failed(f"{name}: {found.reason}")
    return found


def check(target: Target, *, on_host: bool) -> None:
    """Raise Refused where the host is to keep a backup and is this machine."""
    if on_host and not target.ssh:
        raise Refused(
            f"--on-host: environment {target.environment!r} has no ssh, "
            "its backups lie on this machine"
        )


def of(reached: Reached, folder: Path, *, on_host: bool = False) -> Shelf:
    """Return where a backup is to lie: here, or `on_host` on the target's host."""
    far = remote.of(reached.host, reached.target.ssh) if on_host else None
    return FarShelf(far) if far else LocalShelf(folder)
