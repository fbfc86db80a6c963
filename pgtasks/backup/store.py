"""Where backups lie: BACKUPS/ENVIRONMENT/DATABASE/ID, found and listed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pgtasks import decoding, plainfile
from pgtasks.backup import manifest as manifests
from pgtasks.backup.manifest import Manifest
from pgtasks.backup.partial import leftovers, sweep
from pgtasks.decoding import Moment
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import HERE, Host
from pgtasks.names import folder_name
from pgtasks.proof import model as proofs
from pgtasks.proof.model import Proof

if TYPE_CHECKING:
    from pgtasks.database import DatabaseFacts

__all__ = ["Backup", "Checks", "find", "leftovers", "list_backups", "sweep", "unreadable"]

PROOF = "proof.json"
DATABASE = "database.json"
GLOBALS = "globals.sql"
CHECKS = "checks.json"
LATEST = "latest"
_DUMPS = {"directory": "dump", "custom": "dump.pgdump"}
# in bytes; a proof of 100,000 tables has 100 million at most
_LIMITS = {PROOF: 512 << 20, DATABASE: 16 << 20, GLOBALS: 64 << 20}
_CHECKS_LIMIT = 64 << 10
_DAMAGE = 4_000  # characters of it that are kept
_SHOWN = 5  # backups that an error names


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged, proven (UTC, as the journal writes it)."""

    intact: str | None = None
    proven: str | None = None
    damaged: str | None = None
    damage: str = ""

    def text(self) -> str:
        """Return it as it is written."""
        return json.dumps({**asdict(self), "damage": self.damage[:_DAMAGE]}) + "\n"


class _Checks(Struct):
    intact: Moment | None = None
    proven: Moment | None = None
    damaged: Moment | None = None
    damage: str = ""


@dataclass(frozen=True)
class Backup:
    """One finished backup.

    One that lies on a database host has its `folder` there, and in `path` on this machine what is
    small of it: the manifest, and the rest when it was asked for.
    """

    path: Path
    manifest: Manifest
    host: Host = HERE
    folder: str = ""

    @property
    def id(self) -> str:
        """Return its ID."""
        return self.manifest.id

    @property
    def dump(self) -> Path:
        """Return what pg_restore reads on its host: a folder (layout directory) or a file."""
        return Path(self.folder or self.path) / dump_name(self.manifest.layout)

    @property
    def place(self) -> str:
        """Return where it lies, for people: a path, with its host before it if that is another."""
        return f"{self.host.name}:{self.folder}" if self.folder else str(self.path)

    def proof(self) -> Proof | None:
        """Return the proof of its content, None for a backup without one; raises NotProven."""
        if not self.manifest.with_proof:
            return None
        return proofs.parse(self._content(PROOF), self._named(PROOF))

    def database(self) -> DatabaseFacts:
        """Return the facts of the database itself (owner, grants, settings, comment text)."""
        from pgtasks.database import DatabaseFacts

        return DatabaseFacts.parse(self._content(DATABASE), self._named(DATABASE))

    def globals(self) -> str:
        """Return the SQL that makes the roles, empty where they could not be read."""
        if GLOBALS not in self.manifest.files:
            return ""
        try:
            return self._content(GLOBALS).decode("utf-8")
        except ValueError as exc:
            raise NotProven(f"{self._named(GLOBALS)}: {exc}") from None

    @property
    def checks(self) -> Checks:
        """Return when it was verified and drilled."""
        try:
            return checks_of(plainfile.read(self.path, CHECKS, limit=_CHECKS_LIMIT))
        except (OSError, NotProven):
            return Checks()  # never checked, or a note that cannot be read: the same

    def record(self, **changes: str | None) -> Checks:
        """Write down when it was verified or drilled: fields of Checks; its files stay as they are.

        Raises OSError where the folder cannot be written.
        """
        checks = replace(self.checks, **changes)  # type: ignore[arg-type]
        plainfile.replace(self.path, CHECKS, checks.text().encode())
        return checks

    def _named(self, name: str) -> str:
        return f"backup {self.id}: {name}"

    def _content(self, name: str) -> bytes:
        """Return a small file as the manifest knows it, raising NotProven for any other content."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise NotProven(f"{self._named(name)}: missing")
        limit = min(expected.size, _LIMITS[name])
        try:
            content = plainfile.read(self.path, name, limit=limit)
        except OSError as exc:
            raise NotProven(f"{self._named(name)}: {exc.strerror}") from None
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise NotProven(f"{self._named(name)}: its content was changed")
        return content


def checks_of(content: bytes) -> Checks:
    """Return the checks that a file holds, raising NotProven for anything else."""
    said = decoding.decode(content, _Checks, CHECKS)
    return Checks(said.intact, said.proven, said.damaged, said.damage)


def dump_name(layout: str) -> str:
    """Return the name of the dump in a backup's folder."""
    return _DUMPS[layout]


