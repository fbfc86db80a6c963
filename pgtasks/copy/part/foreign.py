"""Code of plain roles that a query would run with the rights of the session, maybe a superuser's.

Any role may own a type, and give it casts, checks and operators at any time. They run wherever a
query compares or converts values of the type, or of a type that contains it. An enum has no code
but its casts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pgtasks.copy.part.keys import ForeignKey
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_CODE = """
WITH RECURSIVE plain AS (
  SELECT oid FROM pg_roles WHERE NOT rolsuper AND rolname <> current_user),
code AS (SELECT oid FROM pg_proc WHERE proowner IN (SELECT oid FROM plain)),
"""
# What a query that compares the columns of tables would run; a domain is only read.
_COMPARED = f"""{_CODE}
coded AS (
  SELECT oid FROM pg_type WHERE typtype NOT IN ('e', 'd') AND typcategory <> 'A'
    AND typowner IN (SELECT oid FROM plain)
  UNION SELECT type FROM pg_cast CROSS JOIN unnest(ARRAY[castsource, casttarget]) type
    WHERE castfunc IN (SELECT oid FROM code)
  UNION SELECT type FROM pg_operator CROSS JOIN unnest(ARRAY[oprleft, oprright]) type
    WHERE oprowner IN (SELECT oid FROM plain) OR oprcode IN (SELECT oid FROM code)),
inside (relation, name, type) AS (
  SELECT attrelid, attname, atttypid FROM pg_attribute
  WHERE attnum > 0 AND NOT attisdropped AND atttypid >= 16384
  UNION SELECT i.relation, i.name, part.type FROM inside i JOIN pg_type t ON t.oid = i.type
  CROSS JOIN LATERAL (
    SELECT t.typbasetype UNION SELECT t.typelem
    UNION SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
    UNION SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND t.typrelid <> 0
      AND attnum > 0 AND NOT attisdropped) part (type)
  WHERE part.type >= 16384)
SELECT relation::bigint, array_agg(DISTINCT name::text) FROM inside
WHERE type IN (SELECT oid FROM coded) GROUP BY relation
"""

# The types that an expression must not use: their casts and checks are such code.
_TYPES = f"""{_CODE}
unsafe AS (
  SELECT oid FROM pg_type WHERE typowner IN (SELECT oid FROM plain)
  AND typtype <> 'e' AND NOT (typelem <> 0 AND typlen = -1)
  UNION SELECT unnest(CASE WHEN castsource < 16384 AND casttarget >= 16384 THEN ARRAY[casttarget]
    WHEN casttarget < 16384 AND castsource >= 16384 THEN ARRAY[castsource]
    ELSE ARRAY[castsource, casttarget] END) FROM pg_cast WHERE castfunc IN (SELECT oid FROM code)
  UNION SELECT o.contypid FROM pg_constraint o JOIN pg_depend d
    ON d.classid = 'pg_constraint'::regclass AND d.objid = o.oid
    LEFT JOIN pg_operator p ON d.refclassid = 'pg_operator'::regclass AND p.oid = d.refobjid
    WHERE o.contypid <> 0 AND (d.refclassid = 'pg_proc'::regclass
    AND d.refobjid IN (SELECT oid FROM code) OR p.oprcode IN (SELECT oid FROM code))),
contains (whole, part) AS (
  SELECT oid, typelem FROM pg_type WHERE typelem <> 0
  UNION ALL SELECT oid, typbasetype FROM pg_type WHERE typbasetype <> 0
  UNION ALL SELECT rngtypid, rngsubtype FROM pg_range
  UNION ALL SELECT c.reltype, a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.reltype <> 0 AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT objid, refobjid FROM pg_depend
    WHERE classid = 'pg_type'::regclass AND refclassid = 'pg_type'::regclass
  UNION ALL SELECT o.contypid, d.refobjid FROM pg_constraint o JOIN pg_depend d
    ON d.classid = 'pg_constraint'::regclass AND d.objid = o.oid
    WHERE o.contypid <> 0 AND d.refclassid = 'pg_type'::regclass AND d.refobjid <> o.contypid),
