"""Check what is applied for faults that the server would report later, or without a line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.errors import Failed
from pgtasks.schema.trigger import installed
from pgtasks.schema.trigger.expected import Expected, Function, Trigger
from pgtasks.schema.trigger.normalize import trigger_shape
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection


def check_functions(conn: Connection, described: Expected) -> None:
    """Raise Failed, with file and line, for a trigger whose function does not exist.

    The function must return trigger, in a file or else in the database. Where a file has
    statements with an effect that is not known, the function may be theirs.
    """
    faults = _faults(conn, described)
    if fault := next(faults, ""):
        raise Failed(f"{fault}; nothing was changed")


def _faults(conn: Connection, described: Expected) -> Iterator[str]:
    triggers = list(described.triggers.values())
    oids = installed.function_oids(conn, [f"{each.function}()" for each in triggers])
    returning = _returning_trigger(conn, [oid for oid in oids if oid is not None])
    for trigger, oid in zip(triggers, oids, strict=True):
        in_files = _in_files(trigger, described)
        if in_files:
            right = any(function.returns == "trigger" for function in in_files)
        elif oid is None:
            if not described.unknown:
                yield (
                    f"{trigger.where}: trigger {trigger.shown} needs function"
                    f" {trigger.function}(), which neither a file nor the database has"
                )
            continue
        else:
            right = oid in returning
        if not right:
            yield (
                f"{trigger.where}: trigger {trigger.shown}: function {trigger.function}() does"
                " not return trigger"
            )


def _in_files(trigger: Trigger, described: Expected) -> list[Function]:
    """Return the functions of the files that may be a trigger's, whatever the search_path."""
    return [
        function
        for function in described.functions.values()
        if function.signature.endswith("()") and _same_name(function.name, trigger.function)
    ]


def _same_name(one: str, other: str) -> bool:
    """Whether two names may mean one object: a name without a schema may be in any."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")


def _returning_trigger(conn: Connection, oids: list[int]) -> set[int]:
    query = (
        "SELECT p.oid FROM pg_proc p WHERE p.oid = ANY (%s::oid[])"
        " AND p.prorettype = 'pg_catalog.trigger'::regtype"
    )
    with connection.pinned(conn):
        return {oid for (oid,) in connection.rows(conn, query, (oids,), into=tuple[int])}


@dataclass(frozen=True)
class _Finding:
    """A line of plpgsql_check; `lineno` counts from the beginning of the body."""

    lineno: int | None
    sqlstate: str | None
    message: str
    level: str


def check_bodies(
    conn: Connection, described: Expected, objects: Collection[tuple[str, str]]
) -> list[str]:
    """Check functions with plpgsql_check where it is installed, and return its warnings.

    Trigger functions are checked with each table that has them. Raises Failed for an error, with
    file and line.
    """
    if not (schema := _schema_of_plpgsql_check(conn)):
        return []
    warnings = []
    for function, table, transitions in _to_check(conn, described, objects):
        for finding in _findings(conn, schema, function.oid, table, transitions):
            where = _line(described, function.key, finding.lineno)
            text = f"{where}: {function.key[1]}: {finding.message}"
            if finding.level == "error":
                hint = (
                    "plpgsql_check says so; where it is wrong, PERFORM"
                    " plpgsql_check_pragma('disable:check') in the function silences it"
                )
                raise Failed(f"{text}; nothing was changed", hint=hint)
            warnings.append(f"{text} ({finding.level})")
    return list(dict.fromkeys(warnings))


def _schema_of_plpgsql_check(conn: Connection) -> str:
    query = (
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'plpgsql_check'"
    )
    with connection.pinned(conn):
        return connection.row(conn, query, into=str) or ""


@dataclass(frozen=True)
class _Function:
    key: tuple[str, str]
    oid: int


Transitions = tuple[str | None, str | None]  # the names of OLD TABLE and NEW TABLE


def _to_check(
    conn: Connection, described: Expected, objects: Collection[tuple[str, str]]
) -> Iterator[tuple[_Function, int, Transitions]]:
    """Yield the functions in PL/pgSQL that were applied, or whose triggers were, with a table."""
    plpgsql = [each for each in described.functions.values() if each.language == "plpgsql"]
    oids = installed.function_oids(conn, [each.signature for each in plpgsql])
    known = {
        oid: _Function((each.kind, each.signature), oid)
        for each, oid in zip(plpgsql, oids, strict=True)
        if oid is not None
    }
    applied = {oid for oid, each in known.items() if each.key in objects}
    wanted = list(described.triggers.values())
    tables = installed.table_oids(conn, [each.table for each in wanted])
    names = {
        (oid, each.name)
        for oid, each in zip(tables, wanted, strict=True)
        if ("trigger", each.shown) in objects
    }
    for each, oid in zip(plpgsql, oids, strict=True):
        if oid in applied and each.returns not in ("trigger", "event_trigger"):
            yield known[oid], 0, (None, None)
    for trigger in installed.triggers(conn):
        new = (trigger.table_oid, trigger.name) in names
        if trigger.function in known and (new or trigger.function in applied):
            yield known[trigger.function], trigger.table_oid, _transitions(trigger.definition)


def _transitions(definition: str) -> Transitions:
    try:
        tables = trigger_shape(definition)["transition tables"]
    except parser.TooDeep:
        return None, None
    by_kind = {is_new: name for name, is_new in tables}
    return by_kind.get(False), by_kind.get(True)


def _findings(
    conn: Connection, schema: str, function: int, table: int, transitions: Transitions
) -> list[_Finding]:
    query = sql.SQL(
        "SELECT lineno, sqlstate, message, level FROM {}.plpgsql_check_function_tb("
        "%s::oid::regprocedure, %s::oid::regclass, oldtable => %s, newtable => %s)"
    ).format(sql.Identifier(schema))
    with connection.pinned(conn):
        return connection.rows(conn, query, (function, table, *transitions), into=_Finding)


def _line(described: Expected, key: tuple[str, str], line: int | None) -> str:
    """Return file and line of a line in a function's body."""
    statement = next(step.statement for step in reversed(described.steps) if key in step.objects)
    body = described.functions[key[1]].body or ""
    start = statement.text.find(body)
    if line is None or start < 0:
        return statement.where
    first = statement.file.line_of(statement.start + start)
    return f"{statement.file.name}:{first + line - 1}"