def home(folder: Path, environment: str, database: str) -> Path:
    """Return the folder of one database's backups."""
    return folder / folder_name(environment) / folder_name(database)


def load(path: Path) -> Backup:
    """Return the backup of a folder, raising NotProven where its manifest cannot be read."""
    where = str(path / manifests.NAME)
    try:
        content = plainfile.read(path, manifests.NAME, limit=manifests.LIMIT)
    except OSError as exc:
        raise NotProven(f"{where}: {exc.strerror}") from None
    return Backup(path, manifests.parse(content, where))


def list_backups(
    folder: Path, *, environment: str | None = None, database: str | None = None
) -> list[Backup]:
    """Return the finished backups below `folder`, newest first.

    Names are those of the manifests, not of folders. One whose manifest cannot be read is left
    out here and named by `unreadable`.
    """
    found = (backup for backup, _ in _loaded(folder) if isinstance(backup, Backup))
    chosen = [
        backup
        for backup in found
        if environment in (None, backup.manifest.environment)
        and database in (None, backup.manifest.database)
    ]
    return sorted(chosen, key=lambda b: (b.manifest.snapshot_time, b.id), reverse=True)


def unreadable(folder: Path) -> list[tuple[Path, str]]:
    """Return the folders that look like backups and have no readable manifest, with why."""
    return [(path, str(found)) for found, path in _loaded(folder) if not isinstance(found, Backup)]


def _loaded(folder: Path) -> Iterator[tuple[Backup | PgtasksError, Path]]:
    for path in sorted(folder.glob("[!.]*/[!.]*/[!.]*")):
        if not path.is_dir():
            continue
        try:
            yield load(path), path
        except PgtasksError as exc:
            yield exc, path


def find(folder: Path, environment: str, database: str, which: str | None = None) -> Backup:
    """Return one backup: None or `latest`, an ID, the unique beginning of an ID, or a path.

    `latest` is the newest complete one of this environment and database (neither --schema-only
    nor with data left out). An ID of this environment and database goes before one of another.
    Raises Refused naming what is there, NotProven for a path whose manifest cannot be read.
    """
    if which in (None, LATEST):
        return _latest(folder, environment, database)
    assert which is not None
    if os.sep in which or (Path(which) / manifests.NAME).exists():
        return _at(Path(which).expanduser())
    own = list_backups(folder, environment=environment, database=database)
    return _by_id(own, which) or _by_id(list_backups(folder), which) or _none(own, which)


def _latest(folder: Path, environment: str, database: str) -> Backup:
    own = list_backups(folder, environment=environment, database=database)
    for backup in own:
        if backup.manifest.complete:
            return backup
    where = f"of database {database!r} in environment {environment!r}"
    if own:
        raise Refused(
            f"no complete backup {where}, only some without all data: name one, {_named(own)}"
        )
    others = list_backups(folder)
    way = f"name one of another, {_named(others)}" if others else "make one with inv db.backup"
    raise Refused(f"no backup {where}: {way}")


def _at(path: Path) -> Backup:
    if path.name == manifests.NAME:
        path = path.parent
    if not path.is_dir():
        raise Refused(f"no backup at {str(path)!r}: expected the folder of one")
    return load(path)


def _by_id(backups: list[Backup], which: str) -> Backup | None:
    for backup in backups:
        if backup.id == which:
            return backup
    beginning = [backup for backup in backups if backup.id.startswith(which)]
    if len(beginning) > 1:
        raise Refused(f"{which!r} is the beginning of {len(beginning)} IDs: {_named(beginning)}")
    return beginning[0] if beginning else None


def _none(own: list[Backup], which: str) -> Backup:
    there = f"there is {_named(own)}" if own else "there is none of this database"
    raise Refused(f"unknown backup {which!r}, {there}")


def _named(backups: list[Backup]) -> str:
    names = ", ".join(backup.id for backup in backups[:_SHOWN])
    return names + (f" and {len(backups) - _SHOWN} more" if len(backups) > _SHOWN else "")
