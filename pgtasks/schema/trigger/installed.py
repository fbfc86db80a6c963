"""Read the functions and triggers of a database from its catalog.

The session has the role's own search_path, as the files use it. Names are looked up with it; all
other queries run within `connection.pinned`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.server import connection
from pgtasks.server.connection import Connection

# User objects: not of the system, not of an extension.
_OWN_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_OF_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass"
    " AND d.objid = {oid} AND d.deptype = 'e')"
)


@dataclass(frozen=True)
class InstalledFunction:
    """A row of pg_proc. `arguments` are (mode, name, oid of the type)."""

    oid: int
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
    """A row of pg_trigger. `table` is quoted, with its schema."""

    oid: int
    name: str
    table_oid: int
    table: str
    function: int
    definition: str
    enabled: str


def function_oids(conn: Connection, signatures: Sequence[str]) -> list[int | None]:
    """Return the OID of each signature, None if there is no such function."""
    return _oids(conn, "to_regprocedure", signatures)


def table_oids(conn: Connection, names: Sequence[str]) -> list[int | None]:
    """Return the OID of each table name, None if there is no such table."""
    return _oids(conn, "to_regclass", names)


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
    )
    return [row[0] for row in rows]


def functions(conn: Connection, oids: Sequence[int]) -> dict[int, InstalledFunction]:
    """Return the functions with these OIDs."""
    rows = _pinned_rows(
        conn,
        "SELECT p.oid, l.lanname, p.prosrc, p.prosqlbody IS NOT NULL, p.prorettype,"
        " p.proretset, p.prokind = 'p',"
        " coalesce(p.proargmodes::text[], '{}'), coalesce(p.proargnames, '{}'),"
        " coalesce(p.proallargtypes::oid[], string_to_array(p.proargtypes::text, ' ')::oid[]),"
        " coalesce(pg_get_expr(p.proargdefaults, 0), ''), p.provolatile::text,"
        " p.proparallel::text, p.proisstrict, p.prosecdef, p.proleakproof,"
        " coalesce(p.proconfig, '{}')"
        " FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = ANY (%s::oid[])",
        (list(oids),),
    )
    return {row[0]: _function(*row) for row in rows}


def _function(
    oid: int,
    language: str,
    body: str,
    atomic: bool,
    returns: int,
    returns_set: bool,
    procedure: bool,
    modes: list[str],
    names: list[str],
    types: list[int],
    defaults: str,
    volatility: str,
    parallel: str,
    strict: bool,
    definer: bool,
    leakproof: bool,
    config: list[str],
) -> InstalledFunction:
    modes = modes or ["i"] * len(types)
    names = names or [""] * len(types)
    return InstalledFunction(
        oid=oid,
        language=language,
        body=body,
        atomic=atomic,
        returns=returns,
        returns_set=returns_set,
        procedure=procedure,
        arguments=tuple(zip(modes, names, map(int, types), strict=True)),
        defaults=defaults,
        options={
            "volatility": volatility,
            "parallel": parallel,
            "strict": str(strict).lower(),
            "security definer": str(definer).lower(),
            "leakproof": str(leakproof).lower(),
        },
        settings={name.lower(): value for name, _, value in (c.partition("=") for c in config)},
    )


def triggers(conn: Connection) -> list[InstalledTrigger]:
    """Return all user triggers, without those that partitions inherit."""
    rows = _pinned_rows(
        conn,
        "SELECT t.oid, t.tgname, c.oid, format('%I.%I', n.nspname, c.relname), t.tgfoid,"
        " pg_get_triggerdef(t.oid), t.tgenabled::text"
        " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {_OWN_SCHEMA}"
        f" AND NOT {_OF_EXTENSION.format(catalog='pg_trigger', oid='t.oid')}"
        f" AND NOT {_OF_EXTENSION.format(catalog='pg_class', oid='c.oid')}"
        " ORDER BY n.nspname, c.relname, t.tgname",
    )
    return [InstalledTrigger(*row) for row in rows]


def definitions(conn: Connection) -> dict[tuple[str, str], str]:
    """Return the definition of every user function and trigger, by kind and name."""
    rows = _pinned_rows(
        conn,
        "SELECT p.oid, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        f" WHERE p.prokind IN ('f', 'p') AND {_OWN_SCHEMA}"
        f" AND NOT {_OF_EXTENSION.format(catalog='pg_proc', oid='p.oid')}",
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
    )
    return dict(rows)


def _pinned_rows(
    conn: Connection, query: str, parameters: tuple[Any, ...] | None = None
) -> list[tuple[Any, ...]]:
    with connection.pinned(conn):
        return connection.rows(conn, query, parameters)


def spelled_trigger(conn: Connection, oid: int) -> str:
    """Return the definition of a trigger, with names as the search_path shortens them."""
    return str(
        connection.value(conn, "SELECT pg_catalog.pg_get_triggerdef(%s::pg_catalog.oid)", (oid,))
    )


def spelled_defaults(conn: Connection, function: int) -> str:
    """Return the default values of a function, with names as the search_path shortens them."""
    query = (
        "SELECT pg_catalog.pg_get_expr(p.proargdefaults, 0) FROM pg_catalog.pg_proc p"
        " WHERE p.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid"
    )
    return str(connection.value(conn, query, (function,)))
