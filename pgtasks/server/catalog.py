"""Queries of the system catalogs: relations, privileges, extensions, locks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2.errors import InvalidRegularExpression

from pgtasks.errors import Failed, Refused
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

# Sessions of others, of those in pg_stat_activity. `own` is the end of the names of this process:
# one of its sessions may end on the server some time after it is closed here.
OTHERS = """usesysid IS NOT NULL AND NOT (starts_with(coalesce(application_name, ''), 'pgtasks ')
  AND right(application_name, length(%(own)s)) = %(own)s)"""

# User schemas, by the same rule as in pg_dump.
OWN_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_OF_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"
    " AND d.objid = c.oid AND d.deptype = 'e')"
)
# A user-defined cast to text would run instead of a built-in type's output function.
_OWN_CAST = (
    "EXISTS (SELECT FROM pg_attribute a JOIN pg_cast k ON k.castsource = a.atttypid"
    " WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid < 16384"
    " AND k.casttarget = 'text'::regtype AND k.castmethod = 'f' AND k.castfunc >= 16384"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass"
    " AND d.objid = k.oid AND d.deptype = 'e'))"
)


# A query of a table also plans its indexes, statistics and partition key, and thus runs the
# functions that they call, with the rights of the session.
FOREIGN = (
    "d.refobjid >= 16384 AND EXISTS (SELECT FROM pg_roles r WHERE NOT r.rolsuper"
    " AND r.rolname <> current_user AND r.oid = coalesce("
    "(SELECT proowner FROM pg_proc WHERE oid = d.refobjid"
    " AND d.refclassid = 'pg_proc'::regclass),"
    " (SELECT oprowner FROM pg_operator WHERE oid = d.refobjid"
    " AND d.refclassid = 'pg_operator'::regclass),"
    " (SELECT typowner FROM pg_type WHERE oid = d.refobjid"
    " AND d.refclassid = 'pg_type'::regclass)))"
)
# One list for all relations: its plan is what takes time, and a query of each kind needs three.
_FOREIGN_CODE = (
    "c.oid IN (SELECT o.relation FROM ("
    "SELECT indrelid AS relation, 'pg_class'::regclass::oid AS class, indexrelid AS oid"
    " FROM pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL"
    " UNION ALL SELECT partrelid, 'pg_class'::regclass, partrelid"
    " FROM pg_partitioned_table WHERE partexprs IS NOT NULL"
    " UNION ALL SELECT stxrelid, 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext) o"
    f" JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid WHERE {FOREIGN})"
)


# Types whose values are equal only if their texts are equal. They are hashed directly, without the
# conversion to text, which is a third of a proof's work. Others are not: numeric and jsonb (1.0 =
# 1.00), float (-0 = 0), enum (its hash is that of an OID), interval (24 h = 1 d).
PLAIN_TYPES = (
    *("int2", "int4", "int8", "oid", "bool", "uuid"),
    *("date", "time", "timestamp", "timestamptz", "bytea"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A user-defined table, sequence, materialized view or foreign table.

    `kind` is pg_class.relkind, `version` changes with each ALTER, `filenode` is the name of its
    file in the snapshot. `columns` are sorted by name (byte order): `plain` are those of
    PLAIN_TYPES, `padded` those of character(n), `typed` those of other than built-in types, and of
    xml, whose cast to text has the declaration that its output leaves out; `stored` and `virtual`
    are the generated ones. `bytes` is an estimate; `foreign_code` means that a query would run code
    of another role. For a table of an `extension`, pg_dump saves the rows selected by `condition`
    (a WHERE clause, or empty for all), none if it is None. `expressions` are read in place of
    columns.
    """

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    version: str
    filenode: int
    bytes: int
    own_cast: bool
    foreign_code: bool
    extension: str
    condition: str | None
    columns: tuple[str, ...]
    plain: frozenset[str] = frozenset()
    padded: frozenset[str] = frozenset()
    typed: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    virtual: frozenset[str] = frozenset()
    expressions: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def dumped(self) -> bool:
        """Whether pg_dump saves its rows; of an extension, only those that it requests."""
        return not self.extension or self.condition is not None

    def sized(self, bytes: int | None) -> Relation:
        """Return the relation with a better estimate of its size."""
        return self if bytes is None else replace(self, bytes=bytes)

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


