"""Where backups lie: BACKUPS/ENVIRONMENT/DATABASE/ID, found and listed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.backup.format import files, foreign
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.store import staging
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import plainfile
from pgtasks.report import typed
from pgtasks.server.quoting import folder_name

if TYPE_CHECKING:
    pass

LATEST = "latest"
_SHOWN = 5  # backups that an error names


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


class Unreadable(NotProven):
    """Report a backup that was asked for and whose manifest cannot be read."""

    def __init__(self, message: str, *, id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id = id


@dataclass(frozen=True)
class Shelved:
    """What lies in a backups folder: finished backups, newest first, and what cannot be read."""

    folder: Path
    backups: Sequence[Backup]
    unreadable: Sequence[tuple[Path, PgtasksError]]

    def of(self, environment: str | None, database: str | None) -> list[Backup]:
        """Return the backups of an environment, a database; names are those of the manifests."""
        return [
            backup
            for backup in self.backups
            if environment in (None, backup.manifest.environment)
            and database in (None, backup.manifest.database)
        ]

    def unreadable_of(self, environment: str, database: str) -> list[tuple[Path, PgtasksError]]:
        """Return what cannot be read and lies, with a backup's name, where theirs lie."""
        below = home(self.folder, environment, database)
        return [
            (path, why)
            for path, why in self.unreadable
            if path.parent == below and is_id(path.name)
        ]


def look(folder: Path) -> Shelved:
    """Return what lies in a backups folder; one that cannot be read never hides the others."""
    found: list[Backup] = []
    unreadable: list[tuple[Path, PgtasksError]] = []
    for path in sorted(folder.glob("[!.]*/[!.]*/[!.]*")):
        if not path.is_dir():
            continue
        try:
            found.append(_own(load(path)))
        except PgtasksError as exc:
            unreadable.append((path, exc))
    found.sort(key=lambda b: (b.manifest.snapshot_time, b.id), reverse=True)
    return Shelved(folder, found, unreadable)


def _own(backup: Backup) -> Backup:
    """Raise NotProven where a folder holds the manifest of another backup than it is named for."""
    if backup.id != backup.path.name:
        where = backup.path / manifests.NAME
        raise NotProven(f"{where}: the manifest of backup {backup.id}, whose name the folder lacks")
    return backup


def list_backups(
    folder: Path, *, environment: str | None = None, database: str | None = None
) -> list[Backup]:
    """Return the finished backups below `folder`, newest first.

    Names are those of the manifests, not of folders. One whose manifest cannot be read is left
    out here and named by `unreadable`.
    """
    return look(folder).of(environment, database)


def unreadable(folder: Path) -> list[tuple[Path, str]]:
    """Return the folders that look like backups and have no readable manifest, with why."""
    return [(path, why.message) for path, why in look(folder).unreadable]


def find(folder: Path, environment: str, database: str, which: str | None = None) -> Backup:
    """Return one backup: None or `latest`, an ID, the unique beginning of an ID, or a path.

    `latest` is the newest complete one of this environment and database (neither --schema-only
    nor with data left out). An ID of this environment and database goes before one of another.
    Raises Refused naming what is there, Unreadable for one whose manifest cannot be read: a newest
    one that is damaged is not passed over.
    """
    if which == "":  # an unset variable of a script, say
        raise Refused("--backup '' names no backup: an ID, the beginning of one, latest, or a path")
    if which is not None and which != LATEST and (os.sep in which or _holds_one(Path(which))):
        return at(Path(which).expanduser())
    there = look(folder)
    if which in (None, LATEST):
        return _latest(there, environment, database)
    assert which is not None
    own = there.of(environment, database)
    known = _by_id(own, there.unreadable_of(environment, database), which)
    known = known or _by_id(there.backups, there.unreadable, which)
    if known is None and os.path.lexists(which):
        raise Refused(foreign.described(Path(which)))
    return known or _none(own, which)


def _holds_one(path: Path) -> bool:
    return os.path.lexists(path / manifests.NAME)


