"""Split what pg_restore loads into runs, where its own order of several jobs is not enough.

pg_restore adds what belongs to a partitioned table before the rows of all partitions are in: a
trigger then fires for the others and may change them, and a constraint that is not valid, which
holds for new rows alone, makes COPY fail. The same is true of constraints of parents and domains.
It may also switch the trigger of a subpartition off before it is there. All these are the last run,
which is serial.

Two jobs that attach the indexes of a partition and of its subpartition at the same moment can leave
the index at the top invalid for good: each transaction sees the other's index as it was before.
A foreign key to the partitioned table then fails, and without one nobody notices. pg_restore's own
dependencies do not order these statements (seen in 16 and 18).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pgtasks.server.proof.toc import POST_DATA, Entry

_ATTACH = "INDEX ATTACH"
_NAMES = re.compile(rb"ALTER INDEX (?:ONLY )?(.+) ATTACH PARTITION (.+);\s*", re.DOTALL)
# as pg_dump writes a constraint of partitions and children too, or of a domain
_INHERITED = re.compile(
    rb"ALTER (?:DOMAIN|(?:FOREIGN )?TABLE(?! ONLY)) .* NOT VALID;\s*", re.DOTALL
)
_CREATED = re.compile(rb"\s*CREATE ")  # a trigger, not its state on one partition
_PARTITIONED = b"\nPARTITION BY "  # in the definition of a table, as pg_dump writes it


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

    One run is enough unless a partition with partitions of its own has an index of the table above,
    or something acts on rows of tables that pg_restore does not know to wait for.
    """
    late = set(_acting_on_others(entries))
    while more := {each.number for each in entries if each.needs & late} - late:
        late |= more
    early = [entry for entry in entries if entry.number not in late]
    runs = _attaching(early) if _nested(early) else [Pass(early)]
    runs.append(Pass([entry for entry in entries if entry.number in late], serial=True))
    return [run for run in runs if run.entries]


def _acting_on_others(entries: Sequence[Entry]) -> Iterator[int]:
    """Yield the numbers of what acts on rows of tables that it does not depend on."""
    tables = (entry for entry in entries if entry.desc == "TABLE")
    partitioned = {table.number for table in tables if _PARTITIONED in table.definition}
    for entry in entries:
        constraint = entry.section == POST_DATA and entry.desc.endswith("CONSTRAINT")
        unchecked = constraint and _INHERITED.fullmatch(entry.definition)
        inherited = entry.needs & partitioned or not _CREATED.match(entry.definition)
        if unchecked or (entry.desc == "TRIGGER" and inherited):
            yield entry.number


def _attaching(entries: Sequence[Entry]) -> list[Pass]:
    """Return the runs of which one attaches the indexes, with one job."""
    last = max(at for at, entry in enumerate(entries) if entry.desc == _ATTACH)
    before = [entry for entry in entries[:last] if entry.desc != _ATTACH]
    attached = [entry for entry in entries if entry.desc == _ATTACH]
    return [Pass(before), Pass(attached, serial=True), Pass(entries[last + 1 :])]


def _nested(entries: Iterable[Entry]) -> bool:
    """Return whether an index is attached to one that is attached itself."""
    matches = (_NAMES.fullmatch(each.definition) for each in entries if each.desc == _ATTACH)
    pairs = [(match[1], match[2]) for match in matches if match]
    return not {above for above, _ in pairs}.isdisjoint(below for _, below in pairs)