def relations(conn: Connection, kinds: str = "rSmf", *, named: str = "") -> list[Relation]:
    """Return the user's own relations of some kinds, or of one name, in the transaction's snapshot.

    It locks no relation and reads no size, because both would wait for an ALTER.
    """
    rows = connection.rows(
        conn,
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.xmin::text,"
        " c.relfilenode::bigint, c.relpages::bigint * current_setting('block_size')::bigint,"
        f" {_OWN_CAST}, {_FOREIGN_CODE}, coalesce(e.extname, ''), {_CONDITION}, {_COLUMNS}"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" {_EXTENSION}"
        f" WHERE c.relkind = ANY (%(kinds)s) AND c.relpersistence <> 't' AND {OWN_SCHEMA}"
        f"{' AND c.relname = %(named)s' if named else ''}"
        ' ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"',
        {"kinds": list(kinds), "plain": list(PLAIN_TYPES), "named": named},
    )
    return [Relation(*row[:-1], **_sorts(row[-1] or ())) for row in rows]


# a letter for the type, one for how it is generated, the name
_COLUMNS = (
    "CASE WHEN c.relkind = 'r' THEN (SELECT array_agg("
    "CASE WHEN a.atttypid = ANY (%(plain)s::regtype[]) THEN 'p'"
    " WHEN a.atttypid = 'bpchar'::regtype THEN 'b'"
    " WHEN a.atttypid >= 16384 OR a.atttypid = 'xml'::regtype THEN 't' ELSE '-' END"
    " || CASE WHEN a.attgenerated = '' THEN '-' ELSE a.attgenerated::text END || a.attname"
    ' ORDER BY a.attname COLLATE "C") FROM pg_attribute a WHERE a.attrelid = c.oid'
    " AND a.attnum > 0 AND NOT a.attisdropped) END"
)
_EXTENSION = (
    "LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.objsubid = 0 AND d.deptype = 'e' LEFT JOIN pg_extension e ON e.oid = d.refobjid"
)
_CONDITION = "e.extcondition[array_position(e.extconfig, c.oid)]"


def _sorts(columns: Sequence[str]) -> dict[str, Any]:
    def marked(place: int, letter: str) -> frozenset[str]:
        return frozenset(column[2:] for column in columns if column[place] == letter)

    return {
        "columns": tuple(column[2:] for column in columns),
        "plain": marked(0, "p"),
        "padded": marked(0, "b"),
        "typed": marked(0, "t"),
        "stored": marked(1, "s"),
        "virtual": marked(1, "v"),
    }


def sizes(conn: Connection) -> dict[int, int]:
    """Return the bytes of the user tables with their TOAST tables, without their indexes.

    Waits for tables that are locked exclusively: set lock_timeout.
    """
    rows = connection.rows(
        conn,
        "SELECT c.oid, pg_table_size(c.oid) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {OWN_SCHEMA}",
        into=tuple[int, int | None],
    )
    return {oid: size for oid, size in rows if size is not None}


def unreadable(conn: Connection) -> list[str]:
    """Return one line for each object that pg_dump reads but the role may not.

    One such table makes pg_dump fail, even if its data is left out, because pg_dump locks it.
    """
    rows = connection.rows(
        conn,
        "SELECT c.relkind = 'S', n.nspname, c.relname,"
        " has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'"
        f" AND {OWN_SCHEMA} AND NOT {_OF_EXTENSION}"
        " AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
        " AND NOT row_security_active(c.oid))"
        ' ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"',
        into=tuple[bool, str, str, bool, bool],
    )
    lines = []
    for is_sequence, schema, name, usage, select in rows:
        kind = "sequence" if is_sequence else "table"
        why = "row level security hides rows of it from this role"
        if not select:
            why = "no SELECT"
        if not usage:
            why = f"no USAGE on schema {quoted(schema)}"
        lines.append(f"{kind} {qualified(schema, name)}: {why}")
    return lines + _unreadable_large_objects(conn)


def _unreadable_large_objects(conn: Connection) -> list[str]:
    number = connection.value(
        conn,
        "SELECT count(*) FROM pg_largeobject_metadata m WHERE NOT ("
        " current_setting('lo_compat_privileges')::bool OR pg_has_role(m.lomowner, 'USAGE')"
        " OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        " OR EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'"
        "  AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))))",
        into=int,
    )
    return [f"{number} large objects: no SELECT"] if number else []


