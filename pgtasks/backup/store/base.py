"""The protocol of a store of backups, and a backup in one.

Features use the protocol and do not distinguish kinds of stores. `LocalStore` and `RemoteStore`
implement it. A store whose files no program can open (an object store, an encrypted one) would have
this machine as its `host`, drafts in a temporary folder, and would download a dump when `dump` is
called.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord, Reading
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store.filestream import FileStream, FileStreams, Tell
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, NotProven, PgtasksError, Refused
from pgtasks.host import plainfile
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.server.proof import model as proofs
from pgtasks.server.proof.model import Proof
from pgtasks.server.quoting import folder_name

if TYPE_CHECKING:
    from pgtasks.database.properties import DatabaseProperties

NEWEST = 10  # backups among whose names `newest` looks for the newest snapshot
_SHOWN = 20  # faults that a hint names


class Store(Protocol):
    """A store of backups."""

    @property
    def name(self) -> str:
        """Return the name of the store in lists: `here`, or that of a host."""

    @property
    def prefix(self) -> str:
        """Return the prefix of paths in messages, which names the host."""

    @property
    def host(self) -> Host:
        """Return the host where pg_dump writes drafts and pg_restore reads dumps."""

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, without the prefix."""

    def list(self) -> Contents:
        """Return the contents of the store, also if some backups cannot be read."""

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return the backup that `--backup` names, as `choice.select` does.

        Raises Refused if there is none, UnreadableManifest if its manifest cannot be read.
        """

    def draft(self, environment: str, database: str, id: str = "") -> AbstractContextManager[Draft]:
        """Create a backup for the length of a block; an unfinished one is removed at its end.

        Without an ID it gets a new one. Raises BackupExists if the store has a backup of that ID,
        Locked if another run creates it, Failed if nothing can be written.
        """

    def dump(self, backup: Backup) -> Path:
        """Return the path of the dump on `host`: a folder (layout directory) or a file."""

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Return a stream of files of a backup, by default of all.

        Raises NotProven before anything is read, if the store knows that a file is damaged. A
        caller that does not read to the end must close the stream.
        """

    def complete(self, backup: Backup) -> None:
        """Copy all files of a backup, except its dump, into its `path`."""

    def records(
        self, backup: Backup, jobs: int, *, check: CheckNames, tell: Tell | None = None
    ) -> Reading:
        """Read every file in the manifest, and return their records.

        `check` gets the names of all existing files before the first is read. Raises NotProven for
        anything that is neither a regular file nor a folder.
        """

    def note(self, backup: Backup, checks: Checks) -> None:
        """Store the checks of a backup; raises Failed or OSError."""

    def sweep(self) -> Sequence[str]:
        """Clean up after interrupted runs, and return a line for each backup."""

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        """Return some of the newest readable backups of a database, newest first."""

    def has(self, backup: Backup) -> bool:
        """Return whether a backup is still at its place, and was not dropped meanwhile."""

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        """Return a fault by ID of those backups of one database that lack files.

        Names, kinds and sizes are compared with the manifest, no content is read.
        """

    def retaining(self, environment: str, database: str) -> AbstractContextManager[None]:
        """Hold the lock under which backups of a database are kept, dropped and brought back.

        Raises Locked if another run holds it, Refused for a trash folder that is none.
        """

    def retain(self, backup: Backup, retention: Retention) -> None:
        """Store what is said about keeping a backup; raises Failed or OSError."""

    def drop(self, backups: Sequence[Backup], when: datetime) -> Mapping[str, str]:
        """Move backups of one database into its trash, under its lock; return the errors by ID.

        Each of them is in one of the two places, whole. One that is gone is an error too.
        """

    def bring_back(self, trashed: Trashed) -> None:
        """Move a backup from the trash to its place; raises Refused if that is taken."""

    def empty(self, trashed: Sequence[Trashed]) -> Mapping[str, str]:
        """Remove backups of one database from its trash; return the errors by name.

        One that cannot be removed at once is not in the trash any more, and named as `removing`.
        """


