"""Detect changes of names during a backup, and show the progress of its dump.

pg_dump and the proof read names from the snapshot, but a name is resolved when it is used, and the
server prints definitions with the current names. So a backup is correct only if each name still
refers to the same object: tables until they are locked, other objects until pg_dump has read the
schema, and schemas, whose names no lock protects, until the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pgtasks.report import Progress, account
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.pg_dump import DumpLog
from pgtasks.server.proof import naming
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.reader import ProofReader
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import quoted

_LOOK = 0.5  # seconds between updates of the progress
_SHOWN = 10  # number of names in a message
_DEADLOCK = "deadlock detected"
# the sessions whose locks pg_dump waits for
_BLOCKING = """
SELECT b.pid, coalesce(b.usename, '?'), coalesce(b.application_name, '')
FROM pg_stat_activity a CROSS JOIN unnest(pg_blocking_pids(a.pid)) p(pid)
JOIN pg_stat_activity b ON b.pid = p.pid
WHERE a.datname = current_database() AND a.application_name = %s AND a.wait_event_type = 'Lock'
"""


class Retry(Exception):
    """The attempt is useless, but another may succeed.

    `early` means before pg_dump wrote data; `serial` means that its workers were the problem;
    `hint` is the message of a tool, if that is the reason.
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
    """Watch on the connection `now`, outside the snapshot of the transaction `exporter`."""

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
        # pg_dump prints a table without quotes
        self._sizes = {f"{table.schema}.{table.name}": table.bytes for table in self._tables}
        self._by_oid = {table.oid: table for table in self._tables}
        self._looked = time.monotonic()

    def refuse_moved(self, *, locked: bool, tables: Sequence[Relation] | None = None) -> None:
        """Raise Retry if the name of any table refers to another table than in the snapshot.

        Unless tables stay locked after they were read, a temporary change counts too.
        """
        tables = self._tables if tables is None else tables
        if moved := naming.moved(self._now, tables, untouched=not locked):
            raise _altered(map(str, moved), early=True)

    def refuse_columns(self, tables: Sequence[Relation]) -> None:
        """Raise Retry if columns of some locked tables were altered.

        If two columns exchange their names, a query gets no error. Other threads may call this.
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
        """Raise Retry if a name refers to another object, or a sequence was reset, before the read.

        Call it after pg_dump has read the schema and the values of sequences.
        """
        names = self._renamed()
        names += map(str, naming.moved(self._now, self._sequences, untouched=True))
        if names:
            raise _altered(names, early=True)

    def refuse_schemas(self) -> None:
        """Raise Retry if a schema was altered, because no lock protects its name."""
        now = naming.schemas(self._now)
        changed = [known for oid, known in self._schemas.items() if now.get(oid) != known]
        if changed:
            raise _altered((f"schema {quoted(name)}" for name, _ in changed), early=False)

    def refuse_unread(self, before: Content, proof: Proof) -> None:
        """Raise Retry if the proof could not read a table because it was altered."""
        unread = {item.object for item in proof.unproven} - {
            name.object for name in before.unproven
        }
        if unread and (names := [name for name in self._renamed() if f"table {name}" in unread]):
            raise _altered(names, early=False)

    def explain(self, hint: str) -> None:
        """Raise Retry for a failure with this `hint` if a schema was altered, or was to be."""
        tables = [str(table) for table in naming.moved(self._now, self._tables)]
        if names := tables or self._renamed():
            raise _altered(names, early=not self.words.begun, hint=hint)
        if _DEADLOCK in hint:  # what waited for the dump may have left each name as it was
            why = f"somebody waits to alter a table ({_DEADLOCK})"
            raise Retry(why, early=not self.words.begun, hint=hint)

    def _renamed(self) -> list[str]:
        now = naming.names(self._now)
        changed = [key for key, name in self._names.items() if now.get(key) != name]
        return [str(self._names[key]) for key in changed]

    def _waits(self) -> str:
        """Return what pg_dump waits for: `waiting for a lock of 'bob' (process 123, 'psql')`."""
        ours = account.application_name("tools")
        sessions = connection.rows(self._now, _BLOCKING, (ours,), into=tuple[int, str, str])
        for process, role, application in sessions:
            return f"waiting for a lock of {role!r} (process {process}, {application!r})"
        return ""

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
        note = "" if self.words.locked.is_set() else self._waits()
        self._progress.update((done + proof.bytes_read) // 2 if proof else done, note)
        self._looked = time.monotonic()