def _latest(there: Shelved, environment: str, database: str) -> Backup:
    own = there.of(environment, database)
    chosen = next((backup for backup in own if backup.manifest.complete), None)
    _refuse_passing_over(there.unreadable_of(environment, database), chosen)
    if chosen:
        return chosen
    where = f"of database {database!r} in environment {environment!r}"
    if own:
        raise Refused(
            f"no complete backup {where}, only some without all data: name one, {_named(own)}"
        )
    others = there.backups
    make = typed.task("db.backup")
    way = f"name one of another, {_named(others)}" if others else f"make one with {make}"
    raise Refused(f"no backup {where}: {way}")


def _refuse_passing_over(
    broken: Sequence[tuple[Path, PgtasksError]], chosen: Backup | None
) -> None:
    """Raise Unreadable where a backup newer than the chosen one cannot be read."""
    newest, why = max(broken, key=lambda one: one[0].name, default=(None, None))
    if newest is None or why is None or (chosen is not None and newest.name < chosen.id):
        return
    way = f"--backup {chosen.id} takes the newest that can" if chosen else "no other is there"
    raise Unreadable(
        f"the newest backup {newest.name} cannot be read, {way}: {why.message}", id=newest.name
    )


def at(path: Path) -> Backup:
    """Return the backup of a folder that somebody names, or of its manifest.

    Raises Refused where there is none, Unreadable for one whose manifest cannot be read.
    """
    path = path.parent if path.name == manifests.NAME else path
    if not path.exists():
        raise Refused(f"no backup at {str(path)!r}: expected the folder of one")
    if not (_holds_one(path) or (path.is_dir() and is_id(path.name))):
        raise Refused(foreign.described(path))
    try:
        found = load(path)
        return _own(found) if is_id(path.resolve().name) else found
    except NotProven as exc:
        raise Unreadable(exc.message, id=path.name) from None


def is_id(name: str) -> bool:
    """Return whether a name has the form of a backup's ID."""
    return re.fullmatch(manifests.ID, name) is not None


def _by_id(
    backups: Sequence[Backup], unreadable: Sequence[tuple[Path, PgtasksError]], which: str
) -> Backup | None:
    """Return the backup of an ID or of its beginning, raising why it cannot be read."""
    broken = {path.name: why for path, why in unreadable}
    for backup in backups:
        if backup.id == which:
            return backup
    fitting = [backup.id for backup in backups] + list(broken)
    beginning = [which] if which in broken else [id for id in fitting if id.startswith(which)]
    if len(beginning) > 1:
        raise Refused(f"{which!r} is the beginning of {len(beginning)} IDs: {_listed(beginning)}")
    for id in beginning:
        if id in broken:
            raise Unreadable(f"backup {id} is damaged: {broken[id].message}", id=id)
    return next((backup for backup in backups if backup.id in beginning), None)


def _none(own: list[Backup], which: str) -> Backup:
    there = f"there is {_named(own)}" if own else "there is none of this database"
    raise Refused(f"unknown backup {which!r}, {there}")


def _named(backups: Sequence[Backup]) -> str:
    return _listed([backup.id for backup in backups])


def _listed(ids: Sequence[str]) -> str:
    names = ", ".join(ids[:_SHOWN])
    return names + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def sweep(folder: Path) -> list[str]:
    """Tidy up after interrupted backups, and say what was done; living runs are left alone.

    One that was written whole and lacks its final name alone gets it.
    """
    said = []
    for path in staging.leftovers(folder):
        id = _whole(path)
        if id and staging.settle(path, id):
            said.append(f"finished backup {id}, which an interrupted run had written whole")
        elif staging.discard(path):
            said.append(f"removed {path.name!r}, an interrupted backup")
    return said


def _whole(path: Path) -> str:
    """Return the ID of a backup in the making to which nothing is missing, nothing for another."""
    try:
        made = load(path).manifest
    except PgtasksError:
        return ""
    whole = staging.name(made.id) == path.name and not files.unfit(path, made.files)
    return made.id if whole else ""
