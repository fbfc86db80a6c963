"""Verify a backup: every byte against its checksum, no file missing or extra, a dump that reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.backup.store import Backup
from pgtasks.host import Host
from pgtasks.report import Progress
from pgtasks.tools import Toolset


@dataclass(frozen=True)
class Verification:
    """What was read. `structure` says how the dump itself was checked: read, listed or not."""

    id: str
    files: int
    bytes: int
    seconds: float
    when: str
    structure: str


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
    raise NotImplementedError
