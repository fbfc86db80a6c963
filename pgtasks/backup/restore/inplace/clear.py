"""Drop what is the role's own in the live database, in the open transaction.

CASCADE reaches the role's own objects alone: nothing of others depends on them when this begins,
and what is of others is counted before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from psycopg2 import sql

from pgtasks import report
from pgtasks.backup.restore.inplace import standing as live
from pgtasks.backup.restore.inplace.standing import Object, Standing
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.connection import Connection

# the words of DROP by the kind that pg_identify_object says, in the order in which they go
_WORDS = {
    "event trigger": "EVENT TRIGGER",
    "publication": "PUBLICATION",
    "extension": "EXTENSION",
    "view": "VIEW",
    "materialized view": "MATERIALIZED VIEW",
    "foreign table": "FOREIGN TABLE",
    "table": "TABLE",
    "sequence": "SEQUENCE",
    "statistics object": "STATISTICS",
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "operator class": "OPERATOR CLASS",
    "operator family": "OPERATOR FAMILY",
    "operator": "OPERATOR",
    "text search configuration": "TEXT SEARCH CONFIGURATION",
    "text search dictionary": "TEXT SEARCH DICTIONARY",
    "conversion": "CONVERSION",
    "composite type": "TYPE",
    "type": "TYPE",
    "collation": "COLLATION",
    "server": "SERVER",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "language": "LANGUAGE",
}
_ORDER = {kind: number for number, kind in enumerate(_WORDS)}
_ONE_BY_ONE = ("EVENT TRIGGER", "OPERATOR CLASS", "OPERATOR FAMILY", "CONVERSION", "LANGUAGE")
_TOGETHER = 100  # names in one statement
_UNLINK = (
    "SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata WHERE pg_has_role(lomowner, 'USAGE')"
)
_DEFAULTS = """
SELECT pg_get_userbyid(a.defaclrole), coalesce(n.nspname, ''), a.defaclobjtype::text,
  ARRAY(SELECT DISTINCT CASE WHEN g.grantee = 0 THEN '' ELSE pg_get_userbyid(g.grantee)::text END
    FROM aclexplode(a.defaclacl) g)
FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
WHERE pg_has_role(a.defaclrole, 'USAGE') ORDER BY a.oid
"""
_DEFAULT_KINDS = {
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}
_PUBLIC_BY_DEFAULT = ("f", "T")
_PUBLIC = """
SELECT pg_get_userbyid(n.nspowner), pg_has_role(n.nspowner, 'USAGE'),
  ARRAY(SELECT DISTINCT CASE WHEN g.grantee = 0 THEN '' ELSE pg_get_userbyid(g.grantee)::text END
    FROM aclexplode(n.nspacl) g WHERE g.grantee <> n.nspowner)
FROM pg_namespace n WHERE n.nspname = 'public'
"""
_USAGE_ALONE = 150000  # since then PUBLIC may not create in schema public


def clear(conn: Connection, standing: Standing) -> set[tuple[int, int]]:
    """Drop what is the role's own, raising Failed if something of others would go with it.

    Returns the columns of tables of others, for `untouched`.
    """
    before, columns = live.others(conn), live.columns_of_others(conn)
    connection.execute(conn, "SET LOCAL client_min_messages = warning")
    for drop in _drops(standing.own):
        connection.execute(conn, drop)
    if standing.large[0]:
        connection.execute(conn, _UNLINK)
    for default in _without_defaults(conn):
        connection.execute(conn, default)
    for name in standing.dropped_schemas:
        statement = sql.SQL("DROP SCHEMA IF EXISTS {}").format(sql.Identifier(name))
        connection.execute(conn, statement)
    for granted in _public_as_new(conn):
        connection.execute(conn, granted)
    if lost := before - live.others(conn):
        number = report.plural(len(lost), "object")
        raise Failed(f"{number} of other roles would have been dropped, nothing was changed")
    if gone := columns - live.columns_of_others(conn):
        number = report.plural(len(gone), "column")
        raise Failed(
            f"{number} of tables of other roles would have been dropped, nothing was changed"
        )
    return columns


def untouched(conn: Connection, columns: set[tuple[int, int]]) -> None:
    """Raise Failed if tables of others, or columns of them, went since `clear`.

    Code of the backup can give up the role of the transaction for that of the login.
    """
    if gone := {table for table, _ in columns - live.columns_of_others(conn)}:
        number = report.plural(len(gone), "table")
        raise Failed(
            f"{number} of other roles went during the load, by code of the backup or by somebody "
            "else: nothing was changed"
        )


def unknown(standing: Standing) -> Iterator[str]:
    """Yield the kinds of what is the role's own and cannot be dropped here."""
    for kind in sorted({each.kind for each in standing.own} - _WORDS.keys()):
        yield next(each.identity for each in standing.own if each.kind == kind)


def _drops(own: Iterable[Object]) -> Iterator[str]:
    ordered = sorted(own, key=lambda each: _ORDER[each.kind])
    for words, group in groupby(ordered, key=lambda each: _WORDS[each.kind]):
        names = [each.identity for each in group]
        size = 1 if words in _ONE_BY_ONE else _TOGETHER
        for start in range(0, len(names), size):
            yield _drop(words, names[start : start + size])


def _drop(words: str, names: Sequence[str]) -> str:
    return f"DROP {words} IF EXISTS {', '.join(names)} CASCADE"


def _without_defaults(conn: Connection) -> Iterator[sql.Composed]:
    """Yield what makes default privileges those of the server again."""
    rows = connection.rows(conn, _DEFAULTS, into=tuple[str, str, str, list[str]])
    for role, schema, letter, grantees in rows:
        kind = sql.SQL(_DEFAULT_KINDS[letter])
        place = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(sql.Identifier(role))
        if schema:
            place += sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema))
        for grantee in grantees:
            yield place + sql.SQL(" REVOKE ALL ON {} FROM {}").format(kind, _role(grantee))
        if not schema:
            yield place + sql.SQL(" GRANT ALL ON {} TO {}").format(kind, sql.Identifier(role))
            if letter in _PUBLIC_BY_DEFAULT:
                yield place + sql.SQL(" GRANT ALL ON {} TO PUBLIC").format(kind)


def _public_as_new(conn: Connection) -> Iterator[sql.Composable]:
    """Yield what makes schema public that of a new database, as far as the role may."""
    rows = connection.rows(conn, _PUBLIC, into=tuple[str, bool, list[str]])
    if not rows:
        yield sql.SQL("CREATE SCHEMA public")
        return
    ((owner, own, grantees),) = rows
    if not own:
        return
    for grantee in grantees:
        revoke = sql.SQL("REVOKE ALL ON SCHEMA public FROM {} CASCADE")
        yield revoke.format(_role(grantee))
    yield sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(owner))
    what = "USAGE" if conn.server_version >= _USAGE_ALONE else "ALL"
    yield sql.SQL(f"GRANT {what} ON SCHEMA public TO PUBLIC")
    yield sql.SQL("COMMENT ON SCHEMA public IS 'standard public schema'")


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")