def without_data(conn: Connection, patterns: Iterable[str]) -> dict[str, list[int]]:
    """Return the OIDs of relations with rows that match a pattern of --exclude-table-data."""
    return matching(conn, patterns, kinds="rSf")


def matching(conn: Connection, patterns: Iterable[str], *, kinds: str) -> dict[str, list[int]]:
    """Return the OIDs of the relations of some kinds that match each of psql's patterns.

    A name without a schema is looked up with the role's own search_path. Others may have created
    operators there, so every name is qualified.
    """
    regexes = {pattern: pattern_regexes(pattern) for pattern in patterns}
    everywhere = all(schema for schema, _ in regexes.values())
    path = connection.PATH if everywhere else connection.own_path(conn)
    with connection.searching(conn, path):
        return {pattern: _named(conn, pattern, regex, kinds) for pattern, regex in regexes.items()}


def _named(conn: Connection, pattern: str, regex: tuple[str, str], kinds: str) -> list[int]:
    with named(pattern.removeprefix("*.")):
        return _matching(conn, *regex, kinds)


@contextmanager
def named(pattern: str) -> Iterator[None]:
    """Name one of psql's patterns in the server's error about it, raising Refused."""
    try:
        yield
    except Failed as exc:
        if not isinstance(exc.__context__, InvalidRegularExpression):
            raise
        way = "a name that has such characters belongs in double quotes"
        raise Refused(f"{pattern!r}: {exc.message}: {way}") from None


def _matching(conn: Connection, schema: str, name: str, kinds: str) -> list[int]:
    where = "n.nspname OPERATOR(pg_catalog.~) %s" if schema else "%s::pg_catalog.text IS NULL"
    visible = "" if schema else " AND pg_catalog.pg_table_is_visible(c.oid)"
    return connection.rows(
        conn,
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
        ' WHERE c.relkind OPERATOR(pg_catalog.=) ANY (%s::pg_catalog."char"[])'
        f" AND {where}{visible} AND c.relname OPERATOR(pg_catalog.~) %s",
        (list(kinds), schema or None, name),
        into=int,
    )


def pattern_regexes(pattern: str) -> tuple[str, str]:
    """Return the regular expressions for schema (or nothing) and name of one of psql's patterns.

    See "Patterns" in psql's manual page: outside double quotes letters are folded, `*` and `?`
    are wildcards and a dot parts schema and name; of a third part the first is the database.
    """
    parts, quotes = [""], False
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == '"':
            if quotes and pattern[position + 1 : position + 2] == '"':
                parts[-1] += '"'
                position += 1
            else:
                quotes = not quotes
        elif letter == "." and not quotes:
            parts.append("")
        else:
            parts[-1] += _regex_of(letter, quotes=quotes)
        position += 1
    schema = f"^({parts[-2]})$" if len(parts) > 1 else ""
    return schema, f"^({parts[-1]})$"


def _regex_of(letter: str, *, quotes: bool) -> str:
    if quotes:
        return f"\\{letter}" if letter in r"|*+?()[]{}.^$\\" else letter
    if letter == "$":
        return "\\$"
    return {"*": ".*", "?": "."}.get(letter, letter.lower())


def number_of_tables(conn: Connection) -> int:
    """Return the number of user tables, including partitioned ones."""
    return connection.value(
        conn,
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OWN_SCHEMA}",
        into=int,
    )


def lock_room(conn: Connection) -> int:
    """Return the size of the server's lock table, for all sessions."""
    return connection.value(
        conn,
        "SELECT current_setting('max_locks_per_transaction')::bigint"
        " * (current_setting('max_connections')::bigint"
        " + current_setting('max_prepared_transactions')::bigint)",
        into=int,
    )


def invalid_indexes(conn: Connection) -> list[str]:
    """Return the invalid indexes, except those that a session is building."""
    names = connection.rows(
        conn,
        "SELECT n.nspname, x.relname FROM pg_catalog.pg_index i"
        " JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace"
        f" WHERE NOT i.indisvalid AND x.relkind = 'i' AND {OWN_SCHEMA} AND NOT EXISTS ("
        " SELECT FROM pg_catalog.pg_stat_progress_create_index p"
        " WHERE p.relid = i.indrelid) ORDER BY 1, 2",
        into=tuple[str, str],
    )
    return [qualified(*name) for name in names]


def extensions(conn: Connection) -> dict[str, str]:
    """Return the installed extensions and their versions."""
    query = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
    return dict(connection.rows(conn, query, into=tuple[str, str]))
