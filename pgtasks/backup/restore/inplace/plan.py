"""The plan of a restore in place: what is dropped, what stays, who waits, what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.restore.inplace.standing import Standing
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.report import typed
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_NAMED = 5


@dataclass(frozen=True)
class InPlacePlan:
    """Everything that is known before anything is written.

    `base` is the plan of the content, `entries` what is run of the archive, `existing` the entries
    of what stays in the database; `target` has the role of the transaction.
    """

    base: RestorePlan
    standing: Standing
    entries: tuple[Entry, ...]
    existing: tuple[Entry, ...]
    backs_up: bool = False
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        """Return the live database."""
        return self.base.target

    @property
    def purpose(self) -> str:
        """Return why a backup is taken before."""
        return f"before db.restore --in-place from {self.base.origin}"

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        base, name = self.base, self.target.database
        return [
            *base.content_lines(),
            f"drop     what is in {name!r} now: {self.standing.counted()}",
            *self._holds(),
            *(f"keep     {each}" for each in self._kept()),
            f"load     into {name!r} itself, in one transaction: who reads or writes there waits"
            f"{self._known_time()}",
            *self._undo(),
            *(f"note     {note}" for note in self.notes),
            *base.loss_lines(),
        ]

    def _known_time(self) -> str:
        """Return how long the last drill of the backup took, if there was one."""
        seconds = self.base.backup.checks.recovery
        return f" (its last drill took {report.duration(seconds)})" if seconds else ""

    def _holds(self) -> Iterator[str]:
        """Yield how much that is; sessions do not end, they wait."""
        if self.base.replaced:
            yield from (line for line in self.base.replaced.lines() if line.startswith("holds"))

    def _kept(self) -> Iterator[str]:
        own = {"plpgsql"}
        names = [f"{n!r} of {of!r}" for n, of in self.standing.extensions if n not in own]
        if names:
            yield f"extension {_listed(names)}, as it is"
        schemas = [
            f"{each.name!r} of {each.owner!r}"
            for each in self.standing.remaining_schemas.values()
            if each.name != "public"
        ]
        if schemas:
            yield f"schema {_listed(schemas)}, with what others have there"

    def _undo(self) -> Iterator[str]:
        if self.backs_up:
            yield (
                f"backup   {self.target}, before anything is dropped; what is written there "
                "between the two is lost"
            )
        else:
            yield (
                "undo     there is none: --backup-first keeps what is there now in a backup "
                f"({typed.task('db.restore', '--in-place', '--backup-first')})"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        base = self.base
        return {
            **base.as_json(),
            "side": None,
            "in_place": True,
            "dropped": dict(self.standing.kinds),
            "dropped_schemas": self.standing.dropped_schemas,
            "kept_extensions": [name for name, _ in self.standing.extensions],
            "backup_first": self.backs_up,
            "notes": list(self.notes),
        }


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
