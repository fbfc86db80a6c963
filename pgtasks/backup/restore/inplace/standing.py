"""What stands in the live database: what is the role's own and goes, and what is of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks import report
from pgtasks.server import connection
from pgtasks.server.connection import Connection

# catalogs whose rows have an owner: name, column of the owner, condition
_OWNED = (
    ("pg_class", "relowner", "relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'"),
    ("pg_proc", "proowner", "true"),
    # without the types of tables, of temporary ones, of arrays and of multiranges
    (
        "pg_type",
        "typowner",
        "typtype <> 'm' AND typcategory <> 'A' AND (typrelid = 0 OR EXISTS"
        " (SELECT FROM pg_class c WHERE c.oid = typrelid AND c.relkind = 'c'))",
    ),
    ("pg_operator", "oprowner", "true"),
    ("pg_opclass", "opcowner", "true"),
    ("pg_opfamily", "opfowner", "true"),
    ("pg_collation", "collowner", "true"),
    ("pg_conversion", "conowner", "true"),
    ("pg_statistic_ext", "stxowner", "true"),
    ("pg_ts_config", "cfgowner", "true"),
    ("pg_ts_dict", "dictowner", "true"),
    ("pg_foreign_data_wrapper", "fdwowner", "true"),
    ("pg_foreign_server", "srvowner", "true"),
    ("pg_event_trigger", "evtowner", "true"),
    ("pg_publication", "pubowner", "true"),
    ("pg_language", "lanowner", "true"),
    ("pg_extension", "extowner", "true"),
)
# what belongs to the owner of something else: catalog, catalog and column of that, its owner
_PARTS = (
    ("pg_class", "pg_class", "oid", "relowner", "x.relkind IN ('i', 'I')"),
    ("pg_constraint", "pg_class", "conrelid", "relowner", "true"),
    ("pg_constraint", "pg_type", "contypid", "typowner", "true"),
    ("pg_rewrite", "pg_class", "ev_class", "relowner", "x.rulename <> '_RETURN'"),
    ("pg_trigger", "pg_class", "tgrelid", "relowner", "NOT x.tgisinternal"),
    ("pg_policy", "pg_class", "polrelid", "relowner", "true"),
    ("pg_attrdef", "pg_class", "adrelid", "relowner", "true"),
    ("pg_publication_rel", "pg_publication", "prpubid", "pubowner", "true"),
    ("pg_transform", "pg_type", "trftype", "typowner", "true"),
)
# a cast belongs to the owner of one of its types
_CASTS = """
SELECT 'pg_cast'::regclass::oid, x.oid,
  CASE WHEN pg_has_role(s.typowner, 'USAGE') THEN s.typowner ELSE t.typowner END
FROM pg_cast x JOIN pg_type s ON s.oid = x.castsource JOIN pg_type t ON t.oid = x.casttarget
"""
_FIRST = 16384  # the first OID of what was created after initdb


def _objects() -> str:
    owned = [
        f"SELECT '{catalog}'::regclass::oid AS class, x.oid, x.{owner} AS owner FROM {catalog} x"
        f" WHERE x.oid >= {_FIRST} AND {condition}"
        for catalog, owner, condition in _OWNED
    ]
    return " UNION ALL ".join(owned)


def _parts() -> str:
    parts = [
        f"SELECT '{catalog}'::regclass::oid, x.oid, o.{owner} FROM {catalog} x"
        f" JOIN {above} o ON o.oid = x.{column} WHERE x.oid >= {_FIRST} AND {condition}"
        for catalog, above, column, owner, condition in _PARTS
    ]
    return " UNION ALL ".join([*parts, f"{_CASTS} WHERE x.oid >= {_FIRST}"])


# An extension of the role's own goes if the role can create it again.
_KNOWN = f"""
WITH RECURSIVE mine AS MATERIALIZED (
  SELECT oid FROM pg_roles WHERE pg_has_role(oid, 'USAGE')),
objects AS MATERIALIZED (SELECT * FROM ({_objects()}) o),
parts AS MATERIALIZED (SELECT * FROM ({_parts()}) p(class, oid, owner)),
members AS MATERIALIZED (
  SELECT d.classid AS class, d.objid AS oid, d.refobjid AS extension FROM pg_depend d
  WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass),
roots AS MATERIALIZED (
  SELECT o.class, o.oid FROM objects o
  WHERE o.owner IN (TABLE mine)
  AND NOT EXISTS (SELECT FROM members m WHERE m.class = o.class AND m.oid = o.oid)
  AND (o.class <> 'pg_extension'::regclass OR EXISTS (SELECT FROM pg_extension e
    JOIN pg_available_extension_versions v ON v.name = e.extname
    WHERE e.oid = o.oid AND (v.trusted OR NOT v.superuser)))),
