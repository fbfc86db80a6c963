"""What was loaded into a side database, and how long its steps took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pgtasks import report
from pgtasks.copy.part.selection import Total
from pgtasks.copy.plan import CopyPlan
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified


@dataclass(frozen=True)
class Share:
    """How many rows were taken of a table of which the copy has a part."""

    total: Total
    rows: int

    def __str__(self) -> str:
        about = "" if self.total.exact else "about "
        return (
            f"{self.rows:,} of {about}{report.plural(self.total.rows, 'row')} of {self.total.table}"
        )


@dataclass(frozen=True)
class Loaded:
    """What was loaded: the proof of the source's snapshot, its schema, seconds by step.

    `taken` is the time of the snapshot. `large` are the entries of large objects, which are in
    another archive than the schema's; `routed` are the partitions whose rows may be in others now,
    with their partitioned table; `shares` are the tables of which the copy has a part.
    """

    proof: Proof
    taken: str
    archive: tuple[Entry, ...]
    large: tuple[Entry, ...]
    routed: Mapping[str, tuple[str, str]]
    tables: int
    rows: int | None  # None if they were not counted
    seconds: dict[str, float]
    slowest: tuple[tuple[str, float], ...]
    shares: tuple[Share, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""
        return (*self.archive, *self.large)

    def joined(self, second: Loaded, plan: CopyPlan) -> Loaded:
        """Return the same with what was loaded from the second database."""
        return replace(
            self,
            proof=_joined(self.proof, second.proof, plan),
            taken=second.taken if plan.itself else self.taken,
            large=(*self.large, *second.large),
            routed={**self.routed, **second.routed},
            tables=self.tables + second.tables,
            rows=(self.rows or 0) + (second.rows or 0),
            shares=(*self.shares, *second.shares),
        )


def _joined(first: Proof, second: Proof, plan: CopyPlan) -> Proof:
    """Return the proof of a copy that is made of two databases."""
    carried = plan.carried
    assert carried is not None
    others = {f"table {qualified(*name)}" for name in carried.tables}
    unproven = [item for item in first.unproven if item.object not in others]
    return replace(
        first,
        tables=(*first.tables, *second.tables),
        sequences=(
            *(each for each in first.sequences if str(each) not in map(str, second.sequences)),
            *second.sequences,
        ),
        large_objects=second.large_objects if carried.large_objects else first.large_objects,
        unproven=(*unproven, *second.unproven),
        computed={**first.computed, **second.computed},
    )


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a step."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._began, 3)
        self._began = now
