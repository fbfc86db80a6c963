"""A sudden loss of rows or size against the previous backup, which stops backup.prune."""

from __future__ import annotations

from pgtasks import report
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.prune import hands
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.report import typed
from pgtasks.settings.target import Target


def previous(store: Store, target: Target) -> Manifest | None:
    """Return the manifest of the newest whole backup of a target, None if there is none."""
    for backup in store.newest(target.environment, target.database):
        named = (backup.manifest.environment, backup.manifest.database)
        if counts(backup) and named == (target.environment, target.database):
            return backup.manifest
    return None


def counts(backup: Backup) -> bool:
    """Return whether a backup is whole, so that another one is compared with it."""
    return backup.manifest.complete and not backup.checks.damaged


def between(before: Manifest, made: Manifest, share: float) -> str:
    """Return what a backup has lost against the one before it, if that is `share` of it or more.

    Neither is compared that lacks data by intention. Sizes are compared if the compression is the
    same, rows if no table more was left uncounted.
    """
    if not (share and before.complete and made.complete):
        return ""
    losses = []
    rows = made.rows if made.uncounted <= before.uncounted else None
    if before.rows and rows is not None and _lost(before.rows, rows) >= share:
        counts = f"{before.rows:,} to {rows:,}"
        losses.append(f"{_percent(before.rows, rows)} of its rows ({counts})")
    if before.compression == made.compression and _lost(before.size, made.size) >= share:
        sizes = f"{report.size(before.size)} to {report.size(made.size)}"
        losses.append(f"{_percent(before.size, made.size)} of its size ({sizes})")
    return f"{' and '.join(losses)} since {before.id}" if losses else ""


def warning(backup: Backup) -> str:
    """Return what to say about a backup with a loss, with the way out."""
    made = backup.manifest
    way = typed.task("backup.acknowledge", made.id, *hands.on_host(backup.store.name))
    return (
        f"backup {made.id} has lost {backup.retention.loss}: look at it, "
        f"backup.prune drops nothing of this database until {way}"
    )


def _percent(before: int, made: int) -> str:
    return f"{100 * (before - made) // before} %"  # 100 % is all


def _lost(before: int, made: int) -> float:
    return (before - made) / before if before else 0.0