gone(class, oid) AS (
  SELECT class, oid FROM roots UNION SELECT x.class, x.oid FROM gone g CROSS JOIN LATERAL (
    SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.refclassid = g.class AND d.refobjid = g.oid
    UNION ALL SELECT d.refclassid, d.refobjid FROM pg_depend d
    WHERE d.classid = g.class AND d.objid = g.oid AND d.deptype IN ('i', 'e')) x(class, oid)),
others AS (
  SELECT * FROM (SELECT * FROM objects UNION ALL SELECT * FROM parts) a
  WHERE NOT EXISTS (SELECT FROM mine m WHERE m.oid = a.owner)
  AND NOT EXISTS (SELECT FROM members m WHERE m.class = a.class AND m.oid = a.oid)
  -- the constructors of a range type belong to the bootstrap superuser, whoever made the type
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = a.class AND d.objid = a.oid AND d.deptype = 'i'
    -- a partitioned table depends on its own columns in this way
    AND (d.refclassid, d.refobjid) <> (a.class, a.oid)))
"""
_OWN = (
    _KNOWN + "SELECT i.type, coalesce(i.schema, ''), i.identity, r.oid::bigint FROM roots r"
    " CROSS JOIN LATERAL pg_identify_object(r.class, r.oid, 0) i"
    " WHERE coalesce(i.schema, '') !~ '^pg_' ORDER BY i.type, i.identity"
)
_DEPENDENT = (
    _KNOWN + "SELECT pg_describe_object(o.class, o.oid, 0), pg_get_userbyid(o.owner)"
    " FROM others o JOIN gone g ON g.class = o.class AND g.oid = o.oid"
    # rows of a table of others are in a partition of it, or a child, that would go
    " UNION ALL SELECT pg_describe_object(o.class, o.oid, 0) || ', with rows in '"
    "   || i.inhrelid::regclass, pg_get_userbyid(o.owner)"
    " FROM others o JOIN pg_inherits i ON i.inhparent = o.oid JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE o.class = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'f')"
    " AND EXISTS (SELECT FROM mine m WHERE m.oid = c.relowner)"
    # only its own role sees the options of a user mapping: no backup of another has them
    " UNION ALL SELECT format('user mapping for %I on server %I', u.usename, u.srvname), u.usename"
    " FROM pg_user_mappings u"
    " JOIN gone g ON g.class = 'pg_foreign_server'::regclass AND g.oid = u.srvid"
    " WHERE u.umuser <> 0 AND NOT EXISTS (SELECT FROM mine m WHERE m.oid = u.umuser)"
    " ORDER BY 1"
)
_OTHERS = _KNOWN + "SELECT o.class::bigint, o.oid::bigint FROM others o"
# a column goes with its type, and leaves its table
_COLUMNS = (
    _KNOWN + "SELECT a.attrelid::bigint, a.attnum::int"
    " FROM others o JOIN pg_attribute a ON a.attrelid = o.oid JOIN pg_class c ON c.oid = o.oid"
    " WHERE o.class = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    " AND a.attnum > 0 AND NOT a.attisdropped"
)
_RELATIONS = (
    _KNOWN + "SELECT count(*) FROM gone g"
    " WHERE g.class = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class c WHERE c.oid = g.oid)"
)
_SCHEMAS = """
SELECT n.nspname AS name, pg_has_role(n.nspowner, 'USAGE') AS own,
  pg_get_userbyid(n.nspowner) AS owner
FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""
_KEPT_SCHEMAS = (
    _KNOWN + "SELECT DISTINCT n.nspname FROM pg_namespace n JOIN pg_depend d"
    " ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid"
    " WHERE NOT EXISTS (SELECT FROM gone g WHERE g.class = d.classid AND g.oid = d.objid)"
    " AND d.deptype IN ('n', 'a') AND n.nspname !~ '^pg_'"
    " AND NOT EXISTS (SELECT FROM pg_default_acl a JOIN mine m ON m.oid = a.defaclrole"
    "   WHERE d.classid = 'pg_default_acl'::regclass AND a.oid = d.objid)"
)
_KEPT_EXTENSIONS = (
    _KNOWN + "SELECT e.extname, pg_get_userbyid(e.extowner) FROM pg_extension e"
    " WHERE NOT EXISTS (SELECT FROM roots r"
    "   WHERE r.class = 'pg_extension'::regclass AND r.oid = e.oid) ORDER BY 1"
)
_OF_EXTENSIONS = (
    _KNOWN + "SELECT n.nspname, c.relname FROM members m JOIN pg_class c ON c.oid = m.oid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE m.class = 'pg_class'::regclass"
    " AND NOT EXISTS (SELECT FROM roots r"
    "   WHERE r.class = 'pg_extension'::regclass AND r.oid = m.extension)"
)
_LARGE = (
    "SELECT count(*) FILTER (WHERE pg_has_role(lomowner, 'USAGE')),"
    " count(*) FILTER (WHERE NOT pg_has_role(lomowner, 'USAGE')) FROM pg_largeobject_metadata"
)


