"""Whether a drill is due: --if-older 7d, for a scheduler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgtasks import report
from pgtasks.backup import standing
from pgtasks.backup.store.backup import Backup
from pgtasks.errors import Refused
from pgtasks.host import journal
from pgtasks.report.text import SPAN


@dataclass(frozen=True)
class NotDue:
    """The last drill that found nothing is recent enough: nothing was done."""

    drilled: str
    age: float
    span: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        ago = report.age(self.age)
        return [f"no drill is due: the last one that passed was {ago} ago, less than {self.span}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"due": False, "drilled": self.drilled, "age_seconds": round(self.age)}


def seconds(span: str | None) -> int | None:
    """Return the seconds of --if-older, None without it; raises Refused."""
    if span is None:
        return None
    found = report.span(span)
    if not found:
        raise Refused(f"--if-older {span!r}, expected {SPAN}")
    return found


def not_due(backups: Iterable[Backup], span: str) -> NotDue | None:
    """Return the last drill of some backups if it passed within a span of time, else None."""
    drilled = standing.last_drill(backups)
    if not drilled:
        return None
    then = datetime.fromisoformat(drilled.replace("Z", "+00:00"))
    age = (journal.clock() - then).total_seconds()
    return NotDue(drilled, age, span) if 0 <= age < (seconds(span) or 0) else None
