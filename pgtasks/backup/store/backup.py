"""A backup in a store, and what its store does for it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pgtasks.backup.format import beside, names
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.beside import Beside
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import Reading
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store.faults import Dropped
from pgtasks.backup.store.filestream import FileStreams, Tell
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.host import plainfile
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.server.proof import model as proofs
from pgtasks.server.proof.model import Proof

if TYPE_CHECKING:
    from pgtasks.database.properties import DatabaseProperties


CheckNames = Callable[[set[str]], None]


class Holder(Protocol):
    """What a store does for a backup in it."""

    @property
    def name(self) -> str:
        """Return the name of the store in lists: `here`, or that of a host."""

    @property
    def prefix(self) -> str:
        """Return the prefix of paths in messages, which names the host."""

    @property
    def host(self) -> Host:
        """Return the host where pg_dump writes drafts and pg_restore reads dumps."""

    def dump(self, backup: Backup) -> Path:
        """Return the path of the dump on `host`: a folder (layout directory) or a file."""

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Return a stream of files of a backup, by default of all.

        Raises NotProven before anything is read, if the store knows that a file is damaged. A
        caller that does not read to the end must close the stream.
        """

    def settle(self, backup: Backup) -> None:
        """Let the `path` of a backup have its manifest and what is beside it."""

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

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        """Return a fault by ID of those backups of one database that lack files.

        Names, kinds and sizes are compared with the manifest, no content is read.
        """

    def has(self, backup: Backup) -> bool:
        """Return whether a backup is still at its place, and was not dropped meanwhile."""

    def retaining(self, environment: str, database: str) -> AbstractContextManager[None]:
        """Hold the lock under which backups of a database are kept, dropped and brought back.

        Raises Locked if another run holds it, Refused for a trash folder that is none.
        """

    def retain(self, backup: Backup, retention: Retention) -> None:
        """Store what is said about keeping a backup; raises Failed or OSError."""


@dataclass(frozen=True)
class Backup:
    """A complete backup; `folder` is its path in the store.

    `path` is a local folder with its small files: first the manifest and the checks, the others
    when they are needed. `beside` is what a list of many has read of it, where that is so.
    """

    path: Path
    manifest: Manifest
    store: Holder = field(compare=False, repr=False)
    folder: str
    beside: Beside | None = field(default=None, compare=False, repr=False)

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

    def lies_in(self, home: str) -> bool:
        """Return whether it lies in a folder, under its ID; `home` ends with a slash.

        The folder of a remote store may be relative to the home folder there, its paths are
        absolute.
        """
        above, _, id = self.folder.rpartition("/")
        return id == self.id and f"/{above}/".endswith(f"/{home.removeprefix('~/')}")

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
        return Checks.read(self.path) if self.beside is None else beside.checks(self.beside)

    @functools.cached_property
    def retention(self) -> Retention:
        """Return whether it is kept by hand, and what it has lost.

        Raises NotProven if that cannot be read.
        """
        return Retention.read(self.path) if self.beside is None else beside.retention(self.beside)

    def record(self, **changes: str | float | None) -> None:
        """Store the time of a check, given as fields of Checks.

        A store that is read-only is no error, because the check itself succeeded.
        """
        try:
            self.store.settle(self)
            known = Checks.read(self.path)  # another run may have written since
            self.store.note(self, replace(known, **changes))  # type: ignore[arg-type]
        except (OSError, PgtasksError):
            pass  # for example a read-only folder
        self._forget("checks")

    def forget_retention(self) -> None:
        """Read again what is said about keeping it, when that is asked for."""
        self.store.settle(self)
        self._forget("retention")

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        object.__setattr__(self, "beside", None)  # what is in `path` is newer

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


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    """Return backups by the time of their snapshots."""
    return sorted(backups, key=lambda each: (each.manifest.snapshot_time, each.id), reverse=True)


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
