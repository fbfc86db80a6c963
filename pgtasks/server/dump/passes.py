"""Split what pg_restore loads into runs, so that no two of its jobs attach indexes at once.

Two jobs that attach the indexes of a partition and of its subpartition at the same moment can leave
the index at the top invalid for good: each transaction sees the other's index as it was before.
A foreign key to the partitioned table then fails, and without one nobody notices. pg_restore's own
dependencies do not order these statements (seen in 16 and 18).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgtasks.server.proof.toc import Entry

_ATTACH = "INDEX ATTACH"
_NAMES = re.compile(rb"ALTER INDEX (?:ONLY )?(.+) ATTACH PARTITION (.+);\s*", re.DOTALL)


@dataclass(frozen=True)
class Pass:
    """The entries of one run of pg_restore. A serial one has one job."""

    entries: Sequence[Entry]
    serial: bool = False

    @property
    def listed(self) -> bytes:
        """Return pg_restore's list of the entries."""
        return "".join(f"{entry.number};\n" for entry in self.entries).encode()


def passes(entries: Sequence[Entry]) -> list[Pass]:
    """Return the runs that load some entries of an archive, in their order.

    One run is enough unless a partition with partitions of its own has an index of the table above.
    """
    if not _nested(entries):
        return [Pass(entries)]
    last = max(at for at, entry in enumerate(entries) if entry.desc == _ATTACH)
    before = [entry for entry in entries[:last] if entry.desc != _ATTACH]
    attached = [entry for entry in entries if entry.desc == _ATTACH]
    runs = [Pass(before), Pass(attached, serial=True), Pass(entries[last + 1 :])]
    return [run for run in runs if run.entries]


def _nested(entries: Iterable[Entry]) -> bool:
    """Return whether an index is attached to one that is attached itself."""
    matches = (_NAMES.fullmatch(each.definition) for each in entries if each.desc == _ATTACH)
    pairs = [(match[1], match[2]) for match in matches if match]
    return not {above for above, _ in pairs}.isdisjoint(below for _, below in pairs)