foreign_types AS (
  SELECT oid FROM unsafe
  UNION SELECT c.whole FROM foreign_types f JOIN contains c ON c.part = f.oid)
"""
_NAMES = f"""{_TYPES}
SELECT n.nspname, t.typname FROM foreign_types f JOIN pg_type t ON t.oid = f.oid
JOIN pg_namespace n ON n.oid = t.typnamespace
UNION SELECT n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid >= 16384 AND EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) a
  WHERE a IN (SELECT oid FROM foreign_types))
UNION SELECT n.nspname, p.oprname FROM pg_operator p JOIN pg_namespace n ON n.oid = p.oprnamespace
WHERE p.oid >= 16384 AND (p.oprleft IN (SELECT oid FROM foreign_types)
  OR p.oprright IN (SELECT oid FROM foreign_types))
"""
# A ready-made mask uses a column of a domain as a value of the type below it, without a check; any
# other expression may make an array of it, whose other elements are checked.
_VALUES = f"""{_TYPES}, based (relation, name, type) AS (
  SELECT attrelid, attname, atttypid FROM pg_attribute
  WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
  UNION ALL SELECT b.relation, b.name, t.typbasetype FROM based b JOIN pg_type t ON t.oid = b.type
  WHERE t.typtype = 'd')
SELECT b.relation::bigint, b.name, bool_and(t.typtype = 'd')
FROM based b JOIN pg_type t ON t.oid = b.type JOIN foreign_types f ON f.oid = t.oid GROUP BY 1, 2
"""
_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"


@dataclass(frozen=True)
class Foreign:
    """What an expression must not use: such types, and what takes their values, by name; columns.

    A column is its relation and its name. Those of `domains` may only be read, by ready-made masks.
    """

    names: frozenset[tuple[str, str]] = frozenset()
    columns: frozenset[tuple[int, str]] = frozenset()
    domains: frozenset[tuple[int, str]] = frozenset()

    def read(self, relation: int, columns: Iterable[str]) -> str:
        """Return the first of some columns of a relation that no expression may read; `*` is all.

        An empty text if there is none.
        """
        own = {name for oid, name in self.columns | self.domains if oid == relation}
        return next((name for name in columns if name in own or (own and name == "*")), "")

    def named(self, names: Iterable[tuple[str, str]]) -> str:
        """Return the first of some names that is one of them, an empty text if none is."""
        for schema, name in names:
            if (schema, name) in self.names:
                return name if schema == "pg_catalog" else f"{schema}.{name}"
        return ""


def types(conn: Connection) -> Foreign:
    """Return the types whose code must not run, none if the session's role is no superuser."""
    if not connection.value(conn, _SUPERUSER, into=bool):
        return Foreign()
    columns = connection.rows(conn, _VALUES, into=tuple[int, str, bool])
    return Foreign(
        frozenset(connection.rows(conn, _NAMES, into=tuple[str, str])),
        frozenset((oid, name) for oid, name, is_domain in columns if not is_domain),
        frozenset((oid, name) for oid, name, is_domain in columns if is_domain),
    )


Columns = Mapping[int, Collection[str]]


def compared(conn: Connection) -> dict[int, frozenset[str]]:
    """Return the columns of each relation that no query may compare: their types have such code."""
    rows = connection.rows(conn, _COMPARED, into=tuple[int, list[str]])
    return {relation: frozenset(names) for relation, names in rows}


def compares(key: ForeignKey, coded: Columns) -> bool:
    """Whether a query that follows a foreign key would run code of another role."""
    ends = ((key.child, key.columns), (key.parent, key.to_columns))
    return any(set(names) & set(coded.get(table, ())) for table, names in ends)
