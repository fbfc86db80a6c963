"""Find what `--backup X` means: latest, ask, a path, an ID or the beginning of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pgtasks.backup.format import manifest
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.contents import Broken, Contents
from pgtasks.backup.store.faults import UnreadableManifest
from pgtasks.errors import Refused
from pgtasks.report import typed

Kind = Literal["latest", "ask", "path", "id"]
_SHOWN = 5  # backups that an error names


def kind(which: str | None) -> Kind:
    """Return the kind of a name; None means the latest.

    A word without a slash is a path if a backup exists there. Raises Refused for an empty name.
    """
    if which == "":  # for example an unset variable in a script
        raise Refused("--backup '' names no backup: an ID, the beginning of one, latest, or a path")
    if which is None or which == "latest":
        return "latest"
    if which == "ask":
        return "ask"
    return "path" if os.sep in which or holds_backup(Path(which)) else "id"


def holds_backup(path: Path) -> bool:
    """Return whether a folder has a manifest, valid or not."""
    return os.path.lexists(path / manifest.NAME)


def select(
    contents: Contents,
    environment: str,
    database: str,
    which: str | None,
    *,
    flags: Sequence[str] = (),
) -> Backup:
    """Return the latest backup of a store, or the one of an ID or of its unique beginning.

    The latest is the newest complete one of this environment and database (neither --schema-only
    nor with data left out). An ID of this environment and database goes before one of another.
    Raises Refused with the known backups, UnreadableManifest if its manifest cannot be read: a
    damaged newest backup is not skipped. `flags` are those of tasks that work in this store.
    """
    if which is None or which == "latest":
        return _latest(contents, environment, database)
    own, broken = contents.of(environment, database), contents.broken_of(environment, database)
    backup = _by_id(own, broken, which) or _by_id(contents.backups, contents.broken, which)
    if backup is None:
        _refuse_trashed(contents, environment, database, which, flags)
        known = f"there is {_named(own)}" if own else "this database has none"
        raise Refused(f"unknown backup {which!r}, {known}")
    return backup


def _refuse_trashed(
    contents: Contents, environment: str, database: str, which: str, flags: Sequence[str]
) -> None:
    """Raise Refused for a backup that is in the trash of its database."""
    dropped = contents.trash_of(environment, database)
    ids = {each.id for each in dropped if not each.removing and each.id.startswith(which)}
    if len(ids) == 1:
        (id,) = ids
        back = typed.task("backup.untrash", id, *flags)
        raise Refused(f"backup {id} is in the trash: {back} brings it back")


def _latest(contents: Contents, environment: str, database: str) -> Backup:
    own = contents.of(environment, database)
    chosen = next((backup for backup in own if backup.manifest.complete), None)
    _refuse_passing_over(contents.broken_of(environment, database), chosen)
    if chosen:
        return chosen
    where = f"of database {database!r} in environment {environment!r}"
    if own:
        raise Refused(
            f"no complete backup {where}, only some without all data: name one, {_named(own)}"
        )
    others = contents.backups
    make = typed.task("db.backup")
    way = f"name one of another, {_named(others)}" if others else f"make one with {make}"
    raise Refused(f"no backup {where}: {way}")


def _refuse_passing_over(broken: Sequence[Broken], chosen: Backup | None) -> None:
    """Raise UnreadableManifest if a backup newer than the chosen one cannot be read."""
    newest = max(broken, key=lambda each: each.name, default=None)
    if newest is None or (chosen is not None and newest.name < chosen.id):
        return
    way = f"--backup {chosen.id} takes the newest that can" if chosen else "there is no other"
    raise UnreadableManifest(
        f"the newest backup {newest.name} cannot be read, {way}: {newest.error.message}",
        id=newest.name,
    )


def _by_id(backups: Sequence[Backup], broken: Sequence[Broken], which: str) -> Backup | None:
    """Return the backup with an ID or its unique beginning, raising if it cannot be read."""
    faults = {each.name: each.error for each in broken}
    for backup in backups:
        if backup.id == which:
            return backup
    ids = [backup.id for backup in backups] + list(faults)
    fitting = [which] if which in faults else [id for id in ids if id.startswith(which)]
    if len(fitting) > 1:
        raise Refused(f"{which!r} is the beginning of {len(fitting)} IDs: {_listed(fitting)}")
    for id in fitting:
        if id in faults:
            raise UnreadableManifest(f"backup {id} is damaged: {faults[id].message}", id=id)
    return next((backup for backup in backups if backup.id in fitting), None)


def _named(backups: Sequence[Backup]) -> str:
    return _listed([backup.id for backup in backups])


def _listed(ids: Sequence[str]) -> str:
    names = ", ".join(ids[:_SHOWN])
    return names + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
