"""Dropped backups on a database host: move them into the trash of their database, back, and out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePosixPath

from pgtasks.backup.format.records import size_difference
from pgtasks.backup.store import trash, trash_scripts
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.remote_shell import Shell
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, Locked, Refused
from pgtasks.report.boundaries import boundary

_UNFIT = {
    "link": "is not a folder, which the trash must be: move it away",
    "foreign": "belongs to another account: look at its content, and move it away",
    "disk": "is on another disk, so that nothing can be renamed into it: move it away",
}


@contextmanager
def locked(shell: Shell, folder: str, home: str) -> Iterator[None]:
    """Hold the lock of a database's trash, which the next run removes if this one is killed.

    Raises Locked if another run holds it. Without a folder of the database there is no lock,
    because nothing in it can be dropped.
    """
    name = f"{trash.LOCK}-{secrets.token_hex(8)}"
    kind, _, path = _last(shell.run(trash_scripts.lock(folder, home, name)))
    if kind == "busy":
        raise Locked(f"another run keeps or drops backups in {f'{folder}/{home}'!r}")
    if kind in _UNFIT:
        raise Refused(f"{f'{folder}/{home}/{trash.FOLDER}'!r} {_UNFIT[kind]}")
    try:
        yield
    finally:
        if kind == "held":
            shell.remove(path)


def drop(
    shell: Shell, folder: str, home: str, ids: Sequence[str], when: datetime
) -> dict[str, str]:
    """Move backups of one database into its trash; return the errors by ID."""
    faults = dict.fromkeys(ids, "the host said nothing about it")
    pairs = ((id, f"{trash.FOLDER}/{trash.name(id, when)}") for id in ids)
    for kind, _, id in shell.run(trash_scripts.drop(folder, home), trash_scripts.moves(pairs)):
        faults[id] = {"gone": "is not there any more", "taken": "is in the trash already"}.get(
            kind, "cannot be moved"
        )
        if kind == "moved":
            del faults[id]
    boundary("prune.dropping")
    return faults


def unfit(shell: Shell, backups: Sequence[Backup]) -> dict[str, str]:
    """Return a fault by ID of those backups of one folder that lack files."""
    if not backups:
        return {}
    home = str(PurePosixPath(backups[0].folder).parent)
    ids = "".join(f"./{each.id}\n" for each in backups).encode()
    listed = shell.listed(trash_scripts.files(home), ids)
    found = {name: (size, kind) for name, size, kind in listed}
    faults = {}
    for backup in backups:
        for name, expected in backup.manifest.files.items():
            size, kind = found.get(f"{backup.id}/{name}", (None, ""))
            fault = kind or ("missing" if size is None else size_difference(expected, size))
            if fault:
                faults[backup.id] = f"{name}: {fault}"
                break
    return faults


def bring_back(shell: Shell, trashed: Trashed) -> None:
    """Move a backup from the trash to its place, raising Refused if that is taken."""
    home = _home(trashed)
    kind, _, _ = _last(shell.run(trash_scripts.bring_back(home, trashed.name, trashed.id)))
    if kind == "there":
        raise Refused(f"there is a backup {trashed.id} in {home!r}, move it away first")
    if kind in _UNFIT:
        raise Refused(f"{f'{home}/{trash.FOLDER}'!r} {_UNFIT[kind]}")
    if kind != "moved":
        raise Failed(f"cannot bring back {trashed.place!r}: it is not there any more")


def empty(shell: Shell, trashed: Sequence[Trashed]) -> dict[str, str]:
    """Remove backups of one folder from its trash; return the errors by name."""
    if not trashed:
        return {}
    faults = {each.name: "the host said nothing about it" for each in trashed}
    pairs = [
        (each.name, each.name if each.removing else trash.removing(each.name)) for each in trashed
    ]
    command = trash_scripts.empty(_home(trashed[0]))
    for kind, _, name in shell.run(command, trash_scripts.moves(pairs)):
        faults[name] = "cannot be removed"
        if kind == "removed":
            del faults[name]
    boundary("prune.removing")
    return faults


def _last(lines: Sequence[tuple[str, str, str]]) -> tuple[str, str, str]:
    return lines[-1] if lines else ("", "", "")


def _home(trashed: Trashed) -> str:
    return str(PurePosixPath(trashed.place).parent.parent)
