"""Backups on their way between this machine and a database host, checked where they arrive."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pgtasks import report
from pgtasks.backup.format import files, manifest
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord, differences
from pgtasks.backup.store import local, scripts, staging, tarstream
from pgtasks.backup.store.remote import Depot, Partial, holding
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import journal, private, streams
from pgtasks.host.local import HERE
from pgtasks.report import Progress
from pgtasks.report.boundaries import boundary

_SHOWN = 20  # faults that the hint names
_SUMMERS = 2  # processes that read files there
_FRAME = 8192  # bytes of what goes before and behind a file in an archive, and behind the last
_SPARE = 1 << 20  # bytes that a disk should have beside what comes onto it


@dataclass(frozen=True)
class Moved:
    """A backup that was brought from one place to another, or was there already."""

    backup: Backup
    source: str
    seconds: float
    already: bool = False

    def summary(self) -> str:
        """Return what one line says."""
        made = self.backup.manifest
        if self.already:
            return f"backup {made.id} is there already"
        rate = report.size(made.size / max(self.seconds, 0.001))
        return (
            f"backup {made.id}: {report.plural(len(made.files) + 1, 'file')}, "
            f"{report.size(made.size)} in {report.duration(self.seconds)} ({rate}/s), "
            "every byte as written"
        )

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [self.summary(), self.backup.place]

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
            "files": len(made.files) + 1,
            "bytes": made.size,
            "seconds": round(self.seconds, 3),
        }


class _Count:
    """Tell a bar how many bytes went by."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done = progress, 0

    def __call__(self, bytes: int) -> None:
        self._done += bytes
        if self._progress is not None:
            self._progress.update(self._done)


def fetch(backup: Backup, folder: Path, *, progress: Progress | None = None) -> Moved:
    """Bring a backup that lies on a host into the backups folder here.

    Raises Refused where another one of that ID is here, NotProven that says on which side a file
    is not as it was written, Failed for a full disk; nothing of it is left here then.
    """
    began, made = time.monotonic(), backup.manifest
    home = local.home(folder, made.environment, made.database)
    local.sweep(folder)  # which finishes what a killed run had brought whole
    if _same(home / made.id, backup):
        return Moved(local.load(home / made.id), backup.place, 0.0, already=True)
    with staging.making(home, made.id) as path:
        _refuse_full(made, HERE.free_bytes(str(path)), str(home))
        boundary("fetch.begun")
        _receive(backup, path, progress)
        boundary("fetch.written")
        got = local.load(staging.finish(path, made.id))
    got.record(intact=journal.now(), proven=backup.checks.proven)
    return Moved(got, backup.place, time.monotonic() - began)


def _same(path: Path, backup: Backup) -> bool:
    """Return whether a folder here holds the same backup, raising Refused for another one."""
    if not path.exists():
        return False
    try:
        same = local.load(path).manifest == backup.manifest
    except NotProven:
        same = False
    if not same:
        raise Refused(f"there is another backup {backup.id} in {str(path)!r}, move it away first")
    return True


def _refuse_full(made: Manifest, free: int | None, where: str) -> None:
    if free is not None and free < made.size + _SPARE:
        size, room = report.size(made.size), report.size(free)
        raise Failed(f"no room for backup {made.id}: it has {size}, {where!r} has {room} free")


def _receive(backup: Backup, path: Path, progress: Progress | None) -> None:
    """Write the files of a backup as they come, and its manifest last."""
    made = backup.manifest
    names = sorted({name.split("/")[0] for name in made.files})
    most = made.size + _FRAME * (len(made.files) + len(names) + 2)
    packed = scripts.pack(backup.folder, names)
    try:
        with streams.reading(backup.host, packed, most=most) as source:
            admit = tarstream.admitting(made.files)
            found = tarstream.unpack(source, path, _Count(progress), admit=admit)
    except tarstream.Unexpected as exc:
        raise _damaged(made, [exc.message], backup.host.name) from None
    if faults := differences(made.files, found):
        there = holding(backup).sums(backup.folder, _SUMMERS)
        on_the_way = differences(found, {name: there[name] for name in found.keys() & there})
        raise _damaged(made, faults, "the way here" if on_the_way else backup.host.name)
    files.write(path / manifest.NAME, manifest.text(made))
    for folder in (path, *(each for each in path.iterdir() if each.is_dir())):
        private.sync(folder)


