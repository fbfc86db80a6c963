"""Tables in the live database: partitions, foreign keys, triggers, owners."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.backup.restore.tables.choice import Name
from pgtasks.copy.part import keys, names
from pgtasks.copy.part.keys import ForeignKey
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified

_TABLES = """
WITH named AS (
  SELECT c.oid FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
  JOIN pg_namespace n ON n.nspname = w.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name),
listed AS (
  SELECT oid FROM named UNION SELECT t.relid FROM named d JOIN pg_class c ON c.oid = d.oid
  AND c.relkind = 'p' CROSS JOIN LATERAL pg_partition_tree(c.oid) t)
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
  pg_get_userbyid(c.relowner) AS owner, c.relforcerowsecurity AS forced,
  EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
    AND d.deptype = 'e') AS extension
FROM listed l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid
"""
_TRIGGERS = """
SELECT n.nspname AS schema, c.relname AS "table", t.tgname AS name, t.tgenabled::text AS state
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgrelid = ANY (%s::oid[]) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
ORDER BY t.tgrelid, t.tgname
"""
_DEFINED = """
WITH RECURSIVE own AS (
  SELECT oid AS root, oid FROM pg_constraint WHERE oid = ANY (%s::oid[])
  UNION ALL SELECT o.root, c.oid FROM own o JOIN pg_constraint c ON c.conparentid = o.oid)
SELECT k.oid::bigint, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
  pg_get_userbyid(c.relowner),
  EXISTS (SELECT FROM own o JOIN pg_trigger t ON t.tgconstraint = o.oid
    WHERE o.root = k.oid AND t.tgenabled <> 'O')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.oid = ANY (%s::oid[])
"""


@dataclass(frozen=True)
class LiveTable:
    """A relation of the live database; `forced` means that row policies apply to its owner too."""

    oid: int
    schema: str
    name: str
    kind: str
    owner: str
    forced: bool
    extension: bool

    @property
    def identifier(self) -> sql.Identifier:
        """Return its qualified name for a statement."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True)
class Trigger:
    """A trigger that fires, by its state: `O` (origin) or `A` (always)."""

    schema: str
    table: str
    name: str
    state: str

    def disable(self) -> sql.Composed:
        """Return the statement that disables it, for one table alone."""
        return self._alter("DISABLE")

    def enable(self) -> sql.Composed:
        """Return the statement that gives it its state back."""
        return self._alter("ENABLE ALWAYS" if self.state == "A" else "ENABLE")

    def _alter(self, verb: str) -> sql.Composed:
        return sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(
            sql.Identifier(self.schema, self.table), sql.SQL(verb), sql.Identifier(self.name)
        )


@dataclass(frozen=True)
class Constraint:
    """A foreign key that leads to one of the tables: it is dropped, and made again.

    `silent` means that a trigger which enforces it is disabled.
    """

    key: ForeignKey
    definition: str
    comment: str | None
    owner: str
    silent: bool

    def drop(self) -> sql.Composed:
        """Return the statement that drops it."""
        name = sql.Identifier(self.key.name)
        return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(self.key.from_, name)

    def add(self) -> Iterable[sql.Composed]:
        """Yield the statements that make it again, and check all rows."""
        name = sql.Identifier(self.key.name)
        yield sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            self.key.from_, name, sql.SQL(self.definition)
        )
        if self.comment is not None:
            yield sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                name,
                sql.Identifier(self.key.schema, self.key.table),
                sql.Literal(self.comment),
            )


@dataclass(frozen=True)
class Standing:
    """What is in the live database by the names of some tables, with all partitions of each.

    `leading` are the foreign keys to them, `others` those from them to other tables.
    """

    tables: tuple[LiveTable, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    leading: tuple[Constraint, ...] = ()
    others: tuple[ForeignKey, ...] = ()

    def find(self, name: Name) -> LiveTable | None:
        """Return the relation of a name, None if there is none."""
        return next((each for each in self.tables if (each.schema, each.name) == name), None)

    @property
    def filled(self) -> list[LiveTable]:
        """Return the tables that rows are in."""
        return [each for each in self.tables if each.kind == "r"]

    @property
    def owners(self) -> set[str]:
        """Return the owners of all that the transaction alters."""
        return {each.owner for each in self.tables} | {each.owner for each in self.leading}

    def beside(self) -> list[str]:
        """Return the other tables that are locked because they refer to these."""
        own = {(each.schema, each.name) for each in self.tables}
        children = ((each.key.schema, each.key.table) for each in self.leading)
        return [qualified(*name) for name in dict.fromkeys(children) if name not in own]


def read(conn: Connection, wanted: Sequence[Name]) -> Standing:
    """Read what stands in the live database by some names."""
    parameters = {"schemas": [each[0] for each in wanted], "names": [each[1] for each in wanted]}
    tables = tuple(connection.rows(conn, _TABLES, parameters, into=LiveTable))
    oids = {each.oid for each in tables}
    leading, others = _keys(conn, oids)
    triggers = connection.rows(conn, _TRIGGERS, (list(oids),), into=Trigger)
    return Standing(tables, tuple(triggers), leading, others)


_FOREIGN_CODE = f"""
SELECT DISTINCT r.oid::regclass::text FROM pg_class r
LEFT JOIN pg_index i ON i.indrelid = r.oid LEFT JOIN pg_constraint o ON o.conrelid = r.oid
LEFT JOIN pg_attrdef f ON f.adrelid = r.oid LEFT JOIN pg_statistic_ext s ON s.stxrelid = r.oid
JOIN pg_depend d ON (d.classid, d.objid) IN (
  ('pg_class'::regclass::oid, r.oid), ('pg_class'::regclass::oid, i.indexrelid),
  ('pg_constraint'::regclass::oid, o.oid), ('pg_attrdef'::regclass::oid, f.oid),
  ('pg_statistic_ext'::regclass::oid, s.oid))
WHERE r.oid = ANY (%s::oid[]) AND {catalog.FOREIGN} ORDER BY 1
"""


def foreign_code(conn: Connection, standing: Standing) -> list[str]:
    """Return the tables that use types or functions of plain roles, which writing rows would run.

    A superuser who is no owner of them would run them with his own rights.
    """
    oids = {each.oid for each in standing.tables} | {each.key.child for each in standing.leading}
    return connection.rows(conn, _FOREIGN_CODE, (list(oids),), into=str)


def _keys(
    conn: Connection, oids: Collection[int]
) -> tuple[tuple[Constraint, ...], tuple[ForeignKey, ...]]:
    parts = names.partitions(conn)
    leading, others = [], []
    for key in keys.read(conn):
        if ({key.parent} | parts.get(key.parent, frozenset())) & set(oids):
            leading.append(key)
        elif ({key.child} | parts.get(key.child, frozenset())) & set(oids):
            others.append(key)
    return tuple(_defined(conn, leading)), tuple(others)


def _defined(conn: Connection, leading: Sequence[ForeignKey]) -> Iterable[Constraint]:
    oids = [key.oid for key in leading]
    rows = connection.rows(
        conn, _DEFINED, (oids, oids), into=tuple[int, str, str | None, str, bool]
    )
    facts = {row[0]: row for row in rows}
    for key in leading:
        _, definition, comment, owner, silent = facts[key.oid]
        yield Constraint(key, definition, comment, owner, silent)
