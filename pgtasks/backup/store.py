"""Where backups lie: BACKUPS/ENVIRONMENT/DATABASE/ID, found, listed, and swept of leftovers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.backup.manifest import Manifest
from pgtasks.proof.model import Proof

if TYPE_CHECKING:
    from pgtasks.database import DatabaseFacts


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged, proven (UTC, as the journal writes it)."""

    intact: str | None = None
    proven: str | None = None
    damaged: str | None = None
    damage: str = ""


@dataclass(frozen=True)
class Backup:
    """One finished backup."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """Return its ID."""
        return self.manifest.id

    @property
    def dump(self) -> Path:
        """Return what pg_restore reads: a folder (layout directory) or a file (custom)."""
        raise NotImplementedError

    def proof(self) -> Proof | None:
        """Return the proof of its content, None for a backup without one; raises NotProven."""
        raise NotImplementedError

    def database(self) -> DatabaseFacts:
        """Return the facts of the database itself (owner, grants, settings, comment text)."""
        raise NotImplementedError

    def globals(self) -> str:
        """Return the SQL that makes the roles, empty where they could not be read."""
        raise NotImplementedError

    @property
    def checks(self) -> Checks:
        """Return when it was verified and drilled."""
        raise NotImplementedError

    def record(self, checks: Checks) -> None:
        """Write down when it was verified or drilled (the manifest stays as it is)."""
        raise NotImplementedError


def list_backups(
    folder: Path, *, environment: str | None = None, database: str | None = None
) -> list[Backup]:
    """Return the finished backups below `folder`, newest first.

    Names are those of the manifests, not of folders. One whose manifest cannot be read is left
    out here and named by `unreadable`.
    """
    raise NotImplementedError


def unreadable(folder: Path) -> list[tuple[Path, str]]:
    """Return the folders that look like backups and have no readable manifest, with why."""
    raise NotImplementedError


def find(folder: Path, environment: str, database: str, which: str | None = None) -> Backup:
    """Return one backup: None or `latest`, an ID, the unique beginning of an ID, or a path.

    `latest` is the newest complete one of this environment and database (neither --schema-only
    nor with data left out). An ID of this environment and database goes before one of another.
    Raises Refused naming what is there, NotProven for a path whose manifest cannot be read.
    """
    raise NotImplementedError


def sweep(folder: Path) -> list[Path]:
    """Remove what interrupted backups left behind, and return it; living runs are left alone."""
    raise NotImplementedError


def leftovers(folder: Path) -> list[Path]:
    """Return what `sweep` would remove."""
    raise NotImplementedError
