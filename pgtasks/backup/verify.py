"""Verify a backup: its files, every byte against its checksum, and the structure of the dump."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgtasks.backup.format import bounds, names
from pgtasks.backup.store import intact, tree
from pgtasks.backup.store.backup import Backup, reading
from pgtasks.backup.store.filestream import counting
from pgtasks.errors import Failed, NotProven, VersionMismatch
from pgtasks.host import journal, tools
from pgtasks.host.base import Command, Host
from pgtasks.host.pipeline import BROKEN_PIPE, Pipeline
from pgtasks.host.tools import Toolset
from pgtasks.report import Progress, duration, plural, size
from pgtasks.server.dump.compression import algorithm
from pgtasks.server.dump.pg_dump import check_listed

_PAUSE = 0.2


@dataclass(frozen=True)
class Verification:
    """The result of a verification. pg_restore has `read` or `listed` the dump: `structure`."""

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
    """Read a whole backup again, raising NotProven with the name of a file that has changed.

    Every file is compared with its SHA-256, and the dump's table of contents must parse. With
    `read`, pg_restore also reads and decompresses all of the dump, which a restore right after it
    does not need. `record` stores the time of the check. Without `toolsets`, those of the host are
    used; raises VersionMismatch if none can read the dump.
    """
    began, when = time.monotonic(), journal.now()
    with reading(backup), _recorded(backup, when, record=record):
        _check_manifest(backup)
        toolset = _reader(backup, toolsets or tools.installed(host))
        intact.check(backup, jobs, counting(progress.update) if progress else None)
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
    """Record the result of the check in a block."""
    try:
        yield
    except NotProven as exc:
        if record:
            backup.record(intact=None, damaged=when, damage=exc.message)
        raise
    if record:
        backup.record(intact=when, damaged=None, damage="")


def _check_manifest(backup: Backup) -> None:
    """Read the manifest again."""
    backup.store.settle(backup)
    if tree.manifest_in(backup.path) != backup.manifest:
        raise NotProven(f"backup {backup.id}: the manifest was changed")


def _reader(backup: Backup, toolsets: Sequence[Toolset]) -> Toolset:
    """Return the tools nearest to those that wrote the dump, none of them older."""
    made = backup.manifest
    for fitting in tools.for_reading(toolsets, made.dump_tool[0]):
        if algorithm(made.compression) in fitting.compressions:
            return fitting
    installed = ", ".join(map(str, toolsets)) or "none"
    raise VersionMismatch(
        f"no pg_restore on {backup.host.name} reads backup {backup.id}: "
        f"wanted {made.dump_tool[0]} or newer with {algorithm(made.compression)}, found {installed}"
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
    """Let pg_restore convert the whole dump to SQL, as far as it may go, which is discarded."""
    most = bounds.most_text(backup.manifest)
    argv = (toolset.tool("pg_restore"), "--file=-", str(backup.dump))
    with Pipeline(host, [Command(argv), Command(("head", "-c", str(most)))]) as reading:
        while not reading.wait(_PAUSE):
            pass  # in slices, so that a signal is heard
        if reading.codes[0] in BROKEN_PIPE:
            raise NotProven(
                f"backup {backup.id}: {names.dump_name(backup.manifest.layout)} unpacks to more "
                f"than {size(most)} of SQL, the database had {size(backup.manifest.database_bytes)}"
            )
        reading.check()
