"""What the command line says of a restore."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the command line says of a restore."""

    jobs: int
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    leave_behind: bool = False
    accept: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    with_settings: bool = False
    known: bool = True  # the backup was made here, by the project's journal