class Draft(Protocol):
    """A backup that is being created."""

    @property
    def id(self) -> str:
        """Return the ID of the backup."""

    @property
    def path(self) -> Path:
        """Return the local folder for small files."""

    @property
    def folder(self) -> Path:
        """Return the folder for the dump, on the host of the store."""

    @property
    def free(self) -> int | None:
        """Return the number of free bytes, None if unknown."""

    def clear(self, path: Path) -> None:
        """Remove the dump of a failed attempt."""

    def write(self, files: Iterable[FileStream]) -> Reading:
        """Write files durably, and return the records of what arrived."""

    def records(self, jobs: int, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """Return the records of all files, made durable and readable only by their owner.

        The files of `known` records are so already, and need not be read.
        """

    def finish(self) -> Backup:
        """Give the backup its final name, durably; its manifest is in `path`."""


CheckNames = Callable[[set[str]], None]


class BackupExists(Refused):
    """The store has a complete backup with that ID."""


class UnreadableManifest(NotProven):
    """The manifest of the requested backup cannot be read."""

    def __init__(self, message: str, *, id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id = id


class Dropped(Failed):
    """Another run has dropped the backup while it was read."""


@contextmanager
def reading(backup: Backup) -> Iterator[None]:
    """Read a backup in a block; an error says if another run has dropped it meanwhile."""
    try:
        yield
    except Dropped:
        raise
    except (PgtasksError, OSError) as exc:
        if _is_there(backup):
            raise
        back = typed.task("backup.untrash", backup.id)
        words = exc.message if isinstance(exc, PgtasksError) else str(exc)
        raise Dropped(
            f"backup {backup.id} is not there any more, another run has moved it away: {back} "
            "brings it back from the trash",
            hint=words,
        ) from None


def _is_there(backup: Backup) -> bool:
    try:
        return backup.store.has(backup)
    except (PgtasksError, OSError):  # then the first error is what happened
        return True


def damaged(id: str, faults: Sequence[str], where: str = "") -> NotProven:
    """Return the error for a backup with damaged files."""
    place = f" on {where}" if where else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    hint = "\n".join(faults[1:_SHOWN])
    return NotProven(f"backup {id} is damaged{place}: {faults[0]}{more}", hint=hint)


@dataclass(frozen=True)
class Backup:
    """A complete backup; `folder` is its path in the store.

    `path` is a local folder with its small files: first the manifest and the checks, the others
    when they are needed.
    """

    path: Path
    manifest: Manifest
    store: Store = field(compare=False, repr=False)
    folder: str

    @property
    def id(self) -> str:
        """Return its ID."""
        return self.manifest.id

    @property
    def host(self) -> Host:
        """Return the host whose tools read the dump."""
        return self.store.host

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of its manifest, which identifies it in the journal."""
        return hashlib.sha256(manifests.text(self.manifest).encode()).hexdigest()

    @property
    def dump(self) -> Path:
        """Return the path of the dump on the backup's host."""
        return self.store.dump(self)

    @property
    def place(self) -> str:
        """Return its path for messages, with the name of another host before it."""
        return f"{self.store.prefix}{self.folder}"

    def proof(self) -> Proof | None:
        """Return the proof of its content, None if it has none; raises NotProven."""
        if not self.manifest.with_proof:
            return None
        return proofs.parse(self._content(names.PROOF), self._named(names.PROOF))

    def database(self) -> DatabaseProperties:
        """Return the properties of the database (owner, grants, settings, comment)."""
        from pgtasks.database.properties import DatabaseProperties

        return DatabaseProperties.parse(self._content(names.DATABASE), self._named(names.DATABASE))

    def globals(self) -> str:
        """Return the SQL that creates the roles, empty if they could not be read."""
        if names.GLOBALS not in self.manifest.files:
            return ""
        try:
            return self._content(names.GLOBALS).decode("utf-8")
        except ValueError as exc:
            raise NotProven(f"{self._named(names.GLOBALS)}: {exc}") from None

    @functools.cached_property
    def checks(self) -> Checks:
        """Return when it was last verified and proven."""
        return Checks.read(self.path)

    @functools.cached_property
    def retention(self) -> Retention:
        """Return whether it is kept by hand, and what it has lost.

        Raises NotProven if that cannot be read.
        """
        return Retention.read(self.path)

    def record(self, **changes: str | float | None) -> None:
        """Store the time of a check, given as fields of Checks.

        A store that is read-only is no error, because the check itself succeeded.
        """
        known = Checks.read(self.path)  # another run may have written since
        try:
            self.store.note(self, replace(known, **changes))  # type: ignore[arg-type]
        except (OSError, PgtasksError):
            pass  # for example a read-only folder
        self.__dict__.pop("checks", None)

    def forget_retention(self) -> None:
        """Read again what is said about keeping it, when that is asked for."""
        self.__dict__.pop("retention", None)

    def _named(self, name: str) -> str:
        return f"backup {self.id}: {name}"

    def _content(self, name: str) -> bytes:
        """Return the content of a small file, raising NotProven if it differs from the manifest."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise NotProven(f"{self._named(name)}: missing")
        self.store.complete(self)
        limit = min(expected.size, names.LIMITS[name])
        try:
            content = plainfile.read(self.path, name, limit=limit)
        except OSError as exc:
            raise NotProven(f"{self._named(name)}: {exc.strerror}") from None
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise NotProven(f"{self._named(name)}: its content was changed")
        return content


@dataclass(frozen=True)
class Broken:
    """An unreadable backup; `home` are the two folders above it."""

    home: tuple[str, ...]
    name: str
    place: str
    error: PgtasksError


@dataclass(frozen=True)
class Contents:
    """The contents of a store: complete backups, newest first; unreadable and interrupted ones.

    `trash` are the dropped ones, which are no backups of the store as long as they are there,
    `links` the folders of backups that are symbolic links.
    """

    backups: Sequence[Backup] = ()
    broken: Sequence[Broken] = ()
    interrupted: Sequence[str] = ()
    trash: Sequence[Trashed] = ()
    links: Collection[str] = ()

    def of(self, environment: str | None, database: str | None = None) -> list[Backup]:
        """Return the backups of an environment and a database, by the names in the manifests."""
        return [
            backup
            for backup in self.backups
            if environment in (None, backup.manifest.environment)
            and database in (None, backup.manifest.database)
        ]

    def only(self, environment: str | None) -> Contents:
        """Return the contents with the backups of one environment only; None means all."""
        backups = self.of(environment)
        if environment is None:
            return replace(self, backups=backups)
        name = folder_name(environment)
        trash = [each for each in self.trash if each.home[0] == name]
        return replace(self, backups=backups, trash=trash)

    def trash_of(self, environment: str, database: str) -> list[Trashed]:
        """Return the dropped backups of an environment and a database, the last dropped first."""
        home = (folder_name(environment), folder_name(database))
        own = [each for each in self.trash if each.home == home]
        return sorted(own, key=lambda each: (each.dropped, each.id), reverse=True)

    def broken_of(self, environment: str, database: str) -> list[Broken]:
        """Return the unreadable backups in the folder of an environment and a database."""
        home = (folder_name(environment), folder_name(database))
        return [
            broken for broken in self.broken if broken.home == home and manifests.is_id(broken.name)
        ]


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    """Return backups by the time of their snapshots."""
    return sorted(backups, key=lambda each: (each.manifest.snapshot_time, each.id), reverse=True)
