"""The result of a restore of single tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.restore.tables.plan import TablesPlan, undone
from pgtasks.backup.restore.tables.write import Written


@dataclass(frozen=True)
class TablesRestored:
    """Tables that are as the backup has them; `before` is the ID of the backup taken before."""

    plan: TablesPlan
    written: Written
    before: str
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan, written = self.plan, self.written
        took = report.duration(self.seconds)
        names = ", ".join(plan.names)
        also = f", {report.plural(len(written.accepted), 'difference')} accepted"
        lines = [
            f"restored {names} of {plan.target.database!r} from {plan.base.origin}: "
            f"{written.comparison}{also if written.accepted else ''}, in {took}"
        ]
        lines += [f"note: {each}" for each in written.notes]
        lines += [f"sequence set: {each}" for each in written.sequences]
        if self.before:
            lines.append(f"the rows of before are in a backup: {undone(plan, self.before)}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.plan.as_json(),
            "sentence": str(self.written.comparison),
            "accepted": [str(each) for each in self.written.accepted],
            "left_out": list(self.written.notes),
            "sequences": list(self.written.sequences),
            "backup_before": self.before or None,
            "seconds": round(self.seconds, 3),
        }
