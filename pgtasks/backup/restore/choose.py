"""Choose the backup to restore, on a terminal from a list."""

from __future__ import annotations

import os
from pathlib import Path

from pgtasks import report
from pgtasks.backup import views
from pgtasks.backup.find import Places
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.store import local
from pgtasks.errors import Refused
from pgtasks.host import journal, private
from pgtasks.report import CONSOLE, typed


def chosen(places: Places, which: str | None) -> Backup:
    """Return the backup that --backup names; `ask` lists them and reads a number.

    Over SSH both places count: the newest of both, and of one that lies in both the one there.
    """
    if which == "ask":
        return _asked(places)
    if not places.target.ssh or _is_path(which):
        return places.here(which)
    backups, refused, unreadable = [], [], []
    for look in (places.there, places.here):
        try:
            backups.append(look(which))
        except Refused as exc:
            refused.append(exc.message)
        except local.Unreadable as exc:
            unreadable.append(exc)
    for broken in unreadable:
        # the same one in the other place, or a newer one, passes nothing over
        if not any(backup.id >= broken.id for backup in backups):
            raise broken
    if not backups:
        raise Refused("; on this machine: ".join(refused))
    return max(backups, key=_age)


def doubt(backup: Backup, backups: Path, project: Path) -> str:
    """Return why a backup may come from somebody else, by the journal and by who may write to it.

    Another account that can write to its folder could exchange the dump after every check. Over SSH
    the host is trusted with that; only the files on this machine are checked.
    """
    if not journal.holds(backups, "db.backup", backup.fingerprint):
        return "no run of this project made this backup, by its journal"
    owner = project.stat().st_uid
    open_to = private.exposed(backup.path, owner) or private.exposed(journal.path(backups), owner)
    return open_to and f"another account could have changed this backup: {open_to}"


def _is_path(which: str | None) -> bool:
    return bool(which) and (os.sep in str(which) or Path(str(which)).is_dir())


def _age(backup: Backup) -> tuple[str, str]:
    return backup.manifest.snapshot_time, backup.id


def _asked(places: Places) -> Backup:
    shows = typed.task("backup.list")
    CONSOLE.require(f"--backup ask needs a terminal, name the backup: {shows} shows them")
    target = places.target
    of = {"environment": target.environment, "database": target.database}
    listed = {backup.id: backup for backup in local.list_backups(places.folder, **of)}
    if target.ssh:
        listed |= {backup.id: backup for backup in places.depot().mirror().backups(**of)}
    newest_first = sorted(listed.values(), key=lambda backup: backup.id, reverse=True)
    if not newest_first:
        return places.find(None)  # names the existing ones
    rows = [
        (each.id, report.age(views.age(each)), each.manifest.rows, each.manifest.note)
        for each in newest_first
    ]
    number = CONSOLE.choose(("backup", "age", "rows", "note"), rows, whole=("backup",))
    if number is None:
        raise Refused("no backup was chosen, nothing was done")
    return chosen(places, newest_first[number].id)
