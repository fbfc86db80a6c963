"""A copy made of two databases: the schema of one, with rows of the other in some tables.

With --schema-only, the schema is the source's and the rows are those of the target that is
replaced. With --data-only or --tables, schema and all other rows are the target's. Rows go by the
names of tables and columns; what has no place is found here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy import keys, names
from pgtasks.copy.keys import ForeignKey
from pgtasks.copy.scope import NO_ROWS, Scope
from pgtasks.errors import Failed
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA, Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import qualified, quoted

Name = tuple[str, str]
_COLUMNS = f"""
SELECT n.nspname AS schema, c.relname AS "table", a.attname AS name,
  format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
  a.atthasdef OR a.attidentity <> '' AS filled, a.attgenerated <> '' AS generated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OWN_SCHEMA}
"""
_OWNED = """
SELECT n.nspname AS schema, s.relname AS name, tn.nspname AS to_schema, t.relname AS "table",
  a.attname AS "column", q.seqmin AS least, q.seqincrement > 0 AS rising
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
AND d.deptype IN ('a', 'i')
"""
# of built-in functions, operators and types alone: others would run with the rights of the session
_CHECKS = """
SELECT n.nspname AS schema, c.relname AS "table", o.conname AS name,
  pg_get_expr(o.conbin, o.conrelid) AS expression,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
    AND a.attnum = ANY (o.conkey)) AS columns
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype = 'c' AND o.convalidated AND c.relkind = 'r' AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = o.oid
  AND d.refobjid >= 16384 AND d.refclassid <> 'pg_class'::regclass)
