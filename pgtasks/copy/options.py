"""The options of a copy on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgtasks.copy.arrive import Arrival
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.part.scope import EVERYTHING, Scope


@dataclass(frozen=True)
class CopyOptions:
    """The options of a copy on the command line."""

    jobs: int
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    leave_behind: bool = False
    backup_first: bool = False
    rate: float | None = None  # bytes per second
    masks: Masks = field(default_factory=Masks)
    arrival: Arrival | None = None
    scope: Scope = EVERYTHING
    proof: bool = True
    analyze: bool = True
    template: bool = False
    rows: bool = False
    delta: bool = False

    @property
    def insists(self) -> str:
        """Return why the database's name must be typed on any target, or an empty text."""
        if self.as_superuser:
            return "--as-superuser lets what the source holds do all that a superuser may"
        return ""
