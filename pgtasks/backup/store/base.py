"""The protocol of a store of backups.

Features use the protocol and do not distinguish kinds of stores. `LocalStore` and `RemoteStore`
implement it. A store whose files no program can open (an object store, an encrypted one) would have
this machine as its `host`, drafts in a temporary folder, and would download a dump when `dump` is
called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pgtasks.backup.format.records import FileRecord, Reading
from pgtasks.backup.store.backup import Backup, Holder
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.filestream import FileStream
from pgtasks.backup.store.trash import Trashed

NEWEST = 10  # backups among whose names `newest` looks for the newest snapshot


class Store(Holder, Protocol):
    """A store of backups."""

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups, without the prefix."""

    def list(self) -> Contents:
        """Return the contents of the store, also if some backups cannot be read."""

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return the backup that `--backup` names, as `choice.select` does.

        Raises Refused if there is none, UnreadableManifest if its manifest cannot be read.
        """

    def draft(
        self, environment: str, database: str, id: str = "", *, replacing: bool = False
    ) -> AbstractContextManager[Draft]:
        """Create a backup for the length of a block; an unfinished one is removed at its end.

        Without an ID it gets a new one. Raises BackupExists if the store has a backup of that ID
        which is not to be replaced, Locked if another run creates it, Failed if nothing can be
        written.
        """

    def sweep(self) -> Sequence[str]:
        """Clean up after interrupted runs, and return a line for each backup."""

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        """Return some of the newest readable backups of a database, newest first."""

    def drop(
        self, environment: str, database: str, ids: Sequence[str], when: datetime
    ) -> Mapping[str, str]:
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

    def finish(self, make_way: Callable[[], None] | None = None) -> Backup:
        """Give the backup its final name, durably; its manifest is in `path`.

        `make_way` is called when it is whole and lacks only that name, to free it.
        """