def _damaged(made: Manifest, faults: Sequence[str], where: str) -> NotProven:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return NotProven(
        f"backup {made.id} is damaged on {where}: {faults[0]}{more}",
        hint="\n".join(faults[1:_SHOWN]),
    )


def send(backup: Backup, depot: Depot, *, progress: Progress | None = None) -> Moved:
    """Bring a backup from here into the backups folder of a host.

    Raises what `fetch` raises; nothing of it is left there then.
    """
    began, made = time.monotonic(), backup.manifest
    _refuse_unfit(backup)
    with depot.making(made.environment, made.database, made.id) as there:
        if there is None:
            found = _there(backup, depot)
            return Moved(found, str(backup.path), 0.0, already=True)
        _deliver(backup, depot, there, progress)
        boundary("send.written")
        folder = depot.finish(there, made.id)
    sent = replace(backup, host=depot.host, folder=folder)
    depot.note(sent, replace(backup.checks, intact=journal.now(), damaged=None, damage=""))
    return Moved(sent, str(backup.path), time.monotonic() - began)


def _there(backup: Backup, depot: Depot) -> Backup:
    """Return the same backup as it lies on the host, raising Refused for another one."""
    mine = backup.manifest
    for found in depot.mirror().backups(environment=mine.environment, database=mine.database):
        if found.manifest == mine:
            return found
    raise Refused(f"there is another backup {mine.id} on {depot}, move it away first")


def _refuse_unfit(backup: Backup) -> None:
    """Raise NotProven, before a byte leaves this machine, where a file is not what it should be."""
    if faults := files.unfit(backup.path, backup.manifest.files):
        raise _damaged(backup.manifest, faults, HERE.name)


def _deliver(backup: Backup, depot: Depot, there: Partial, progress: Progress | None) -> None:
    """Send the files of a backup into a temporary folder there, and let that host read them."""
    made = backup.manifest
    _refuse_full(made, there.free, str(depot))
    boundary("send.begun")
    read: dict[str, FileRecord] = {}

    def pack(sink: IO[bytes]) -> None:
        names = [*made.files, manifest.NAME]
        read.update(tarstream.pack(sink, backup.path, names, _Count(progress)))

    try:
        depot.unpack(there.path, pack)
    except tarstream.Unread as exc:
        raise _damaged(made, [exc.message], HERE.name) from None
    read.pop(manifest.NAME)
    if faults := differences(made.files, read):
        raise _damaged(made, faults, HERE.name)
    sums = depot.sums(there.path, _SUMMERS)
    arrived = {name: record for name, record in sums.items() if name != manifest.NAME}
    if faults := differences(made.files, arrived):
        raise _damaged(made, faults, f"the way to {depot.host.name}")


@contextmanager
def lent(backup: Backup, depot: Depot, *, progress: Progress | None = None) -> Iterator[Backup]:
    """Have a backup on a host for the length of a block, every byte of it checked there.

    One that lies there already, the same, is read there and used as it is. What was brought is
    removed at the end, or by the next run there.
    """
    made = backup.manifest
    if backup.host is depot.host:
        yield backup
        return
    _refuse_unfit(backup)
    name = f"{made.id}-{secrets.token_hex(2)}"
    with depot.making(made.environment, made.database, name) as there:
        assert there is not None
        _deliver(backup, depot, there, progress)
        yield replace(backup, host=depot.host, folder=there.path)
