"""Copy backups from one store to another, checking them at the destination."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.backup.format import files
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.records import Reading, differences
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import filestream, occupant
from pgtasks.backup.store.backup import Backup, reading
from pgtasks.backup.store.base import Draft, Store
from pgtasks.backup.store.faults import BackupExists, damaged
from pgtasks.backup.store.filestream import FileStream, counting
from pgtasks.backup.store.occupant import Occupant
from pgtasks.errors import Failed, NotProven
from pgtasks.host import journal
from pgtasks.report import Progress
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling

_READERS = 2  # processes that read the files at the source
_WHOLE = {"damaged": None, "damage": ""}  # what a copy is, every byte of which was compared
_UNPROVEN = {"proven": None, "proven_by": "", "drilled": None, "recovery": None}
_SPARE = 1 << 20  # bytes that should stay free on the disk of the destination


@dataclass(frozen=True)
class Transferred:
    """The result of a transfer: the copy, or the equal backup that was there `already`.

    `replaced` is the fault of a damaged copy that was there, and is in the trash now.
    """

    backup: Backup
    source: str
    seconds: float
    already: bool = False
    replaced: str = ""

    def summary(self) -> str:
        """Return one line."""
        made = self.backup.manifest
        if self.already:
            return f"backup {made.id} is there already, every byte as written"
        rate = report.size(made.size / max(self.seconds, 0.001))
        return (
            f"backup {made.id}: {report.plural(len(made.files) + 1, 'file')}, "
            f"{report.size(made.size)} in {report.duration(self.seconds)} ({rate}/s), "
            "every byte as written"
        )

    def lines(self) -> list[str]:
        """Return what a person reads."""
        there = f"replaced a damaged copy, which is in the trash: {self.replaced}"
        return [self.summary(), self.backup.place, *([there] if self.replaced else [])]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        made = self.backup.manifest
        return {
            "backup": made.id,
            "environment": made.environment,
            "database": made.database,
            "from": self.source,
            "to": self.backup.place,
            "already": self.already,
            "replaced": self.replaced or None,
            "files": len(made.files) + 1,
            "bytes": made.size,
            "seconds": round(self.seconds, 3),
        }


def copy(
    backup: Backup, to: Store, *, progress: Progress | None = None, stray: bool = False
) -> Transferred:
    """Copy a backup to another store, with the times of its checks.

    An equal backup that is there is read. If it is damaged, a whole new copy takes its place, and
    it goes into the trash. That a `stray` one was restored is what the folder says that it lay in,
    and nobody else. Raises Refused if the store has a different backup with that ID, NotProven if a
    file was changed, naming the side, and Failed for a full disk. Then nothing is changed there.
    """
    began = time.monotonic()
    with telling(lambda: _left(backup, to)):
        try:
            copied, replaced = _copied(backup, to, progress), ""
        except BackupExists:
            found = occupant.of(backup, to, counting(progress.update) if progress else None)
            if found.copy and not found.fault:
                return Transferred(found.copy, backup.place, 0.0, already=True)
            copied, replaced = _replaced(backup, to, progress, found), found.fault
    checks = {**asdict(backup.checks), **(_UNPROVEN if stray else {})}
    copied.record(**{**checks, "intact": journal.now(), **_WHOLE})
    return Transferred(copied, backup.place, time.monotonic() - began, replaced=replaced)


def _left(backup: Backup, to: Store) -> str:
    """Return whether the destination has a backup of that ID after a signal."""
    made = backup.manifest
    found = [each.id for each in to.list().of(made.environment, made.database)]
    return f"{'a' if backup.id in found else 'no'} copy of backup {backup.id} is {_place(to)}"


def _copied(
    backup: Backup, to: Store, progress: Progress | None, found: Occupant | None = None
) -> Backup:
    """Copy a backup to a free place, or to that of a damaged copy that was `found` there."""
    made = backup.manifest
    with (
        reading(backup),
        closing(backup.store.read(backup)) as files_there,
        to.draft(made.environment, made.database, backup.id, replacing=bool(found)) as draft,
    ):
        _bring(backup, files_there, draft, to, progress)
        _carry_over(backup, draft, found)
        files.write(draft.path / manifests.NAME, manifests.text(made))
        boundary("transfer.written")
        if not found:
            return draft.finish()
        with to.retaining(made.environment, made.database):
            return draft.finish(make_way=lambda: _make_way(backup, to))


def _replaced(backup: Backup, to: Store, progress: Progress | None, found: Occupant) -> Backup:
    try:
        return _copied(backup, to, progress, found)
    except NotProven as exc:
        raise NotProven(
            f"{exc.message}; the copy of it {_place(to)} is damaged too, and was left: "
            f"{found.fault}",
            hint=exc.hint,
        ) from None


def _place(store: Store) -> str:
    return "here" if store.name == "here" else f"on {store.name}"


def _make_way(backup: Backup, store: Store) -> None:
    """Move a damaged copy into the trash; the whole one is beside it."""
    made = backup.manifest
    faults = store.drop(made.environment, made.database, [backup.id], journal.clock())
    for fault in faults.values():
        raise Failed(f"the damaged copy of backup {backup.id} was left, it {fault}")
    boundary("transfer.moved")


def _carry_over(backup: Backup, draft: Draft, found: Occupant | None) -> None:
    """Write into a draft what is said about keeping its backup, first what is said there."""
    try:
        said = found.said if found and found.said != Retention() else backup.retention
        if said != Retention():
            said.write(draft.path)
    except NotProven:
        pass  # of the other store, where it is said


def _bring(
    backup: Backup,
    files_there: Iterable[FileStream],
    draft: Draft,
    to: Store,
    progress: Progress | None,
) -> None:
    """Write the files of a backup into a draft, and compare those that arrived."""
    expected = backup.manifest.files
    _refuse_full(backup, draft, to)
    boundary("transfer.begun")
    tell = counting(progress.update) if progress else None
    try:
        wanted = filestream.admitted(files_there, filestream.expecting(expected))
        arrived = draft.write(filestream.told(wanted, tell))
    except (filestream.UnreadableFile, filestream.UnexpectedFile) as exc:
        raise damaged(backup.id, [exc.message], backup.host.name) from None
    if faults := differences(expected, arrived):
        raise damaged(backup.id, faults, _culprit(backup, arrived, to))


def _refuse_full(backup: Backup, draft: Draft, to: Store) -> None:
    needed = backup.manifest.size
    if draft.free is not None and draft.free < needed + _SPARE:
        home = to.home(backup.manifest.environment, backup.manifest.database)
        raise Failed(
            f"no room for backup {backup.id}: it has {report.size(needed)}, "
            f"{f'{to.prefix}{home}'!r} has {report.size(draft.free)} free"
        )


def _culprit(backup: Backup, arrived: Reading, to: Store) -> str:
    """Return the place where files were changed: the source, if they arrived as they are there."""
    actual = backup.store.records(backup, _READERS, check=lambda names: None)
    expected = backup.manifest.files
    changed = [name for name, record in arrived.items() if record != expected.get(name)]
    if all(arrived[name] == actual.get(name) for name in changed):
        return backup.host.name
    return "the way here" if to.name == "here" else f"the way to {to.host.name}"


@contextmanager
def lent(backup: Backup, to: Store, *, progress: Progress | None = None) -> Iterator[Backup]:
    """Provide a backup on the host of a store for the length of a block, with every byte checked.

    A backup that is already on that host is used directly. A copy is removed at the end, or by the
    next run there.
    """
    if backup.host is to.host:
        yield backup
        return
    manifest = backup.manifest
    name = f"{backup.id}-{secrets.token_hex(2)}"
    with (
        closing(backup.store.read(backup)) as files_there,
        to.draft(manifest.environment, manifest.database, name) as draft,
    ):
        _bring(backup, files_there, draft, to, progress)
        yield replace(backup, store=to, folder=str(draft.folder))
