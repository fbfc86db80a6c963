"""The tables of a diagram and their foreign keys, read from the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pgtasks.copy.part import names
from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.schema.inspect.facts import short_type
from pgtasks.schema.inspect.tables import refuse_unknown_schema
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import parted, qualified, quoted

KINDS = "rpf"
_KEYS_ONLY = 25  # tables of a picture that shows no other columns
# Partitions and child tables have the columns and keys of their parent.
_TABLES = f"""
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY (%(kinds)s) AND c.relpersistence <> 't' AND {OWN_SCHEMA}
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
    AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
  coalesce(a.attnum = ANY (p.conkey), false)
FROM pg_attribute a LEFT JOIN pg_constraint p ON p.conrelid = a.attrelid AND p.contype = 'p'
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_KEYS = """
SELECT o.conname AS name, o.conrelid::bigint AS child, o.confrelid::bigint AS parent,
  ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k (num, place)
    JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.num ORDER BY k.place)
    AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k (num, place)
    JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.num ORDER BY k.place)
    AS referenced,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = o.conrelid AND i.indisunique
    AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(o.conkey)
    AND i.indkey::int2[] @> o.conkey) AS unique
FROM pg_constraint o
WHERE o.contype = 'f' AND o.conparentid = 0 AND o.conrelid = ANY (%(oids)s::oid[])
  AND o.confrelid = ANY (%(oids)s::oid[])
ORDER BY o.conrelid, o.conname COLLATE "C"
"""


@dataclass(frozen=True)
class Column:
    """A column; `refers` says that it is part of a foreign key."""

    name: str
    type: str
    not_null: bool
    primary: bool
    refers: bool = False

    @property
    def marks(self) -> list[str]:
        """Return PK, FK, both or none."""
        return [*(["PK"] if self.primary else []), *(["FK"] if self.refers else [])]


@dataclass(frozen=True)
class Table:
    """A table; `hidden` is the number of columns that are not shown.

    `label` is its name in the picture: with its schema where there are several.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    hidden: int = 0
    label: str = ""

    def __str__(self) -> str:
        return qualified(self.schema, self.name)

    def with_keys_only(self) -> Table:
        """Return the table with the columns of its keys alone."""
        keys = tuple(each for each in self.columns if each.primary or each.refers)
        return replace(self, columns=keys, hidden=self.hidden + len(self.columns) - len(keys))


@dataclass(frozen=True)
class Link:
    """A foreign key from `child` to `parent`, the places of two tables.

    `optional` says that its columns may be null, `unique` that a parent has one child at most.
    """

    name: str
    child: int
    parent: int
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    optional: bool
    unique: bool


@dataclass(frozen=True)
class Model:
    """The tables, by schema and name, and the foreign keys between them."""

    tables: tuple[Table, ...]
    links: tuple[Link, ...]

    def with_keys_only(self) -> Model:
        """Return the model with the columns of keys alone."""
        return replace(self, tables=tuple(each.with_keys_only() for each in self.tables))

    def labelled(self) -> Model:
        """Return the model with labels."""
        one = len({each.schema for each in self.tables}) == 1
        tables = (
            replace(each, label=quoted(each.name) if one else str(each)) for each in self.tables
        )
        return replace(self, tables=tuple(tables))


@dataclass(frozen=True)
class _Named:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True)
class _Key:
    name: str
    child: int
    parent: int
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    unique: bool


def read(
    conn: Connection, *, schema: str = "", table: str = "", depth: int = 1, columns: str = ""
) -> Model:
    """Return the tables of a schema (all, if it is empty), or those around one table.

    `columns` is all or keys; by default, a picture of many tables shows the columns of keys alone.
    Raises Refused for an unknown name, or one that matches several tables.
    """
    refuse_unknown_schema(conn, schema)
    named = connection.rows(conn, _TABLES, {"kinds": list(KINDS)}, into=_Named)
    keys = connection.rows(conn, _KEYS, {"oids": [each.oid for each in named]}, into=_Key)
    if table:
        near = _near(_center(conn, named, table).oid, keys, depth)
        named = [each for each in named if each.oid in near]
    elif schema:
        named = [each for each in named if each.schema == schema]
    model = _model(conn, named, keys).labelled()
    few = columns == "keys" or (not columns and len(model.tables) > _KEYS_ONLY)
    return model.with_keys_only() if few else model


def _near(center: int, keys: Sequence[_Key], depth: int) -> set[int]:
    """Return the tables at most `depth` foreign keys away from one, in either direction."""
    near = {center}
    for _ in range(depth):
        near |= {key.parent for key in keys if key.child in near} | {
            key.child for key in keys if key.parent in near
        }
    return near


def _center(conn: Connection, named: Sequence[_Named], name: str) -> _Named:
    pattern = name if len(parted(name, ".")) > 1 else f"*.{name}"  # of any schema
    oids = set(catalog.matching(conn, [pattern], kinds=KINDS)[pattern])
    matching = [each for each in named if each.oid in oids]
    if len(matching) == 1:
        return matching[0]
    if matching:
        which = names.few([qualified(each.schema, each.name) for each in matching])
        raise Refused(f"{name!r} matches {len(matching)} tables: {which}")
    near = names.nearest(conn, name, KINDS) or f", {typed.task('inspect.tables')} lists all"
    raise Refused(f"no table is named {name!r}{near}")


def _model(conn: Connection, named: Sequence[_Named], keys: Sequence[_Key]) -> Model:
    place = {each.oid: number for number, each in enumerate(named)}
    refers = {(key.child, name) for key in keys for name in key.columns}
    keys = [key for key in keys if key.child in place and key.parent in place]
    columns: dict[int, list[Column]] = {oid: [] for oid in place}
    facts = connection.rows(conn, _COLUMNS, (list(place),), into=tuple[int, str, str, bool, bool])
    for oid, name, type, not_null, primary in facts:
        refer = (oid, name) in refers
        columns[oid].append(Column(name, short_type(type), not_null, primary, refer))
    needed = {(oid, each.name) for oid, own in columns.items() for each in own if each.not_null}
    links = (
        Link(
            *(key.name, place[key.child], place[key.parent], key.columns, key.referenced),
            optional=not all((key.child, column) in needed for column in key.columns),
            unique=key.unique,
        )
        for key in keys
    )
    tables = (Table(each.schema, each.name, tuple(columns[each.oid])) for each in named)
    return Model(tuple(tables), tuple(links))


def pairs(links: Iterable[Link]) -> list[tuple[int, int]]:
    """Return each pair of parent and child once, in order; a table's link to itself is none."""
    return sorted({(link.parent, link.child) for link in links if link.parent != link.child})
