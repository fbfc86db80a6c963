"""Decide whether a backup may come from somebody else."""

from __future__ import annotations

from pathlib import Path

from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.store.backup import Backup
from pgtasks.host import journal, private


def doubt(backup: Backup, backups: Path, project: Path) -> str:
    """Return why a backup may come from somebody else, by the journal and by who may write to it.

    Another account that can write to its folder could exchange the dump after every check. Over SSH
    the host is trusted with that; only the files on this machine are checked.
    """
    if isinstance(backup, Dump):
        return "somebody else made this dump"
    when = backup.manifest.snapshot_time
    if journal.holds(backups, "backup.import", backup.fingerprint, when=_named_at(backup.id)):
        return "backup.import made this backup of a dump that somebody else made"
    if not journal.holds(backups, "db.backup", backup.fingerprint, when=when):
        return "no run of this project made this backup, by its journal"
    owner = project.stat().st_uid
    open_to = private.exposed(backup.path, owner) or private.exposed(journal.path(backups), owner)
    return open_to and f"another account could have changed this backup: {open_to}"


def _named_at(id: str) -> str:
    """Return the time in an ID: an import begins then, whatever the time of its snapshot."""
    return f"{id[:4]}-{id[4:6]}-{id[6:11]}:{id[11:13]}:{id[13:16]}"
