"""The transaction that replaces or creates tables in the live database.

Everything is in it: foreign keys that lead to the tables are dropped and made again, which checks
them; triggers do not fire; the rows are compared with the proof. Nothing is committed before all of
that is done, so that a kill at any moment leaves the old rows or the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from psycopg2 import sql

from pgtasks.backup.restore import locking
from pgtasks.backup.restore.commit import Commit, transaction
from pgtasks.backup.restore.tables import keys, shape
from pgtasks.backup.restore.tables import standing as live
from pgtasks.backup.restore.tables.choice import name_of
from pgtasks.backup.restore.tables.make import Maker
from pgtasks.backup.restore.tables.plan import TablesPlan
from pgtasks.backup.restore.tables.standing import LiveTable, Standing
from pgtasks.copy.part import shape as shapes
from pgtasks.copy.rows import stream, tables
from pgtasks.errors import Failed, Refused
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import catalog, connection
from pgtasks.server import proof as proofs
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof import Comparison, Proof, TableProof, fingerprint
from pgtasks.server.proof.difference import Difference, accepted
from pgtasks.server.proof.model import FORMAT
from pgtasks.server.quoting import qualified

_IDLE = 60  # seconds between two statements, after which the server rolls back


@dataclass(frozen=True)
class Written:
    """What was written and committed; `sequences` were set to go on after the rows."""

    comparison: Comparison
    accepted: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()


def write(
    plan: TablesPlan,
    source: Connection,
    conn: Connection,
    commit: Commit,
    console: Console,
    *,
    check: Callable[[], None],
) -> Written:
    """Replace and create the tables, and commit; `source` is in the side database.

    `check` is called before the commit, and may raise an error.
    """
    connection.execute(conn, tables.writing_settings())
    connection.execute(source, tables.reading_settings())
    relations = _relations(source, plan)
    existing = [name_of(each) for each in plan.choice.tables if plan.standing.find(name_of(each))]
    if lines := list(shape.differences(source, conn, existing)):
        raise Refused(
            f"the tables differ, nothing was changed: {lines[0]}"
            f"{f' (and {len(lines) - 1} more)' if lines[1:] else ''}: --into restores the backup "
            "beside the database",
            hint="\n".join(lines[1:]),
        )
    loaded = _loaded(plan, source, relations)
    writer = _Writer(plan, source, conn, relations, loaded, commit, check, console)
    try:
        with transaction(conn):
            return writer.run()
    except Failed as exc:
        lines = _missing(plan, source, conn, relations)
        if not lines:
            raise
        raise Refused(
            f"nothing was changed: {lines[0]}", hint="\n".join([*lines[1:], exc.message])
        ) from None


def _missing(
    plan: TablesPlan, source: Connection, conn: Connection, relations: Sequence[Relation]
) -> list[str]:
    """Return the rows that refer to what is not there; a COPY that failed has closed sessions."""
    with (
        connection.another(source, read_only=True, purpose="db.restore") as reading,
        connection.another(conn, purpose="db.restore") as counting,
    ):
        return list(keys.missing(reading, counting, plan.standing.others, relations))


def _relations(source: Connection, plan: TablesPlan) -> list[Relation]:
    """Return the tables in the side database, raising Failed if one is missing."""
    names = {name_of(each) for each in plan.choice.filled}
    found = [each for each in catalog.relations(source, "r") if (each.schema, each.name) in names]
    if lost := names - {(each.schema, each.name) for each in found}:
        raise Failed(f"table {qualified(*sorted(lost)[0])} is not in what was loaded")
    return found


@dataclass
class _Writer:
    plan: TablesPlan
    source: Connection
    conn: Connection
    relations: Sequence[Relation]
    loaded: Sequence[TableProof]  # of tables without a proof
    commit: Commit
    check: Callable[[], None]
    console: Console
    notes: list[str] = field(default_factory=list)

    def run(self) -> Written:
        """Do all steps, and commit."""
        standing = self._locked()
        self._still(standing)
        boundary("tables.locked")
        self._each(constraint.drop() for constraint in standing.leading)
        self._each(trigger.disable() for trigger in standing.triggers)
        forced = [table for table in standing.tables if table.forced]
        self._each(_forcing("NO FORCE", table) for table in forced)
        if filled := standing.filled:
            names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(t.identifier) for t in filled)
            connection.execute(self.conn, sql.SQL("TRUNCATE {}").format(names))
        user = connection.value(self.conn, "SELECT current_user", into=str)
        maker = Maker(self.plan, self.conn, user) if self.plan.made else None
        if maker:
            maker.before_rows()
        self._copy()
        boundary("tables.filled")
        comparison, differences = self._proven()
        if maker:  # row policies apply from here on
            maker.after_rows()
            self.notes += maker.notes
        self._add_keys(standing)
        self._each(_forcing("FORCE", table) for table in forced)
        self._each(trigger.enable() for trigger in standing.triggers)
        self._unchanged(standing)
        connection.execute(self.conn, "SET CONSTRAINTS ALL IMMEDIATE")
        sequences = self._sequences()
        boundary("tables.proven")
        self.check()
        query = "SELECT pg_current_xact_id()::text"
        self.commit.transaction = connection.value(self.conn, query, into=str)
        connection.execute(self.conn, "COMMIT")
        boundary("tables.committed")
        return Written(comparison, differences, tuple(self.notes), tuple(sequences))

    def _each(self, statements: Iterator[sql.Composed]) -> None:
        for statement in statements:
            connection.execute(self.conn, statement)

    def _locked(self) -> Standing:
        """Lock the tables, and those that refer to them; return them as they are now."""
        standing = self.plan.standing
        locking.limit(self.conn, _IDLE)
        places = {each.oid: each.identifier for each in standing.tables}
        for constraint in standing.leading:
            key = constraint.key
            places.setdefault(key.child, sql.Identifier(key.schema, key.table))
        if places:
            names = sql.SQL(", ").join(
                sql.SQL("ONLY {}").format(places[oid]) for oid in sorted(places)
            )
            locking.exclusively(self.conn, names, list(places))
        return live.read(self.conn, self.plan.choice.names)

    def _still(self, standing: Standing) -> None:
        if standing != self.plan.standing:
            raise Failed("the tables were altered since the plan, nothing was changed: try again")

    def _unchanged(self, before: Standing) -> None:
        """Check that all that was dropped or disabled meanwhile is back, beside what is new."""
        now = live.read(self.conn, [(each.schema, each.name) for each in before.tables])
        leading = {(str(each.key), each.definition, each.comment) for each in before.leading}
        after = {(str(each.key), each.definition, each.comment) for each in now.leading}
        if now.triggers != before.triggers or now.tables != before.tables or leading - after:
            raise Failed("not everything is as it was around the rows, nothing was changed")

    def _copy(self) -> None:
        copies = tables.plan(self.source, self.relations, binary=True)
        total = sum(each.relation.bytes for each in copies)
        with self.console.progress("replace", total) as progress:
            done = 0
            for copy in copies:
                out, into = tables.out_statement(copy), tables.in_statement(copy)
                stream.copy(self.source, self.conn, out, into)
                done += copy.relation.bytes
                progress.update(done)

    def _add_keys(self, standing: Standing) -> None:
        """Make the foreign keys again, raising Refused with the rows that would break them."""
        lines = list(filter(None, (keys.dependent(self.conn, c.key) for c in standing.leading)))
        if lines:
            raise Refused(f"nothing was changed: {lines[0]}", hint="\n".join(lines[1:]))
        for constraint in standing.leading:
            self._each(iter(constraint.add()))

    def _proven(self) -> tuple[Comparison, tuple[Difference, ...]]:
        """Compare the rows with the proof of the backup, or with those that were loaded."""
        form = _format(self.plan)
        names = {*self.plan.choice.names, *((t.schema, t.name) for t in self.plan.standing.filled)}
        present = [
            each for each in catalog.relations(self.conn, "r") if (each.schema, each.name) in names
        ]
        actual = _proof(self.conn, present, form)
        expected = self._expected(actual)
        comparison = proofs.compare(expected, actual)
        differences = accepted(
            comparison.differences,
            self.plan.base.accept,
            "the restored rows differ from the backup, nothing was changed",
        )
        return comparison, differences

    def _expected(self, actual: Proof) -> Proof:
        known = self.plan.expected
        proven = known.tables if known else ()
        empty = tuple(
            TableProof(each.schema, each.name, 0, "0")
            for each in self.plan.standing.filled
            if not known and str(each) in self.plan.extra
        )
        return replace(
            known or actual, tables=(*proven, *self.loaded, *empty), unproven=(), computed={}
        )

    def _sequences(self) -> list[str]:
        """Let sequences of the tables go on behind the values of both, never back.

        A rollback does not take setval back; a sequence that went on is harmless.
        """
        saved = {(each.schema, each.name): each for each in shapes.read(self.source).owned}
        names = set(self.plan.choice.names)
        set_to = []
        for owned in shapes.read(self.conn).owned:
            if (owned.to_schema, owned.table) not in names:
                continue
            name = (owned.schema, owned.name)
            if name not in saved:
                continue
            there, here = _value(self.source, name), _value(self.conn, name)
            sign = 1 if owned.rising else -1
            new = (owned.to_schema, owned.table) in {*map(name_of, self.plan.made)}
            if new or (sign * there[0], there[1]) > (sign * here[0], here[1]):
                connection.execute(self.conn, tables.setval_statement(*name, *there))
                set_to.append(f"{qualified(*name)} {there[0]}")
        return set_to


def _value(conn: Connection, name: tuple[str, str]) -> tuple[int, bool]:
    query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*name))
    return connection.rows(conn, query, into=tuple[int, bool])[0]


def _format(plan: TablesPlan) -> int:
    return plan.expected.format if plan.expected else FORMAT


def _loaded(
    plan: TablesPlan, source: Connection, relations: Sequence[Relation]
) -> Sequence[TableProof]:
    """Return the proofs of the tables that the backup has none of, as they were loaded."""
    proven = {str(each) for each in plan.expected.tables} if plan.expected else set()
    unproven = [each for each in relations if str(each) not in proven]
    return _proof(source, unproven, _format(plan)).tables


def _proof(conn: Connection, relations: Sequence[Relation], form: int) -> Proof:
    found = []
    for table in relations:
        query = fingerprint.row_count(0, table, form)
        [(_, rows, digest, _)] = connection.rows(conn, query)
        found.append(TableProof(table.schema, table.name, rows, digest or "0"))
    return Proof(conn.server_version, tuple(found), format=form)


def _forcing(words: str, table: LiveTable) -> sql.Composed:
    return sql.SQL("ALTER TABLE ONLY {} {} ROW LEVEL SECURITY").format(
        table.identifier, sql.SQL(words)
    )


def analyze(conn: Connection, plan: TablesPlan) -> str:
    """Gather statistics of the tables, and return an empty text, or why that failed."""
    names = [sql.Identifier(*name_of(each)) for each in plan.choice.filled]
    try:
        connection.execute(conn, sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(names)))
    except Failed as exc:
        return exc.message
    return ""
