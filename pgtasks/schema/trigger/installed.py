"""Read the functions and triggers of a database from its catalog.

The session has the role's own search_path, as the files use it. Names are looked up with it; all
other queries run within `connection.pinned`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.records import Record

_OF_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass"
    " AND d.objid = {oid} AND d.deptype = 'e')"
)
# the end of a comment, which may have a gigabyte
_COMMENT = "coalesce(right(obj_description({}, '{}'), 200), '')"


@dataclass(frozen=True)
class InstalledFunction:
    """A row of pg_proc. `arguments` are (mode, name, oid of the type).

    `identity` is its name in SQL, `comment` the end of its comment.
    """

    oid: int
    identity: str
    definition: str
    comment: str
    language: str
    body: str
    atomic: bool
    returns: int
    returns_set: bool
    procedure: bool
    arguments: tuple[tuple[str, str, int], ...]
    defaults: str
    options: dict[str, str]
    settings: dict[str, str]


@dataclass(frozen=True)
class InstalledTrigger:
    """A row of pg_trigger. `table` is quoted, with its schema.

    `extension` is the one that the trigger or its table belongs to. `clones` is the number of
    partitions that inherit the trigger, `unlike` are those in which it is enabled otherwise.
    `comment` is the end of its comment.
    """

    oid: int
    name: str
    table_oid: int
    table: str
    function: int
    definition: str
    enabled: str
    constraint: bool
    extension: str
    clones: int
    unlike: tuple[str, ...]
    comment: str

    @property
    def text(self) -> str:
        """Return the definition with its state."""
        return f"{self.definition} {self.enabled}"


def function_oids(conn: Connection, signatures: Sequence[str]) -> list[int | None]:
    """Return the OID of each signature, None if there is no such function."""
    return _oids(conn, "to_regprocedure", signatures)


def table_oids(conn: Connection, names: Sequence[str]) -> list[int | None]:
    """Return the OID of each table name, None if there is no such table."""
    return _oids(conn, "to_regclass", names)


def table_oid(conn: Connection, name: str) -> int | None:
    """Return the OID of a table, None if there is none, also for what is not a name."""
    try:
        return table_oids(conn, [name])[0]
    except Failed:
        return None


def type_oids(conn: Connection, names: Sequence[str]) -> list[int | None]:
    """Return the OID of each type name, None if there is no such type."""
    return _oids(conn, "to_regtype", names)


def _oids(conn: Connection, lookup: str, names: Sequence[str]) -> list[int | None]:
    rows = connection.rows(
        conn,
        f"SELECT pg_catalog.{lookup}(name)::pg_catalog.oid"
        " FROM pg_catalog.unnest(%s::pg_catalog.text[]) WITH ORDINALITY AS n (name, number)"
        " ORDER BY number",
        (list(names),),
        into=tuple[int | None],
    )
    return [oid for (oid,) in rows]


def functions(conn: Connection, oids: Sequence[int]) -> dict[int, InstalledFunction]:
    """Return the functions with these OIDs."""
    rows = _pinned_rows(
        conn,
        "SELECT p.oid, format('%%I.%%I(%%s)', n.nspname, p.proname,"
        " pg_get_function_identity_arguments(p.oid)) AS identity,"
        " CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE '' END"
        f" AS definition, {_COMMENT.format('p.oid', 'pg_proc')} AS comment,"
        " l.lanname AS language, p.prosrc AS body,"
        " p.prosqlbody IS NOT NULL AS atomic, p.prorettype AS returns,"
        " p.proretset AS returns_set, p.prokind = 'p' AS procedure,"
        " coalesce(p.proargmodes::text[], '{}') AS modes, coalesce(p.proargnames, '{}') AS names,"
        " coalesce(p.proallargtypes::bigint[],"
        "  string_to_array(p.proargtypes::text, ' ')::bigint[]) AS types,"
        " coalesce(pg_get_expr(p.proargdefaults, 0), '') AS defaults,"
        " p.provolatile::text AS volatility, p.proparallel::text AS parallel,"
        " p.proisstrict AS strict, p.prosecdef AS definer, p.proleakproof AS leakproof,"
        " coalesce(p.proconfig, '{}') AS config"
        " FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"
        " JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY (%s::oid[])",
        (list(oids),),
        into=_Row,
    )
    return {row.oid: _function(row) for row in rows}


@dataclass(frozen=True)
class _Row:
    """A row of pg_proc as it is read: modes and names are empty where all are the usual ones."""

    oid: int
    identity: str
    definition: str
    comment: str
    language: str
    body: str
    atomic: bool
    returns: int
    returns_set: bool
    procedure: bool
    modes: tuple[str, ...]
    names: tuple[str, ...]
    types: tuple[int, ...]
    defaults: str
    volatility: str
    parallel: str
    strict: bool
    definer: bool
    leakproof: bool
    config: tuple[str, ...]


def _function(row: _Row) -> InstalledFunction:
    modes = row.modes or ["i"] * len(row.types)
    names = row.names or [""] * len(row.types)
    settings = (setting.partition("=") for setting in row.config)
    return InstalledFunction(
        oid=row.oid,
        identity=row.identity,
        definition=row.definition,
        comment=row.comment,
        language=row.language,
        body=row.body,
        atomic=row.atomic,
        returns=row.returns,
        returns_set=row.returns_set,
        procedure=row.procedure,
        arguments=tuple(zip(modes, names, row.types, strict=True)),
        defaults=row.defaults,
        options={
            "volatility": row.volatility,
            "parallel": row.parallel,
            "strict": str(row.strict).lower(),
            "security definer": str(row.definer).lower(),
            "leakproof": str(row.leakproof).lower(),
        },
        settings={name.lower(): value for name, _, value in settings},
    )


_TRIGGERS = f"""
WITH RECURSIVE clones AS (
    SELECT t.oid, t.oid AS root, t.tgenabled, NULL::oid AS partition
    FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT t.oid, c.root, t.tgenabled, t.tgrelid
    FROM clones c JOIN pg_trigger t ON t.tgparentid = c.oid
), inherited AS (
    SELECT c.root, count(c.partition)::int AS clones,
        array_agg(format('%I.%I', n.nspname, r.relname) ORDER BY n.nspname, r.relname)
            FILTER (WHERE c.tgenabled <> t.tgenabled) AS unlike
    FROM clones c JOIN pg_trigger t ON t.oid = c.root JOIN pg_class r ON r.oid = c.partition
        JOIN pg_namespace n ON n.oid = r.relnamespace
    GROUP BY c.root
)
SELECT t.oid, t.tgname AS name, c.oid AS table_oid,
    format('%I.%I', n.nspname, c.relname) AS table, t.tgfoid AS function,
    pg_get_triggerdef(t.oid) AS definition, t.tgenabled::text AS enabled,
    t.tgconstraint <> 0 AS constraint, coalesce((
        SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
            AND (d.classid, d.objid) IN (('pg_trigger'::regclass, t.oid),
                ('pg_class'::regclass, c.oid))
        LIMIT 1), '') AS extension,
    coalesce(i.clones, 0) AS clones, coalesce(i.unlike, '{{}}') AS unlike,
    {_COMMENT.format("t.oid", "pg_trigger")} AS comment
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN inherited i ON i.root = t.oid
WHERE {OWN_SCHEMA} AND """
_ORDER = " ORDER BY n.nspname, c.relname, t.tgname"


def triggers(conn: Connection) -> list[InstalledTrigger]:
    """Return all user triggers, without those that partitions inherit and those of extensions."""
    return [trigger for trigger in all_triggers(conn) if not trigger.extension]


def all_triggers(conn: Connection) -> list[InstalledTrigger]:
    """Return all triggers, without those that partitions inherit."""
    own = "NOT t.tgisinternal AND t.tgparentid = 0"
    return _pinned_rows(conn, _TRIGGERS + own + _ORDER, into=InstalledTrigger)


def inherited(conn: Connection) -> list[InstalledTrigger]:
    """Return the triggers that partitions inherit, and some internal ones."""
    return _pinned_rows(conn, _TRIGGERS + "t.tgparentid <> 0" + _ORDER, into=InstalledTrigger)


def comments(conn: Connection, catalog: str, oids: Sequence[int]) -> dict[int, str]:
    """Return the comments of objects in a catalog, by OID."""
    query = (
        "SELECT o.oid, obj_description(o.oid, %s) FROM unnest(%s::oid[]) AS o (oid)"
        " WHERE obj_description(o.oid, %s) IS NOT NULL"
    )
    rows = _pinned_rows(conn, query, (catalog, list(oids), catalog), into=tuple[int, str])
    return dict(rows)


def definitions(conn: Connection) -> dict[tuple[str, str], str]:
    """Return the definition of every user function and trigger, by kind and name."""
    rows = _pinned_rows(
        conn,
        "SELECT p.oid, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        f" WHERE p.prokind IN ('f', 'p') AND {OWN_SCHEMA}"
        f" AND NOT {_OF_EXTENSION.format(catalog='pg_proc', oid='p.oid')}",
        into=tuple[int, str],
    )
    signatures = _signatures(conn, [oid for oid, _ in rows])
    made = {("function", signatures[oid]): text for oid, text in rows}
    for trigger in triggers(conn):
        name = f"{trigger.name} on {trigger.table}"
        made[("trigger", name)] = f"{trigger.definition} {trigger.enabled}"
    return made


def _signatures(conn: Connection, oids: Sequence[int]) -> dict[int, str]:
    """Return the functions' names as the session's search_path shortens them."""
    rows = connection.rows(
        conn,
        "SELECT oid, oid::pg_catalog.regprocedure::pg_catalog.text"
        " FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS o (oid)",
        (list(oids),),
        into=tuple[int, str],
    )
    return dict(rows)


def _pinned_rows(
    conn: Connection, query: str, parameters: tuple[Any, ...] | None = None, *, into: type[Record]
) -> list[Record]:
    with connection.pinned(conn):
        return connection.rows(conn, query, parameters, into=into)


def spelled_trigger(conn: Connection, oid: int) -> str:
    """Return the definition of a trigger, with names as the search_path shortens them."""
    query = "SELECT pg_catalog.pg_get_triggerdef(%s::pg_catalog.oid)"
    return connection.value(conn, query, (oid,), into=str)


def spelled_defaults(conn: Connection, function: int) -> str:
    """Return the default values of a function, with names as the search_path shortens them."""
    query = (
        "SELECT pg_catalog.pg_get_expr(p.proargdefaults, 0) FROM pg_catalog.pg_proc p"
        " WHERE p.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid"
    )
    return str(connection.value(conn, query, (function,)))