"""
# the text of a value is the same in both types, and fits
_WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
}
_ANY_TEXT = ("text", "character varying")


@dataclass(frozen=True)
class Column:
    """A column: `required` is NOT NULL, `filled` means that it has a default or an identity."""

    schema: str
    table: str
    name: str
    type: str
    required: bool
    filled: bool
    generated: bool


@dataclass(frozen=True)
class Owned:
    """A sequence that belongs to a column; `rising` unless it counts down."""

    schema: str
    name: str
    to_schema: str
    table: str
    column: str
    least: int
    rising: bool

    def advance(self) -> sql.Composed:
        """Return the statement that sets the sequence to the largest value of its column."""
        return sql.SQL(
            "SELECT pg_catalog.setval({}::pg_catalog.regclass, max({column})) FROM {}"
            " HAVING max({column}) >= {}"
        ).format(
            sql.Literal(qualified(self.schema, self.name)),
            sql.Identifier(self.to_schema, self.table),
            sql.Literal(self.least),
            column=sql.Identifier(self.column),
        )


@dataclass(frozen=True)
class Check:
    """A check constraint of built-in functions alone."""

    schema: str
    table: str
    name: str
    expression: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """The tables of one of the databases, with their columns, sequences, checks and keys.

    On a `standby`, unlogged tables have no rows that could be read.
    """

    tables: Mapping[Name, Mapping[str, Column]]
    relations: Mapping[Name, Relation]
    sequences: frozenset[Name]
    owned: tuple[Owned, ...]
    checks: tuple[Check, ...]
    keys: tuple[ForeignKey, ...]
    standby: bool

    @property
    def readable(self) -> set[Name]:
        """Return the tables whose rows can be read."""
        return {
            name
            for name, each in self.relations.items()
            if not (self.standby and each.persistence == "u")
        }


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
            typed=table.typed & self.columns,
            stored=table.stored & self.columns,
            virtual=table.virtual & self.columns,
        )


@dataclass(frozen=True)
class Carried:
    """What comes from the second database: tables with their columns, sequences, large objects.

    `keeps` says whether the other tables of the first one keep their rows; `new` are sequences that
    only the first one has, of columns that rows come into.
    """

    tables: Mapping[Name, Limit]
    sequences: frozenset[Name]
    large_objects: bool
    keeps: bool
    words: tuple[str, ...] = ()
    new: tuple[Owned, ...] = ()
    obstacles: tuple[str, ...] = field(default=(), repr=False)

    def of_first(self, content: Content) -> Content:
        """Return the content of the first database without what comes from the second."""

        def kept(table: Relation) -> Relation:
            if self.keeps or table.extension:
                return table
            return replace(table, condition=NO_ROWS, bytes=0)

        return replace(
            content,
            tables=tuple(kept(each) for each in content.tables if _name(each) not in self.tables),
            others=tuple(kept(each) for each in content.others if _name(each) not in self.tables),
            sequences=tuple(
                each
                for each in content.sequences
                if self.keeps and _name(each) not in self.sequences
            ),
            large_objects=content.large_objects and not self.large_objects and self.keeps,
        )

    def of_second(self, content: Content) -> Content:
        """Return the content of the second database that goes into the copy."""

        def limited(tables: Collection[Relation]) -> tuple[Relation, ...]:
            limits = ((each, self.tables.get(_name(each))) for each in tables)
            return tuple(limit.of(each) for each, limit in limits if limit)

        return replace(
            content,
            tables=limited(content.tables),
            others=limited(content.others),
            sequences=tuple(each for each in content.sequences if _name(each) in self.sequences),
            large_objects=content.large_objects and self.large_objects,
            unproven=tuple(
                each
                for each in content.unproven
                if each.object in {f"table {qualified(*name)}" for name in self.tables}
            ),
        )

    def of_result(self, content: Content) -> Content:
        """Return the content of the copy, with the columns that can be compared."""
        tables = tuple(
            limit.of(each) if (limit := self.tables.get(_name(each))) else each
            for each in content.tables
        )
        return replace(content, tables=tables)


def _name(table: Relation) -> Name:
    return table.schema, table.name


def read(conn: Connection) -> Side:
    """Read the tables of a database."""
    tables: dict[Name, dict[str, Column]] = {}
    relations = catalog.relations(conn, "rS")
    plain = {_name(each): each for each in relations if each.kind == "r" and not each.extension}
    for column in connection.rows(conn, _COLUMNS, into=Column):
        tables.setdefault((column.schema, column.table), {})[column.name] = column
    return Side(
        {name: tables.get(name, {}) for name in plain},
        plain,
        frozenset(_name(each) for each in relations if each.kind == "S"),
        tuple(connection.rows(conn, _OWNED, into=Owned)),
        tuple(connection.rows(conn, _CHECKS, into=Check)),
        tuple(keys.read(conn)),
        connection.value(conn, "SELECT pg_is_in_recovery()", into=bool),
    )


def schema_only(first: Side, second: Side, conn: Connection, *, lossy: bool) -> Carried:
    """Return what comes from the replaced database, `second`, into the source's schema.

    `conn` is a session in the second database.
    """
    shared = {name for name in second.tables if name in first.tables}
    faults = list(_faults(first, second, conn, shared, lossy=lossy))
    faults += _orphans(first, second, conn, shared)
    gone = [
        qualified(*name)
        for name in sorted(second.tables.keys() - shared)
        if _has_rows(conn, second.relations[name])
    ]
    if gone and not lossy:
        faults.append(
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
        obstacles=tuple(faults),
    )


def _comes(owned: Owned, first: Side, second: Side) -> bool:
    """Whether a column of a sequence gets values of the second database."""
    name = (owned.to_schema, owned.table)
    return name in first.tables and owned.column in second.tables.get(name, {})


def data_only(first: Side, second: Side, conn: Connection, scope: Scope, *, lossy: bool) -> Carried:
    """Return what comes from the source, `second`, into the schema of the target.

    `conn` is a session in the source.
    """
    by_oid = {each.oid: name for name, each in second.relations.items()}
    wanted = set(second.tables)
    if scope.tables:
        oids = names.matched(conn, "--tables", scope.tables)
        wanted = {by_oid[oid] for oid in oids if oid in by_oid}
    left_out = names.matched(conn, "--exclude-data", scope.exclude_data)
    wanted -= {by_oid[oid] for oid in left_out if oid in by_oid}
    if hidden := sorted(wanted & first.tables.keys() - second.readable):
        wanted -= set(hidden)  # they would come empty
    shared = {name for name in wanted if name in first.tables}
    faults = list(_faults(first, second, conn, shared, lossy=lossy))
    if hidden and scope.tables:
        unlogged = names.few([qualified(*name) for name in hidden])
        faults.append(f"a standby does not have the rows of {unlogged}, which is unlogged")
    absent = [qualified(*name) for name in sorted(wanted - shared)]
    if absent and (scope.tables or not lossy):
        faults.append(
            f"the target has no {names.few(absent)}: --schema-only brings the source's schema"
            + ("" if scope.tables else ", --lossy leaves these rows out")
        )
    whole = not scope.tables
    sequences = second.sequences
    if not whole:
        sequences = frozenset(
            (each.schema, each.name)
            for each in second.owned
            if (each.to_schema, each.table) in shared
        )
    kept = len(first.tables) - len(shared)
    return Carried(
        tables=_limits(first, second, shared),
        sequences=first.sequences & sequences,
        large_objects=whole,
        keeps=True,
        words=(
            f"the rows of {report.plural(len(shared), 'table')}, in the schema of the target",
            *([f"the rows of {report.plural(kept, 'table')} stay as they are"] if kept else ()),
        ),
        obstacles=tuple(faults),
    )


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


def _faults(
    first: Side, second: Side, conn: Connection, shared: Collection[Name], *, lossy: bool
) -> Iterator[str]:
    """Yield one line for each column whose values have no place, or that gets none."""
    for name in sorted(shared):
        new, old = first.tables[name], second.tables[name]
        faults = list(_of_columns(name, new, old, lossy=lossy))
        nullable = [
            column
            for column in sorted(new.keys() & old.keys())
            if new[column].required and not old[column].required and not new[column].generated
        ]
        if not (faults or nullable) or not _has_rows(conn, second.relations[name]):
            continue
        yield from faults
        for column in nullable:
            if _has_nulls(conn, second.relations[name], column):
                yield f"column {_column(name, column)} has nulls, and is NOT NULL there"
    yield from _broken(first, second, conn, shared)


def _broken(first: Side, second: Side, conn: Connection, shared: Collection[Name]) -> Iterator[str]:
    """Yield one line for each check constraint of the first database that rows break.

    Checks that cannot be evaluated here are left to the load.
    """
    known = {(each.schema, each.table, each.expression) for each in second.checks}
    for check in first.checks:
        name = (check.schema, check.table)
        if name not in shared or (*name, check.expression) in known:
            continue
        old, table = second.tables[name], second.relations[name]
        plain = all(each in old and each not in table.typed for each in check.columns)
        if plain and not table.foreign_code and _fails(conn, table, check):
            yield f"rows of {table} break the check constraint {quoted(check.name)}"


def _orphans(
    first: Side, second: Side, conn: Connection, shared: Collection[Name]
) -> Iterator[str]:
    """Yield one line for each new foreign key that rows of the second database break.

    Keys of partitioned tables, and those of other than built-in types, are left to the load.
    """
    known = {_ends(key) for key in second.keys}
    for key in first.keys:
        child, parent = (key.schema, key.table), (key.to_schema, key.to_table)
        plain = not (key.whole or key.to_whole or key.period) and key.valid
        if child not in shared or not plain or _ends(key) in known:
            continue
        empty = parent not in shared
        readable = _comparable(second, child, key.columns) and (
            empty or _comparable(second, parent, key.to_columns)
        )
        if readable and _is_orphan(conn, key, is_empty=empty):
            yield f"rows of {qualified(*child)} break the foreign key {quoted(key.name)}"


def _ends(key: ForeignKey) -> tuple[object, ...]:
    return key.schema, key.table, key.columns, key.to_schema, key.to_table, key.to_columns


def _comparable(side: Side, name: Name, columns: Collection[str]) -> bool:
    """Whether a query may read some columns of a table without code of other roles."""
    table = side.relations[name]
    return not table.foreign_code and set(columns) <= set(table.columns) - table.typed


def _is_orphan(conn: Connection, key: ForeignKey, *, is_empty: bool) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} c WHERE {})").format(key.from_, key.refers("c"))
    if not is_empty:
        query = sql.SQL(
            "SELECT EXISTS (SELECT FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {}))"
        ).format(key.from_, key.refers("c"), key.to, key.matches("p", "c"))
    try:
        return connection.value(conn, query, into=bool)
    except Failed:
        return False


def _fails(conn: Connection, table: Relation, check: Check) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE NOT ({}))").format(
        _place(table), sql.SQL(check.expression)
    )
    try:
        return connection.value(conn, query, into=bool)
    except Failed:
        return False


def _of_columns(
    name: Name, new: Mapping[str, Column], old: Mapping[str, Column], *, lossy: bool
) -> Iterator[str]:
    for column in sorted(new.keys() | old.keys()):
        if column not in new:
            if not old[column].generated and not lossy:
                yield f"column {_column(name, column)} has no place: --lossy leaves its values"
        elif column not in old:
            each = new[column]
            if each.required and not each.filled and not each.generated:
                yield f"column {_column(name, column)} is NOT NULL and has no default"
        elif not _fits(new[column], old[column]):
            types = f"{old[column].type} to {new[column].type}"
            yield f"column {_column(name, column)} changes from {types}: not all values may fit"


def _column(name: Name, column: str) -> str:
    return f"{qualified(*name)}.{quoted(column)}"


def _fits(new: Column, old: Column) -> bool:
    if new.generated or old.generated:
        return True
    if old.type.startswith(("character(", "bpchar")):
        return new.type == old.type  # their text loses blanks
    wider = _ANY_TEXT if not old.type.startswith("numeric") else (*_ANY_TEXT, "numeric")
    return new.type == old.type or new.type in (*wider, *_WIDER.get(old.type, ()))


def _has_rows(conn: Connection, table: Relation) -> bool:
    if table.foreign_code:
        return True  # to look would run code of another role
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})")
    return connection.value(conn, query.format(_place(table)), into=bool)


def _has_nulls(conn: Connection, table: Relation, column: str) -> bool:
    if table.foreign_code:
        return True
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE {} IS NULL)")
    return connection.value(conn, query.format(_place(table), sql.Identifier(column)), into=bool)


def _place(table: Relation) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)
