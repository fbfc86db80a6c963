"""Verify a backup: every byte against its checksum, no file missing or extra, a dump that reads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.backup.format import files, manifest, names
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.format.records import FileRecord, difference, differences, names_differing
from pgtasks.backup.store import local, remote
from pgtasks.errors import Failed, NotProven, VersionMismatch
from pgtasks.host import journal, tools
from pgtasks.host.local import Command, Host
from pgtasks.host.pipeline import Pipeline
from pgtasks.host.tools import Toolset
from pgtasks.report import Progress, duration, plural, size
from pgtasks.server.dump.compression import algorithm
from pgtasks.server.dump.pg_dump import check_listed

_PAUSE = 0.2
_SHOWN = 20  # faults that the hint names


@dataclass(frozen=True)
class Verification:
    """What was read. `structure` says how the dump itself was checked: read or listed."""

    id: str
    files: int
    bytes: int
    seconds: float
    when: str
    structure: str

    def sentence(self) -> str:
        """Return the line for a person: `22 files, 217 MB, every byte as written (1.2 s)`."""
        read = f"{plural(self.files, 'file')}, {size(self.bytes)}, every byte as written"
        return f"{read}, dump {self.structure} by pg_restore ({duration(self.seconds)})"

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [f"backup {self.id} is intact: {self.sentence()}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "backup": self.id,
            "intact": True,
            "files": self.files,
            "bytes": self.bytes,
            "structure": self.structure,
            "when": self.when,
            "seconds": round(self.seconds, 3),
        }


def verify(
    backup: Backup,
    host: Host,
    *,
    toolsets: Sequence[Toolset] = (),
    read: bool = True,
    jobs: int = 2,
    record: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Re-read a backup whole, raising NotProven that names the file which is not as it was.

    Every byte is read against its SHA-256; the dump's table of contents must parse, and with
    `read` pg_restore reads all of the dump besides (unpacking every byte; a restore that follows
    at once does not need it). `record` writes down when. Without toolsets, those of the host are
    looked for; where none can read the dump, VersionMismatch.
    """
    began, when = time.monotonic(), journal.now()
    with _recorded(backup, when, record=record):
        _check_manifest(backup)
        toolset = _reader(backup, toolsets or tools.installed(host))
        check = _check_there if backup.folder else _check_here
        check(backup, jobs, progress)
        _check_structure(backup, host, toolset, read=read)
    return Verification(
        id=backup.id,
        files=len(backup.manifest.files) + 1,
        bytes=backup.manifest.size,
        seconds=time.monotonic() - began,
        when=when,
        structure="read" if read else "listed",
    )


@contextmanager
def _recorded(backup: Backup, when: str, *, record: bool) -> Iterator[None]:
    """Write down how the check of a block ended."""
    try:
        yield
    except NotProven as exc:
        if record:
            _record(backup, intact=None, damaged=when, damage=exc.message)
        raise
    if record:
        _record(backup, intact=when, damaged=None, damage="")


def _record(backup: Backup, **changes: str | None) -> None:
    try:
        checks = backup.record(**changes)
        if backup.folder:
            remote.holding(backup).note(backup, checks)
    except (OSError, Failed):
        pass  # the folder may be read-only: the check itself stands


def _check_manifest(backup: Backup) -> None:
    """Read the manifest anew."""
    if local.load(backup.path).manifest != backup.manifest:
        raise NotProven(f"backup {backup.id}: the manifest was changed")


def _check_names(backup: Backup, there: set[str]) -> None:
    """Compare the files there are with those the manifest names."""
    actual = there - {manifest.NAME, names.CHECKS}
    _refuse(backup, names_differing(backup.manifest.files, actual))


def _refuse(backup: Backup, faults: Sequence[str]) -> None:
    if not faults:
        return
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise NotProven(
        f"backup {backup.id} is damaged: {faults[0]}{more}", hint="\n".join(faults[1:_SHOWN])
    )


def _check_there(backup: Backup, jobs: int, progress: Progress | None) -> None:
    """Let the host that it lies on read every file, and compare what it says with the records."""
    done = 0

    def tell(bytes: int) -> None:
        nonlocal done
        done += bytes
        if progress is not None:
            progress.update(done)

    def look(names: set[str]) -> None:
        _check_names(backup, names)

    found = remote.holding(backup).sums(backup.folder, jobs, names=look, tell=tell)
    records = {name: found[name] for name in backup.manifest.files}
    _refuse(backup, differences(backup.manifest.files, records))


def _check_here(backup: Backup, jobs: int, progress: Progress | None) -> None:
    """Read every file against its record, the largest first, several at once."""
    try:
        _refuse(backup, files.odd(backup.path))
        _check_names(backup, set(files.below(backup.path)))
    except OSError as exc:  # such as a folder that may not be looked into
        raise NotProven(f"backup {backup.id}: {exc.filename}: {exc.strerror}") from None
    wanted = sorted(backup.manifest.files.items(), key=lambda item: -item[1].size)
    done, faults = 0, []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        pending: dict[Future[str], int] = {
            pool.submit(_fault, backup.path, name, expected): expected.size
            for name, expected in wanted
        }
        try:
            while pending:
                ended, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in ended:
                    done += pending.pop(future)
                    faults += [future.result()] if future.result() else []
                if progress is not None:
                    progress.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _refuse(backup, sorted(faults))


def _fault(folder: Path, name: str, expected: FileRecord) -> str:
    """Return what is wrong with a file, or nothing."""
    try:
        found = files.record(folder, name)
    except OSError as exc:
        return f"{name}: {exc.strerror}"
    fault = difference(expected, found)
    return f"{name}: {fault}" if fault else ""


def _reader(backup: Backup, toolsets: Sequence[Toolset]) -> Toolset:
    """Return the tools nearest to those that wrote the dump, none of them older."""
    made = backup.manifest
    for fitting in tools.for_reading(toolsets, made.dump_tool[0]):
        if algorithm(made.compression) in fitting.compressions:
            return fitting
    where = f"on {backup.host.name}" if backup.folder else "here"
    found = ", ".join(map(str, toolsets)) or "none"
    raise VersionMismatch(
        f"no pg_restore {where} reads backup {backup.id}: wanted {made.dump_tool[0]} or newer "
        f"with {algorithm(made.compression)}, found {found}"
    )


def _check_structure(backup: Backup, host: Host, toolset: Toolset, *, read: bool) -> None:
    try:
        check_listed(host, toolset, backup.dump)
        if read:
            _read(backup, host, toolset)
    except Failed as exc:
        raise NotProven(
            f"backup {backup.id} is damaged: pg_restore cannot read its dump", hint=exc.hint
        ) from None


def _read(backup: Backup, host: Host, toolset: Toolset) -> None:
    """Let pg_restore turn all of the dump into a script that nobody keeps."""
    argv = (toolset.tool("pg_restore"), "--file=/dev/null", str(backup.dump))
    with Pipeline(host, [Command(argv)]) as reading:
        while not reading.wait(_PAUSE):
            pass  # in slices, so that a signal is heard
        reading.check()
