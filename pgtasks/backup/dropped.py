"""The output of backup.list --trash: the backups that backup.prune has dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgtasks import report
from pgtasks.backup.listing import StorePart
from pgtasks.backup.prune import hands
from pgtasks.backup.store.trash import Trashed
from pgtasks.host import journal
from pgtasks.report import typed
from pgtasks.server.quoting import folder_name


@dataclass(frozen=True)
class TrashList:
    """The trash of one or more stores; `stays` is how long a backup of an environment stays."""

    parts: Sequence[StorePart]
    environment: str
    stays: str

    def lines(self) -> list[str]:
        """Return a table, and the way to bring one back."""
        found = list(self._found())
        if not found:
            return ["the trash is empty"]
        headings = ("backup", "of", "where", "dropped", "goes for good")
        now = journal.clock()
        rows = [
            (each.id, "/".join(each.home), store, _ago(each, now), self._leaves(each, now))
            for store, each in found
        ]
        table = report.table(headings, rows, whole=("backup",), gives=("where", "of"))
        store, first = found[0]
        back = typed.task("backup.untrash", first.id, *hands.on_host(store))
        return [*table.splitlines(), f"{back} brings the first one back"]

    def _found(self) -> Iterator[tuple[str, Trashed]]:
        """Yield the dropped backups with their stores, the last dropped first."""
        for part in self.parts:
            whole = [each for each in part.contents.trash if not each.removing]
            for each in sorted(whole, key=lambda each: (each.dropped, each.id), reverse=True):
                yield part.name, each

    def _leaves(self, trashed: Trashed, now: datetime) -> str:
        if trashed.home[0] != folder_name(self.environment):  # whose setting may be another one
            return "-"
        left = trashed.dropped + timedelta(seconds=report.span(self.stays) or 0) - now
        seconds = left.total_seconds()
        after = f"in {report.age(seconds)}" if seconds > 0 else "now"
        return f"{after}, with {typed.task('backup.prune')}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "trash": [
                {
                    "backup": each.id,
                    "of": "/".join(each.home),
                    "where": store,
                    "dropped": each.dropped.isoformat(),
                    "path": each.place,
                }
                for store, each in self._found()
            ]
        }


def _ago(trashed: Trashed, now: datetime) -> str:
    return f"{report.age(max(0.0, (now - trashed.dropped).total_seconds()))} ago"
