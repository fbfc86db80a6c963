"""Drop a single backup by hand, also a damaged one, which backup.prune leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgtasks import report
from pgtasks.backup.prune import facts, hands, loss, rules
from pgtasks.backup.prune.facts import Known
from pgtasks.backup.prune.rules import Fact
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.contents import Broken
from pgtasks.errors import Failed, Refused
from pgtasks.host import journal
from pgtasks.report import typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class DropPlan:
    """The backup that goes; `state` says what it is, `size` is None for an unreadable one."""

    id: str
    store: Store
    home: tuple[str, str]
    place: str
    state: str
    size: int | None
    trash: str
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        size = "" if self.size is None else f", {report.size(self.size)}"
        return [f"{'would drop' if self.dry else 'drop'} backup {self.id}{size}: {self.state}"]

    @property
    def warning(self) -> str:
        """Return what a person should know before a yes."""
        return f"drops backup {self.id} ({self.state}), it stays in the trash for {self.trash}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "backup": self.id,
            "where": self.store.name,
            "path": self.place,
            "state": self.state,
            "size": self.size,
            "trash": self.trash,
            "dry": self.dry,
        }


@dataclass(frozen=True)
class SingleDropped:
    """A backup that is in the trash."""

    plan: DropPlan

    def lines(self) -> list[str]:
        """Return what a person reads."""
        id = self.plan.id
        back = typed.task("backup.untrash", id, *hands.on_host(self.plan.store.name))
        return [
            f"dropped backup {id}: {self.plan.state}",
            f"it stays in the trash for {self.plan.trash}: {back} brings it back",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return self.plan.as_json()


def drop(
    store: Store,
    target: Target,
    id: str,
    agreed: Callable[[DropPlan], bool],
    *,
    dry: bool = False,
) -> SingleDropped | DropPlan:
    """Drop a backup of a target, by its ID or the beginning of it.

    `agreed` asks. The answer may take hours, so the backup is looked at again after it. Raises
    Refused for one that is kept by hand or must stay whatever anybody says, Locked if another run
    keeps or drops backups of this database.
    """
    if dry:
        return plan(store, target, id, journal.clock(), dry=True)
    with store.retaining(target.environment, target.database):
        planned = plan(store, target, id, journal.clock())
        if agreed(planned):
            planned = plan(store, target, planned.id, journal.clock())
        with telling(lambda: _left(planned)):
            boundary("drop.agreed")
            faults = store.drop(*planned.home, [planned.id], journal.clock())
            for fault in faults.values():
                raise Failed(f"backup {planned.id} was left, it {fault}")
            boundary("drop.dropped")
    return SingleDropped(planned)


def _left(planned: DropPlan) -> str:
    """Return what a store has of the backup that was to be dropped."""
    contents = planned.store.list()
    there = [each.id for each in contents.of(*planned.home)]
    there += [each.name for each in contents.broken_of(*planned.home)]
    place = "at its place, as before" if planned.id in there else "in the trash"
    return f"backup {planned.id} is {place}"


def plan(store: Store, target: Target, id: str, now: datetime, *, dry: bool = False) -> DropPlan:
    """Return the plan for the backup of an ID, raising Refused if it must stay."""
    contents = store.list()
    home = (target.environment, target.database)
    known = facts.of(store, contents, *home)
    chosen = _chosen(known.backups, contents.broken_of(*home), id)
    place = f"{store.prefix}{chosen.folder}" if isinstance(chosen, Backup) else chosen.place
    if place.removeprefix(store.prefix) in contents.links:
        raise Refused(f"{place!r} is a symbolic link: remove it by hand, what it leads to is not")
    if isinstance(chosen, Broken):
        state, size = f"unreadable: {chosen.error.message}", None
        named = chosen.name
    else:
        state, size = _state(store, known, chosen, now), chosen.manifest.size
        _refuse_kept(chosen)
        _refuse_needed(store, known, chosen, target, now)
        named = chosen.id
    return DropPlan(named, store, home, place, state, size, target.backup.trash, dry)


def _chosen(backups: Sequence[Backup], broken: Sequence[Broken], id: str) -> Backup | Broken:
    """Return the backup of an ID or of its unique beginning."""
    named: dict[str, Backup | Broken] = {each.name: each for each in broken}
    named |= {each.id: each for each in backups}
    fitting = [id] if id in named else [name for name in named if id and name.startswith(id)]
    if len(fitting) > 1:
        raise Refused(f"{id!r} is the beginning of {len(fitting)} IDs: {hands.listed(fitting)}")
    if not fitting:
        listed = hands.listed(list(named))
        there = f"there is {listed}" if listed else "this database has none"
        raise Refused(f"unknown backup {id!r}, {there}")
    return named[fitting[0]]


def _state(store: Store, known: Known, backup: Backup, now: datetime) -> str:
    """Return what a backup is, for a person who decides."""
    if fault := store.unfit([backup]).get(backup.id):
        return f"damaged: {fault}"
    if backup.checks.damaged:
        return f"damaged: {backup.checks.damage or backup.checks.damaged}"
    fact = next(each for each in known.facts if each.id == backup.id)
    return rules.aside(fact, now) or ("whole, proven" if fact.proven else "whole")


def _refuse_kept(backup: Backup) -> None:
    said = backup.retention if not _unreadable(backup) else None
    if said is not None and said.kept:
        release = typed.task("backup.release", backup.id, *hands.on_host(backup.store.name))
        raise Refused(f"backup {backup.id} is kept ({said.why}, {said.kept_by}): {release} first")


def _unreadable(backup: Backup) -> bool:
    """Return whether nobody can tell what is said about keeping a backup."""
    return "retention_error" in hands.retention_as_json(backup)


def _refuse_needed(
    store: Store, known: Known, backup: Backup, target: Target, now: datetime
) -> None:
    """Refuse what backup.prune keeps whatever its rules say, and what a loss keeps."""
    whole = _whole(store, known, now)
    if backup.id not in [fact.id for fact in whole]:
        return
    if known.stopping and backup not in known.stopping:
        raise Refused(f"nothing was dropped: {loss.warning(known.stopping[0])}")
    if len(whole) == 1:
        make = typed.task("db.backup")
        raise Refused(f"backup {backup.id} is the only whole one: make another with {make} first")
    proven = [fact.id for fact in whole if fact.proven]
    if backup.id in proven and len(proven) <= target.backup.keep.proven:
        drill = typed.task("backup.drill")
        only = "the only proven one" if len(proven) == 1 else f"one of {len(proven)} proven ones"
        raise Refused(
            f"backup {backup.id} is {only}, of which {target.backup.keep.proven} stay "
            f"(backup: keep: proven): prove another with {drill} first"
        )


def _whole(store: Store, known: Known, now: datetime) -> list[Fact]:
    """Return the facts of those backups that could be restored whole, as far as is known."""
    sound = [fact for fact in known.facts if not rules.aside(fact, now)]
    ids = {fact.id for fact in sound}
    faults = store.unfit([each for each in known.backups if each.id in ids])
    return [fact for fact in sound if fact.id not in faults]
