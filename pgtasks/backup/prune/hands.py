"""Keep and release a backup by hand, and bring one back from the trash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.backup.format.retention import LONGEST, Retention
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import journal
from pgtasks.report import account, typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling

_SHOWN = 5  # backups that an error names


@dataclass(frozen=True)
class Handled:
    """The result of a task that changed what is said about a backup."""

    backup: Backup
    did: str
    then: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [f"{self.did} backup {self.backup.id}: {self.then}", self.backup.place]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "backup": self.backup.id,
            "where": self.backup.store.name,
            "path": self.backup.folder,
            **retention_as_json(self.backup),
        }


def retention_as_json(backup: Backup) -> dict[str, Any]:
    """Return what is said about keeping a backup, as plain data."""
    try:
        said = backup.retention
    except NotProven as exc:
        return {"retention_error": exc.message}
    return {
        "kept": said.kept,
        "kept_why": said.why,
        "kept_by": said.kept_by,
        "loss": said.loss,
        "acknowledged": said.acknowledged,
        "acknowledged_by": said.acknowledged_by,
    }


def facts(backup: Backup) -> list[tuple[str, str]]:
    """Return what a person reads about keeping a backup: names and texts."""
    try:
        said = backup.retention
    except NotProven as exc:
        return [("kept", f"unknown, so backup.prune leaves it alone: {exc.message}")]
    lines = []
    if said.kept:
        lines.append(("kept", f"{said.why} ({said.kept}, {said.kept_by})"))
    if said.loss and said.acknowledged:
        seen = f"acknowledged {said.acknowledged}, {said.acknowledged_by}"
        lines.append(("lost", f"{said.loss} ({seen})"))
    elif said.loss:
        way = typed.task("backup.acknowledge", backup.id)
        lines.append(("lost", f"{said.loss}: backup.prune drops nothing until {way}"))
    return lines


def note(backup: Backup) -> list[str]:
    """Return the same in few words, for a list."""
    try:
        said = backup.retention
    except NotProven as exc:
        return [exc.message]
    kept = [f"kept: {said.why}"] if said.kept else []
    return [*kept, *([f"lost {said.loss}, not acknowledged"] if said.stops else [])]


def keep(backup: Backup, why: str | None) -> Handled:
    """Keep a backup, whatever the rules say, until it is released."""
    why = (why or "").strip()
    if not why or len(why) > LONGEST:
        raise Refused(
            "--why: say in a few words why the backup is kept"
            if not why
            else f"--why has {len(why):,} characters, at most {LONGEST:,} are kept"
        )
    by, replaced = account.who()[:LONGEST], []

    def kept(said: Retention) -> Retention:
        replaced.extend([f"{said.why!r} ({said.kept_by})"] if said.kept and said.why != why else [])
        return replace(said, kept=journal.now(), why=why, kept_by=by)

    change_retention(backup, kept)
    release_task = typed.task("backup.release", backup.id, *on_host(backup.store.name))
    before = f"; the reason before was {replaced[0]}" if replaced else ""
    return Handled(backup, "kept", f"backup.prune never drops it, until {release_task}{before}")


def release(backup: Backup) -> Handled:
    """Leave a kept backup to the rules again."""

    def released(said: Retention) -> Retention:
        if said.kept is None:
            raise Refused(f"backup {backup.id} is not kept, nothing was done")
        return replace(said, kept=None, why="", kept_by="")

    change_retention(backup, released)
    return Handled(backup, "released", "the rules decide again whether it stays")


def change_retention(backup: Backup, change: Callable[[Retention], Retention]) -> None:
    """Change what is said about a backup, under the lock of its database."""
    store, made = backup.store, backup.manifest
    with store.retaining(made.environment, made.database):
        if not store.has(backup):
            raise Failed(f"backup {backup.id} is not there any more: another run dropped it")
        said = change(_said(backup))
        with telling(lambda: _in_words(backup)):
            boundary("keep.locked")
            try:
                store.retain(backup, said)
            except OSError as exc:
                raise Failed(f"cannot write in {backup.place!r}: {exc.strerror}") from None
            boundary("keep.written")
    backup.forget_retention()


def _in_words(backup: Backup) -> str:
    """Return what is said about keeping a backup after a signal, as it is read anew."""
    said = _said(backup)
    kept = f"kept: {said.why}" if said.kept else "left to the rules"
    loss = f", its loss is {'' if said.acknowledged else 'not '}acknowledged" if said.loss else ""
    return f"backup {backup.id} is {kept}{loss}"


def _said(backup: Backup) -> Retention:
    """Return what is said; a file that cannot be read is replaced."""
    backup.forget_retention()
    try:
        return backup.retention
    except NotProven:
        return Retention()


@dataclass(frozen=True)
class BroughtBack:
    """A backup that is at its place again."""

    trashed: Trashed
    place: str
    where: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        keeps = typed.task("backup.keep", self.trashed.id, "--why '...'")
        return [
            f"brought back backup {self.trashed.id}: the next backup.prune drops it again if no "
            f"rule keeps it, {keeps} prevents that",
            self.place,
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        dropped = self.trashed.dropped.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "backup": self.trashed.id,
            "where": self.where,
            "path": self.place,
            "dropped": dropped,
        }


def untrash(store: Store, environment: str, database: str, id: str) -> BroughtBack:
    """Bring a backup back from the trash, by its ID, the beginning of it, or latest.

    The latest is the one that was dropped last, of several the newest. Raises Refused if it is not
    there, if several fit, or if its place is taken.
    """
    with store.retaining(environment, database):
        dropped = store.list().trash_of(environment, database)
        trashed = _chosen([each for each in dropped if not each.removing], id, store)

        def left() -> str:
            dropped = [each.place for each in store.list().trash_of(environment, database)]
            place = "in the trash, as before" if trashed.place in dropped else "at its place"
            return f"backup {trashed.id} is {place}"

        with telling(left):
            boundary("untrash.found")
            store.bring_back(trashed)
            boundary("untrash.moved")
    home = trashed.place.rsplit("/", 2)[0]
    return BroughtBack(trashed, f"{store.prefix}{home}/{trashed.id}", store.name)


def _chosen(dropped: Sequence[Trashed], id: str, store: Store) -> Trashed:
    if id == "latest":
        fitting = list(dropped[:1])
    else:
        fitting = [each for each in dropped if id and each.id.startswith(id)]
    ids = list(dict.fromkeys(each.id for each in fitting))
    if len(ids) == 1:
        return fitting[0]  # the one that was dropped last
    where = "" if store.name == "here" else f" on {store.name}"
    if ids:
        raise Refused(f"{id!r} is the beginning of {len(ids)} IDs in the trash: {listed(ids)}")
    known = listed(list(dict.fromkeys(each.id for each in dropped)))
    there = f"there is {known}" if known else "it is empty"
    raise Refused(f"no backup {id!r} in the trash of this database{where}, {there}")


def listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more


def keeps(backup: Backup) -> str:
    """Return the command that keeps a backup, in its store."""
    return typed.task("backup.keep", backup.id, "--why '...'", *on_host(backup.store.name))


def on_host(store: str) -> tuple[str, ...]:
    """Return the flag with which a task works in the store of a name."""
    return () if store == "here" else ("--on-host",)


def trash_line(trashed: Sequence[Trashed]) -> str:
    """Return a line about dropped backups, empty without any."""
    whole = [each.id for each in trashed if not each.removing]
    if not whole:
        return ""
    shows = typed.task("backup.list", "--trash")
    return f"in the trash: {report.plural(len(whole), 'backup')}, see {shows}"
