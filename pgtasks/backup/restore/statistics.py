"""The planner's statistics: those that a dump brings, and the tables whose own must be gathered.

Since version 18, pg_dump saves statistics, and pg_restore gives them to the server. It saves no
extended statistics (CREATE STATISTICS), nor those of a table that was never analyzed.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.server.dump.pg_dump import STATISTICS
from pgtasks.server.proof import toc
from pgtasks.server.proof.toc import Entry
from pgtasks.server.statistics import Name


def carried(plan: RestorePlan, archive: Iterable[Entry]) -> frozenset[Name]:
    """Return the tables of whose columns the entries bring statistics that the server takes."""
    if plan.major < STATISTICS:
        return frozenset()
    return frozenset(
        (entry.namespace, entry.tag)
        for entry in archive
        if entry.desc == toc.STATISTICS and toc.COLUMNS in entry.definition
    )
