"""Check the files before they are applied, as far as the server would not say it with a line."""

from __future__ import annotations

from collections.abc import Iterator

from pgtasks.errors import Failed
from pgtasks.schema.trigger import installed
from pgtasks.schema.trigger.expected import Expected, Function, Trigger
from pgtasks.server import connection
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
