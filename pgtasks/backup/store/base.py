"""Where backups lie: what every store can do, and the backups that it holds.

A feature asks the store of a backup, never what kind of store it is. `LocalStore` and `RemoteStore`
implement the protocol. One that keeps its files where no program can open them (an object store, an
encrypting one) names this machine as its `host`, drafts in a temporary folder, and brings a dump
there when `dump` is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord, Reading
from pgtasks.backup.store.filestream import FileStream, FileStreams, Tell
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import plainfile
from pgtasks.host.local import Host
from pgtasks.server.proof import model as proofs
from pgtasks.server.proof.model import Proof
from pgtasks.server.quoting import folder_name

if TYPE_CHECKING:
    from pgtasks.database.properties import DatabaseProperties

_SHOWN = 20  # faults that a hint names


class Store(Protocol):
    """A place where backups lie."""

    @property
    def name(self) -> str:
        """Return what a list calls the store: `here`, or the name of a host."""

    @property
    def prefix(self) -> str:
        """Return what stands before a path in it, so that a person knows where that is."""

    @property
    def host(self) -> Host:
        """Return the host where pg_dump writes drafts and pg_restore reads dumps."""

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, without the prefix."""

    def list(self) -> Contents:
        """Return what lies in the store; a backup that cannot be read never hides the others."""

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
        """Return what pg_restore reads on `host`: a folder (layout directory) or a file."""

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Return files of a backup as they come, all of its files without names.

        Raises NotProven, before anything is read, for what the store knows to be damaged. Who does
        not read to the end closes it.
        """

    def complete(self, backup: Backup) -> None:
        """Bring all of a backup but its dump into its `path`."""

    def records(
        self, backup: Backup, jobs: int, *, check: CheckNames, tell: Tell | None = None
    ) -> Reading:
        """Read every file that the manifest names, and return what was read.

        `check` gets the names of all files that are there before one is read. Raises NotProven for
        what is neither file nor folder.
        """

    def note(self, backup: Backup, checks: Checks) -> None:
        """Write down when a backup was verified or proven; raises Failed or OSError."""

    def sweep(self) -> Sequence[str]:
        """Tidy up after interrupted runs and say what was done; living runs are left alone."""


class Draft(Protocol):
    """A backup in the making."""

    @property
    def id(self) -> str:
        """Return the ID that it will have."""

    @property
    def path(self) -> Path:
        """Return the folder of this machine for small files."""

    @property
    def folder(self) -> Path:
        """Return the folder where tools write, as the store's host sees it."""

    @property
    def free(self) -> int | None:
        """Return the bytes for which there is room, None if unknown."""

    def clear(self, path: Path) -> None:
        """Remove a dump that is worth nothing."""

    def write(self, files: Iterable[FileStream]) -> Reading:
        """Write files into the draft, durably, and return their records as they arrived."""

    def records(self, jobs: int) -> dict[str, FileRecord]:
        """Return the records of all files, these durable and their owner's alone."""

    def finish(self) -> Backup:
        """Give the backup its final name, durably; its manifest lies in `path`."""


CheckNames = Callable[[set[str]], None]


class BackupExists(Refused):
    """Report an ID that a store has a finished backup of."""


class UnreadableManifest(NotProven):
    """Report a backup that was asked for and whose manifest cannot be read."""

    def __init__(self, message: str, *, id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id = id


def damaged(id: str, faults: Sequence[str], where: str = "") -> NotProven:
    """Return the error of a backup whose files have faults."""
    place = f" on {where}" if where else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    hint = "\n".join(faults[1:_SHOWN])
    return NotProven(f"backup {id} is damaged{place}: {faults[0]}{more}", hint=hint)


@dataclass(frozen=True)
class Backup:
    """One finished backup: `folder` is where it lies in its store.

    `path` is a folder of this machine with what is small of it: the manifest, the checks beside it,
    and the rest as soon as it is asked for.
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
        """Return the host whose tools read it."""
        return self.store.host

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of its manifest, by which the journal knows it."""
        return hashlib.sha256(manifests.text(self.manifest).encode()).hexdigest()

    @property
    def dump(self) -> Path:
        """Return what pg_restore reads on the backup's host."""
        return self.store.dump(self)

    @property
    def place(self) -> str:
        """Return where it lies, for people: a path, with its host before it if that is another."""
        return f"{self.store.prefix}{self.folder}"

    def proof(self) -> Proof | None:
        """Return the proof of its content, None for a backup without one; raises NotProven."""
        if not self.manifest.with_proof:
            return None
        return proofs.parse(self._content(names.PROOF), self._named(names.PROOF))

    def database(self) -> DatabaseProperties:
        """Return the facts of the database itself (owner, grants, settings, comment text)."""
        from pgtasks.database.properties import DatabaseProperties

        return DatabaseProperties.parse(self._content(names.DATABASE), self._named(names.DATABASE))

    def globals(self) -> str:
        """Return the SQL that makes the roles, empty where they could not be read."""
        if names.GLOBALS not in self.manifest.files:
            return ""
        try:
            return self._content(names.GLOBALS).decode("utf-8")
        except ValueError as exc:
            raise NotProven(f"{self._named(names.GLOBALS)}: {exc}") from None

    @property
    def checks(self) -> Checks:
        """Return when it was last verified and proven."""
        return Checks.read(self.path)

    def record(self, **changes: str | None) -> None:
        """Write down when it was verified or proven: fields of Checks; its files stay as they are.

        A store that takes no note keeps none: the check itself stands.
        """
        try:
            self.store.note(self, replace(self.checks, **changes))  # type: ignore[arg-type]
        except (OSError, PgtasksError):
            pass  # such as a folder that is read-only

    def _named(self, name: str) -> str:
        return f"backup {self.id}: {name}"

    def _content(self, name: str) -> bytes:
        """Return a small file as the manifest knows it, raising NotProven for any other content."""
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
    """What lies where a backup would, below two folders' names, and why it cannot be read."""

    home: tuple[str, ...]
    name: str
    place: str
    error: PgtasksError


@dataclass(frozen=True)
class Contents:
    """What lies in a store: finished backups, newest first; what is broken or was interrupted."""

    backups: Sequence[Backup] = ()
    broken: Sequence[Broken] = ()
    interrupted: Sequence[str] = ()

    def of(self, environment: str | None, database: str | None = None) -> list[Backup]:
        """Return the backups of an environment, a database; names are those of the manifests."""
        return [
            backup
            for backup in self.backups
            if environment in (None, backup.manifest.environment)
            and database in (None, backup.manifest.database)
        ]

    def only(self, environment: str | None) -> Contents:
        """Return the same with the backups of one environment alone, of all for None."""
        return replace(self, backups=self.of(environment))

    def broken_of(self, environment: str, database: str) -> list[Broken]:
        """Return what is broken and lies, with a backup's name, where theirs lie."""
        home = (folder_name(environment), folder_name(database))
        return [
            broken for broken in self.broken if broken.home == home and manifests.is_id(broken.name)
        ]


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    """Return backups by the time of their snapshots."""
    return sorted(backups, key=lambda each: (each.manifest.snapshot_time, each.id), reverse=True)
