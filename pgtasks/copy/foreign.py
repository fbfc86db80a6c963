"""Code of other roles that a query would run as it chooses rows.

A cast that a role made for its own type runs wherever a value of the type is compared, with the
rights of the session. It may be a superuser's, and any plain role may own a type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pgtasks.copy.keys import ForeignKey
from pgtasks.server import connection
from pgtasks.server.connection import Connection

# An enum has no code of its own, and neither has a domain that is only read.
_COLUMNS = """
WITH RECURSIVE plain AS (
  SELECT oid FROM pg_roles WHERE NOT rolsuper AND rolname <> current_user),
coded AS (
  SELECT oid FROM pg_type WHERE typtype NOT IN ('e', 'd') AND typcategory <> 'A'
    AND typowner IN (SELECT oid FROM plain)
  UNION SELECT type FROM pg_cast k JOIN pg_proc f ON f.oid = k.castfunc
    CROSS JOIN unnest(ARRAY[k.castsource, k.casttarget]) type
    WHERE f.proowner IN (SELECT oid FROM plain)
  UNION SELECT type FROM pg_operator o JOIN pg_proc f ON f.oid = o.oprcode
    CROSS JOIN unnest(ARRAY[o.oprleft, o.oprright]) type
    WHERE o.oprowner IN (SELECT oid FROM plain) OR f.proowner IN (SELECT oid FROM plain)),
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

Columns = Mapping[int, Collection[str]]


def columns(conn: Connection) -> dict[int, frozenset[str]]:
    """Return the columns of each relation that no query may compare: their types have such code."""
    rows = connection.rows(conn, _COLUMNS, into=tuple[int, list[str]])
    return {relation: frozenset(names) for relation, names in rows}


def compares(key: ForeignKey, coded: Columns) -> bool:
    """Whether a query that follows a foreign key would run code of another role."""
    ends = ((key.child, key.columns), (key.parent, key.to_columns))
    return any(set(names) & set(coded.get(table, ())) for table, names in ends)
