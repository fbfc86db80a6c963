"""The types whose casts and checks are code of a plain role, which a superuser must not run.

A type is one of them if a plain role owns it and may give it casts or checks at any time, if a cast
or a check of it calls a function of a plain role, or if its values contain values of such a type.
An enum has no code but its casts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgtasks.server import connection
from pgtasks.server.connection import Connection

_TYPES = """
WITH RECURSIVE plain AS (SELECT oid FROM pg_roles WHERE NOT rolsuper),
code AS (SELECT oid FROM pg_proc WHERE proowner IN (SELECT oid FROM plain)),
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
    WHERE classid = 'pg_type'::regclass AND refclassid = 'pg_type'::regclass),
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
# A column of a domain is used as a value of the type below it, without a check.
_COLUMNS = f"""{_TYPES}, based (relation, name, type) AS (
  SELECT attrelid, attname, atttypid FROM pg_attribute
  WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
  UNION ALL SELECT b.relation, b.name, t.typbasetype FROM based b JOIN pg_type t ON t.oid = b.type
  WHERE t.typtype = 'd')
SELECT b.relation::bigint, b.name FROM based b JOIN pg_type t ON t.oid = b.type
JOIN foreign_types f ON f.oid = t.oid WHERE t.typtype <> 'd'
"""
_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"


@dataclass(frozen=True)
class Foreign:
    """What an expression must not use: such types, and what takes their values, by name; columns.

    A column is its relation and its name.
    """

    names: frozenset[tuple[str, str]] = frozenset()
    columns: frozenset[tuple[int, str]] = frozenset()

    def named(self, names: Iterable[tuple[str, str]]) -> str:
        """Return the first of some names that is one of them, an empty text if none is."""
        for schema, name in names:
            if (schema, name) in self.names:
                return name if schema == "pg_catalog" else f"{schema}.{name}"
        return ""


def read(conn: Connection) -> Foreign:
    """Return the types whose code must not run, none if the session's role is no superuser."""
    if not connection.value(conn, _SUPERUSER, into=bool):
        return Foreign()
    return Foreign(
        frozenset(connection.rows(conn, _NAMES, into=tuple[str, str])),
        frozenset(connection.rows(conn, _COLUMNS, into=tuple[int, str])),
    )
