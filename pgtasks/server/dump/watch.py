"""What became of a snapshot's names while a backup reads by them, and how far its dump is.

pg_dump and the proof take names from the snapshot, but whatever they name is looked up as it is
now, and what servers print of a definition has the names of now. So a backup is true only where
names still lead to what the snapshot has under them: tables until they are locked, all else until
pg_dump has read the schema, and schemas, whose names no lock keeps, until the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pgtasks.report import Progress
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.pg_dump import DumpLog
from pgtasks.server.proof import naming
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.reader import ProofReader
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import quoted

_LOOK = 0.5  # seconds between looks at how far the dump is
_SHOWN = 10  # names that a message holds


class Retry(Exception):
    """Say that the attempt is worthless and another one may be better.

    `early` means before pg_dump began to write data; `serial` that its workers were in the way;
    `hint` is what a tool said, where that is why.
    """

    def __init__(
        self, why: str, *, early: bool = False, serial: bool = False, hint: str = ""
    ) -> None:
        super().__init__(why)
        self.why, self.early, self.serial, self.hint = why, early, serial, hint


def _altered(names: Iterable[str], *, early: bool, hint: str = "") -> Retry:
    listed = sorted(set(names))
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return Retry(f"altered meanwhile: {', '.join(listed[:_SHOWN])}{more}", early=early, hint=hint)


class Watch:
    """Look from outside the snapshot, on `now`; `exporter` is the transaction that has it."""

    def __init__(
        self,
        exporter: Connection,
        now: Connection,
        content: Content,
        words: DumpLog,
        progress: Progress,
    ) -> None:
        self._now, self.words, self._progress = now, words, progress
        self._tables = (*content.tables, *content.others)
        self._sequences = content.sequences
        self._names = naming.names(exporter)
        self._schemas = naming.schemas(exporter)
        # pg_dump names a table without quotes
        self._sizes = {f"{table.schema}.{table.name}": table.bytes for table in self._tables}
        self._by_oid = {table.oid: table for table in self._tables}
        self._looked = time.monotonic()

    def refuse_moved(self, *, locked: bool, tables: Sequence[Relation] | None = None) -> None:
        """Raise Retry where a table (of all) is not what the snapshot has under its name.

        Unless tables are locked since they were read, one that was anything else in between
        counts too.
        """
        tables = self._tables if tables is None else tables
        if moved := naming.moved(self._now, tables, untouched=not locked):
            raise _altered(map(str, moved), early=True)

    def refuse_columns(self, tables: Sequence[Relation]) -> None:
        """Raise Retry where columns of some tables, which are locked, were altered.

        Where two exchange their names, who reads by them gets no error. Other threads may call it.
        """
        now = naming.columns(self._now, [table.oid for table in tables])
        known = {table: self._names.get(("pg_class", table.oid)) for table in tables}
        if names := [
            str(relation)
            for relation, was in known.items()
            if was and was.more != now.get(relation.oid)
        ]:
            raise _altered(names, early=False)

    def refuse_renamed(self) -> None:
        """Raise Retry where a name leads elsewhere, or a sequence began anew, before it was read.

        To be called when pg_dump has read the schema, where sequences stand included.
        """
        names = self._renamed()
        names += map(str, naming.moved(self._now, self._sequences, untouched=True))
        if names:
            raise _altered(names, early=True)

    def refuse_schemas(self) -> None:
        """Raise Retry where a schema was altered: no lock keeps its name."""
        now = naming.schemas(self._now)
        changed = [known for oid, known in self._schemas.items() if now.get(oid) != known]
        if changed:
            raise _altered((f"schema {quoted(name)}" for name, _ in changed), early=False)

    def refuse_unread(self, before: Content, proof: Proof) -> None:
        """Raise Retry where the proof could not read a table since that was altered."""
        unread = {item.object for item in proof.unproven} - {
            name.object for name in before.unproven
        }
        if unread and (names := [name for name in self._renamed() if f"table {name}" in unread]):
            raise _altered(names, early=False)

    def explain(self, hint: str) -> None:
        """Raise Retry for a failure, whose words are `hint`, in spite of an altered schema."""
        tables = [str(table) for table in naming.moved(self._now, self._tables)]
        if names := tables or self._renamed():
            raise _altered(names, early=not self.words.begun, hint=hint)

    def _renamed(self) -> list[str]:
        now = naming.names(self._now)
        changed = [key for key, name in self._names.items() if now.get(key) != name]
        return [str(self._names[key]) for key in changed]

    def look(self, proof: ProofReader | None) -> None:
        """Show now and then how far the dump is, with its proof where that is read beside it."""
        if not self._progress.due or time.monotonic() - self._looked < _LOOK:
            return
        running = connection.rows(
            self._now,
            "SELECT relid::bigint, bytes_processed FROM pg_stat_progress_copy"
            " WHERE datname = current_database() AND command = 'COPY TO'",
            into=tuple[int, int],
        )
        done = sum(self._sizes.get(name, 0) for name in self.words.begun)
        for oid, processed in running:
            if oid in self._by_oid:
                done -= max(self._by_oid[oid].bytes - processed, 0)
        self._progress.update((done + proof.bytes_read) // 2 if proof else done)
        self._looked = time.monotonic()
