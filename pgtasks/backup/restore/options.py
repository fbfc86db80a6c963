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
    doubt: str = ""  # why the backup is not known to have been made here, and to be as it was

    @property
    def known(self) -> bool:
        """Return whether the backup was made here and nobody else could change it."""
        return not self.doubt
