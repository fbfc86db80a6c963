"""The options of a restore on the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestoreOptions:
    """The options of a restore on the command line."""

    jobs: int
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    leave_behind: bool = False
    accept: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    with_settings: bool = False
    doubt: str = ""  # why the backup may not come from this project, or may have been changed

    @property
    def known(self) -> bool:
        """Return whether the backup was made here and nobody else could change it."""
        return not self.doubt
