"""A copy made of two databases: the schema of one, with rows of the other in some tables.

With --schema-only, the schema is the source's and the rows are those of the target that is
replaced. With --data-only or --tables, schema and all other rows are the target's. Rows go by the
names of tables and columns; what has no place is found here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pgtasks import report
from pgtasks.copy.part import names
from pgtasks.copy.part.fits import faults, has_rows, orphans
from pgtasks.copy.part.scope import NO_ROWS, Scope
from pgtasks.copy.part.shape import Name, Owned, Side, name_of
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.model import SequenceProof
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import qualified


@dataclass(frozen=True)
class Limit:
    """The columns of a table that both databases have; those in `text` have different types."""

    columns: frozenset[str]
    text: frozenset[str] = frozenset()

    def of(self, table: Relation) -> Relation:
        """Return a table with these columns only."""
        columns = tuple(name for name in table.columns if name in self.columns)
        return replace(
            table,
            columns=columns,
            plain=table.plain & self.columns - self.text,
            padded=table.padded & self.columns - self.text,
            typed=table.typed & self.columns,
            stored=table.stored & self.columns,
            virtual=table.virtual & self.columns,
        )


@dataclass(frozen=True)
class Carried:
    """What comes from the second database: tables with their columns, sequences, large objects.

    `keeps` says whether the other tables of the first one keep their rows; `both` are the sequences
    that such tables use, too, with whether each is rising; `new` are sequences that only the first
    one has, of columns that rows come into.
    """

    tables: Mapping[Name, Limit]
    sequences: frozenset[Name]
    large_objects: bool
    keeps: bool
    words: tuple[str, ...] = ()
    new: tuple[Owned, ...] = ()
    both: Mapping[Name, bool] = field(default_factory=dict)
    obstacles: tuple[str, ...] = field(default=(), repr=False)

    def of_first(self, content: Content) -> Content:
        """Return the content of the first database without what comes from the second."""

        def kept(table: Relation) -> Relation:
            if self.keeps or table.extension:
                return table
            return replace(table, condition=NO_ROWS, bytes=0)

        return replace(
            content,
            tables=tuple(kept(each) for each in content.tables if name_of(each) not in self.tables),
            others=tuple(kept(each) for each in content.others if name_of(each) not in self.tables),
            sequences=tuple(
                each
                for each in content.sequences
                if self.keeps and name_of(each) not in self.sequences - self.both.keys()
            ),
            large_objects=content.large_objects and not self.large_objects and self.keeps,
        )

    def of_second(self, content: Content) -> Content:
        """Return the content of the second database that goes into the copy."""

        def limited(tables: Collection[Relation]) -> tuple[Relation, ...]:
            limits = ((each, self.tables.get(name_of(each))) for each in tables)
            return tuple(limit.of(each) for each, limit in limits if limit)

        return replace(
            content,
            tables=limited(content.tables),
            others=limited(content.others),
            sequences=tuple(each for each in content.sequences if name_of(each) in self.sequences),
            large_objects=content.large_objects and self.large_objects,
            unproven=tuple(
                each
                for each in content.unproven
                if each.object in {f"table {qualified(*name)}" for name in self.tables}
            ),
        )

    def values(
        self, first: Sequence[SequenceProof], second: Sequence[SequenceProof]
    ) -> tuple[SequenceProof, ...]:
        """Return the values of the sequences that come from the second database.

        One of `both` has the value that is farther, so that no row gets a value of another one.
        """
        own = {(each.schema, each.name): each for each in first}
        return tuple(
            each
            if (rising := self.both.get(name := (each.schema, each.name))) is None
            else _farther(own.get(name, each), each, rising=rising)
            for each in second
        )

    def of_result(self, content: Content) -> Content:
        """Return the content of the copy, with the columns that can be compared."""
        tables = tuple(
            limit.of(each) if (limit := self.tables.get(name_of(each))) else each
            for each in content.tables
        )
        return replace(content, tables=tables)


def _farther(first: SequenceProof, second: SequenceProof, *, rising: bool) -> SequenceProof:
    def place(each: SequenceProof) -> tuple[int, bool]:
        return (each.value if rising else -each.value), each.called

    return max(first, second, key=place)


def schema_only(first: Side, second: Side, conn: Connection, *, lossy: bool) -> Carried:
    """Return what comes from the replaced database, `second`, into the source's schema.

    `conn` is a session in the second database.
    """
    shared = {name for name in second.tables if name in first.tables}
    obstacles = list(faults(first, second, conn, shared, lossy=lossy))
    obstacles += orphans(first, second, conn, shared)
    gone = [
        qualified(*name)
        for name in sorted(second.tables.keys() - shared)
        if has_rows(conn, second.relations[name])
    ]
    if gone and not lossy:
        obstacles.append(
            f"tables of the target with rows are not in the new schema: {names.few(gone)}:"
            " --lossy leaves them in the database that is kept"
        )
    return Carried(
        tables=_limits(first, second, shared),
        sequences=first.sequences & second.sequences,
        large_objects=True,
        keeps=False,
        words=(
            f"the schema alone: {report.plural(len(shared), 'table')} with the rows of the target, "
            f"{report.plural(len(first.tables) - len(shared), 'new table')} empty",
            *([f"rows of {names.few(gone)} are left behind"] if gone else ()),
        ),
        new=tuple(
            each
            for each in first.owned
            if (each.schema, each.name) not in second.sequences
            and each.rising
            and _comes(each, first, second)
        ),
        obstacles=tuple(obstacles),
    )


def _comes(owned: Owned, first: Side, second: Side) -> bool:
    """Whether a column of a sequence gets values of the second database."""
    name = (owned.to_schema, owned.table)
    return name in first.tables and owned.column in second.tables.get(name, {})


def data_only(first: Side, second: Side, conn: Connection, scope: Scope, *, lossy: bool) -> Carried:
    """Return what comes from the source, `second`, into the schema of the target.

    `conn` is a session in the source.
    """
    wanted = _wanted(second, conn, scope)
    hidden = wanted & first.tables.keys() - second.readable  # they would come empty
    wanted -= hidden
    shared = {name for name in wanted if name in first.tables}
    obstacles = [
        *faults(first, second, conn, shared, lossy=lossy),
        *_missing(hidden, wanted - shared, scope, lossy=lossy),
    ]
    whole = not scope.tables
    sequences = second.sequences
    if not whole:
        sequences = frozenset(
            (each.schema, each.name)
            for each in second.owned
            if (each.to_schema, each.table) in shared
        )
    kept = len(first.tables) - len(shared)
    own, both = _used_by_kept(first, shared)
    sequences &= first.sequences - own
    return Carried(
        tables=_limits(first, second, shared),
        sequences=sequences,
        both={name: rising for name, rising in both.items() if name in sequences},
        large_objects=whole,
        keeps=True,
        words=(
            f"the rows of {report.plural(len(shared), 'table')}, in the schema of the target",
            *([f"the rows of {report.plural(kept, 'table')} stay as they are"] if kept else ()),
        ),
        obstacles=tuple(obstacles),
    )


def _wanted(source: Side, conn: Connection, scope: Scope) -> set[Name]:
    """Return the tables of the source whose rows the flags ask for."""
    by_oid = {each.oid: name for name, each in source.relations.items()}
    wanted = set(source.tables)
    if scope.tables:
        oids = names.matched(conn, "--tables", scope.tables)
        wanted = {by_oid[oid] for oid in oids if oid in by_oid}
    left_out = names.matched(conn, "--exclude-data", scope.exclude_data)
    return wanted - {by_oid[oid] for oid in left_out if oid in by_oid}


def _missing(
    hidden: Collection[Name], absent: Collection[Name], scope: Scope, *, lossy: bool
) -> Iterator[str]:
    """Yield what is asked for and cannot come: rows that a standby hides, tables of one side."""
    if hidden and scope.tables:
        unlogged = names.few([qualified(*name) for name in sorted(hidden)])
        yield f"a standby does not have the rows of {unlogged}, which is unlogged"
    if absent and (scope.tables or not lossy):
        lacking = names.few([qualified(*name) for name in sorted(absent)])
        yield f"the target has no {lacking}: --schema-only brings the source's schema" + (
            "" if scope.tables else ", --lossy leaves these rows out"
        )


def _used_by_kept(first: Side, shared: Collection[Name]) -> tuple[set[Name], dict[Name, bool]]:
    """Return the sequences that only tables with rows of their own use, and those of both kinds."""
    coming, kept = dict[Name, bool](), dict[Name, bool]()
    for use in first.uses:
        users = coming if (use.by_schema, use.table) in shared else kept
        users[use.schema, use.name] = use.rising
    both = {name: rising for name, rising in kept.items() if name in coming}
    return kept.keys() - coming.keys(), both


def _limits(first: Side, second: Side, shared: Collection[Name]) -> dict[Name, Limit]:
    limits = {}
    for name in shared:
        new, old = first.tables[name], second.tables[name]
        columns = {
            column
            for column in new.keys() & old.keys()
            if not new[column].generated and not old[column].generated
        }
        text = {column for column in columns if new[column].type != old[column].type}
        limits[name] = Limit(frozenset(columns), frozenset(text))
    return limits