@dataclass(frozen=True)
class Object:
    """An object by kind and identity, both as the server writes them."""

    kind: str
    schema: str
    identity: str
    oid: int


@dataclass(frozen=True)
class Schema:
    """A schema; `own` is one that the role may act as the owner of."""

    name: str
    own: bool
    owner: str


@dataclass(frozen=True)
class Standing:
    """What stands in the live database, as the role of the transaction sees it.

    `own` is what it drops; `dependent` are objects of others that would go with it, with their
    owners; `kept` are schemas with something of others in them, `extensions` those that stay, with
    their owners, and `of_extensions` their relations. `large` are the numbers of large objects, its
    own and those of others; `relations` is the number of those that it locks.
    """

    own: tuple[Object, ...]
    dependent: tuple[tuple[str, str], ...]
    schemas: tuple[Schema, ...]
    kept: frozenset[str]
    extensions: tuple[tuple[str, str], ...]
    of_extensions: frozenset[tuple[str, str]]
    large: tuple[int, int]
    relations: int

    @property
    def tables(self) -> list[Object]:
        """Return the tables, which are locked."""
        return [each for each in self.own if each.kind == "table"]

    @property
    def dropped_schemas(self) -> list[str]:
        """Return the schemas that are empty when all of the role's own is gone."""
        return [
            each.name
            for each in self.schemas
            if each.own and each.name != "public" and each.name not in self.kept
        ]

    @property
    def remaining_schemas(self) -> dict[str, Schema]:
        """Return the schemas that stay, by name."""
        gone = set(self.dropped_schemas)
        return {each.name: each for each in self.schemas if each.name not in gone}

    @property
    def kinds(self) -> Counter[str]:
        """Return the number of objects that are dropped, by kind."""
        return Counter(each.kind for each in self.own)

    def counted(self) -> str:
        """Return what is dropped, by kind and number: `17 tables, 3 views`."""
        parts = [report.plural(number, kind) for kind, number in sorted(self.kinds.items())]
        if self.dropped_schemas:
            parts.append(report.plural(len(self.dropped_schemas), "schema"))
        if self.large[0]:
            parts.append(report.plural(self.large[0], "large object"))
        return ", ".join(parts) or "nothing"


def read(conn: Connection) -> Standing:
    """Read what stands in the database of a session, which has the role of the transaction."""
    own, others = connection.rows(conn, _LARGE, into=tuple[int, int])[0]
    return Standing(
        own=tuple(Object(*row) for row in connection.rows(conn, _OWN)),
        dependent=tuple(connection.rows(conn, _DEPENDENT, into=tuple[str, str])),
        schemas=tuple(connection.rows(conn, _SCHEMAS, into=Schema)),
        kept=frozenset(connection.rows(conn, _KEPT_SCHEMAS, into=str)),
        extensions=tuple(connection.rows(conn, _KEPT_EXTENSIONS, into=tuple[str, str])),
        of_extensions=frozenset(connection.rows(conn, _OF_EXTENSIONS, into=tuple[str, str])),
        large=(own, others),
        relations=connection.value(conn, _RELATIONS, into=int),
    )


def others(conn: Connection) -> set[tuple[int, int]]:
    """Return all that is of other roles, by catalog and OID."""
    return set(connection.rows(conn, _OTHERS, into=tuple[int, int]))


def columns_of_others(conn: Connection) -> set[tuple[int, int]]:
    """Return the columns of relations of other roles, by OID and number."""
    return set(connection.rows(conn, _COLUMNS, into=tuple[int, int]))


def of_others(conn: Connection) -> set[int]:
    """Return the OIDs of the relations of other roles."""
    query = "SELECT 'pg_class'::regclass::oid::bigint"
    relations = connection.value(conn, query, into=int)
    return {oid for kind, oid in others(conn) if kind == relations}


def kept_extensions(conn: Connection) -> list[str]:
    """Return the extensions that a role which only this session's may act as would keep."""
    rows: Sequence[tuple[str, str]] = connection.rows(conn, _KEPT_EXTENSIONS, into=tuple[str, str])
    return [name for name, _ in rows]
