"""The contents of a store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pgtasks.backup.format.beside import Beside
from pgtasks.backup.format.manifest import is_id
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import PgtasksError
from pgtasks.server.quoting import folder_name


@dataclass(frozen=True)
class Broken:
    """An unreadable backup; `home` are the two folders above it."""

    home: tuple[str, ...]
    name: str
    place: str
    error: PgtasksError
    beside: Beside


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
        return [broken for broken in self.broken if broken.home == home and is_id(broken.name)]
