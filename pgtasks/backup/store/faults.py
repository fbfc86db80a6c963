"""What can be wrong with a backup in a store."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.errors import Failed, NotProven, Refused

_SHOWN = 20  # faults that a hint names


class BackupExists(Refused):
    """The store has a complete backup with that ID."""


class UnreadableManifest(NotProven):
    """The manifest of the requested backup cannot be read."""

    def __init__(self, message: str, *, id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id = id


class Dropped(Failed):
    """Another run has dropped the backup while it was read."""


def damaged(id: str, faults: Sequence[str], where: str = "") -> NotProven:
    """Return the error for a backup with damaged files."""
    place = f" on {where}" if where else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    hint = "\n".join(faults[1:_SHOWN])
    return NotProven(f"backup {id} is damaged{place}: {faults[0]}{more}", hint=hint)
