"""What is known about the backups of a database in a store, for the rules that prune them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pgtasks.backup.prune.rules import Fact
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.contents import Contents
from pgtasks.errors import NotProven


@dataclass(frozen=True)
class Known:
    """The backups of one database that lie where they belong, and a line for each other one.

    `stopping` are those with a loss that nobody has acknowledged, the oldest first.
    """

    backups: Sequence[Backup]
    facts: Sequence[Fact]
    alone: Sequence[str] = ()
    stopping: Sequence[Backup] = ()


def of(store: Store, contents: Contents, environment: str, database: str) -> Known:
    """Return what is known about the backups of exactly this environment and database."""
    home = f"{store.home(environment, database)}/"
    backups, alone = [], []
    for backup in contents.backups:
        named = (backup.manifest.environment, backup.manifest.database)
        inside = backup.lies_in(home)
        if named == (environment, database) and inside:
            backups.append(backup)
        elif named == (environment, database):
            alone.append(f"left {backup.place!r} alone: it is not in the folder of this database")
        elif inside:
            whose = "/".join(named)
            alone.append(f"left {backup.place!r} alone: its manifest is of {whose}")
    for broken in contents.broken_of(environment, database):
        alone.append(f"left {broken.place!r} alone, it cannot be read: {broken.error.message}")
    facts = [_fact(backup, contents.links) for backup in backups]
    return Known(backups, facts, alone, stopping(backups))


def stopping(backups: Iterable[Backup]) -> list[Backup]:
    """Return those with a loss that nobody has acknowledged, the oldest first."""
    lossy = [each for each in backups if lost(each) and each.retention.stops]
    return newest_first(lossy)[::-1]


def lost(backup: Backup) -> str:
    """Return what a backup has lost, empty if nothing is known of a loss."""
    try:
        return backup.retention.loss
    except NotProven:
        return ""


def _fact(backup: Backup, links: Collection[str]) -> Fact:
    checks = backup.checks
    try:
        retention = backup.retention
    except NotProven as exc:
        return Fact(backup.id, backup.manifest.taken, aside=f"left alone: {exc.message}")
    kept = f"{retention.why} ({retention.kept_by})" if retention.kept else ""
    return Fact(backup.id, backup.manifest.taken, bool(checks.proven), kept, _aside(backup, links))


def _aside(backup: Backup, links: Collection[str]) -> str:
    """Return why a backup counts as none that could be restored whole, empty if it does."""
    made, checks = backup.manifest, backup.checks
    if backup.folder in links:
        return "a symbolic link"
    if checks.damaged:
        return "damaged"
    if checks.failed:
        return "its drill failed"
    if made.schema_only:
        return "schema only"
    if made.excluded_data:
        return f"without rows of {', '.join(made.excluded_data)}"
    return ""
