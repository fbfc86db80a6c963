"""Make a backup: one snapshot, the dump and its proof, checked, written down, renamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgtasks.backup.store import Backup
from pgtasks.host import Host
from pgtasks.target import Target


@dataclass(frozen=True)
class Options:
    """What a backup shall hold and how. `compression` is pg_dump's (`gzip:1`), `auto` or None."""

    schema_only: bool = False
    exclude_table_data: tuple[str, ...] = ()
    proof: bool = True
    note: str = ""
    globals_passwords: bool = False
    compression: str | None = None
    layout: str = "directory"


def create(
    target: Target,
    *,
    folder: Path,
    host: Host,
    options: Options = Options(),
    say: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> Backup:
    """Make a backup below `folder` and return it, finished and durable.

    The guard and the lock are the caller's. `say` gets what happens on the way (a new snapshot,
    what was left out); `quiet` shows no progress. Raises Refused (unreadable tables, a pattern
    that matches nothing), Failed, Unreachable, VersionMismatch; nothing is left then.
    """
    raise NotImplementedError


def plan(
    target: Target,
    *,
    folder: Path,
    host: Host,
    options: Options = Options(),
) -> Sequence[str]:
    """Return what `create` would do, line by line; reads the server, writes nothing."""
    raise NotImplementedError
