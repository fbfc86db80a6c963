"""Find code of plain roles that Alembic's statements on the version table would run.

Alembic makes a table without code. Its owner may add triggers, rules, defaults and checks, and any
role may make an operator that compares versions. They run with the rights of the session: if that
is a superuser's, a plain role gets them all.
"""

from __future__ import annotations

from sqlalchemy import Connection

from pgtasks.schema.trigger.detached import Session, resolved
from pgtasks.server.catalog import FOREIGN
from pgtasks.server.quoting import identifier

# of a session that may be a superuser's: SET ROLE can be undone by any code
_CODE = """
WITH RECURSIVE plain AS (SELECT oid FROM pg_roles WHERE NOT rolsuper),
tree (oid) AS (
  SELECT {table}::oid
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON t.oid = i.inhparent),
code (class, oid, relation, what) AS (
  SELECT 'pg_trigger'::regclass::oid, oid, tgrelid, 'trigger ' || tgname FROM pg_trigger
  UNION ALL SELECT 'pg_rewrite'::regclass, oid, ev_class, 'rule ' || rulename FROM pg_rewrite
  UNION ALL SELECT 'pg_policy'::regclass, oid, polrelid, 'policy ' || polname FROM pg_policy
  UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid, 'check ' || conname
    FROM pg_constraint WHERE contype = 'c'
  UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, adrelid, 'default of ' || attname
    FROM pg_attrdef d JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
  UNION ALL SELECT 'pg_class'::regclass, indexrelid, indrelid, 'index ' || relname
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid
    WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxrelid, 'statistics ' || stxname
    FROM pg_statistic_ext
  UNION ALL SELECT 'pg_class'::regclass, attrelid, attrelid, 'type of ' || attname FROM pg_attribute
    WHERE atttypid >= 16384
  UNION ALL SELECT 'pg_class'::regclass, oid, oid, 'kind ' || relkind::text FROM pg_class
    WHERE relkind NOT IN ('r', 'v'))
SELECT e.what, e.owner FROM (
  SELECT code.what, coalesce((SELECT rolname FROM pg_roles r
      WHERE NOT rolsuper AND r.oid = c.relowner), (SELECT rolname FROM pg_depend d
      JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
      JOIN pg_roles r ON r.oid = p.proowner AND NOT r.rolsuper
      WHERE d.classid = code.class AND d.objid = code.oid LIMIT 1), 'another role')::text AS owner
  FROM code JOIN tree ON tree.oid = code.relation JOIN pg_class c ON c.oid = tree.oid
  WHERE c.relowner IN (SELECT oid FROM plain) OR EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = code.class AND d.objid = code.oid AND {foreign})
  UNION ALL SELECT 'operator ' || oprname, pg_get_userbyid(oprowner)::text FROM pg_operator
  WHERE oprname = '=' AND oprowner IN (SELECT oid FROM plain)
    AND oprleft < 16384 AND oprright < 16384) e
WHERE EXISTS (SELECT FROM pg_roles WHERE rolsuper AND rolname IN (current_user, session_user))
ORDER BY 1, 2
"""


def objection(connection: Connection, table: str, schema: str | None) -> str:
    """Return why a superuser must not use the version table, an empty text if it may."""
    name = ".".join(identifier(each) for each in (schema, table) if each)
    session = Session(connection)
    (oid,) = resolved(session, [name])
    query = _CODE.replace("{table}", str(oid or 0)).replace("{foreign}", FOREIGN)
    with session.pinned(local=False):
        rows = session.rows(query)
    if not rows:
        return ""
    what, owner = rows[0]
    return (
        f"version table {name} would run {what!r} of {owner!r}, who is no superuser, with the"
        " rights of this superuser: connect as the owner of the database"
    )
