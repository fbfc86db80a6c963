"""Normal forms, to compare two definitions in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pgtasks.schema.trigger import installed
from pgtasks.schema.trigger.expression import Expressions
from pgtasks.schema.trigger.installed import InstalledFunction, InstalledTrigger
from pgtasks.server import parser
from pgtasks.server.connection import Connection

_TIMINGS = {0: "AFTER", 2: "BEFORE", 64: "INSTEAD OF"}  # TRIGGER_TYPE_... in pg_trigger.h
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}


def trigger_shape(definition: str) -> dict[str, Any]:
    """Return the parts of a CREATE TRIGGER.

    It leaves out table and function, because only the database can resolve their names.
    """
    from postgast import pg_query_pb2 as pb

    node = parser.statement(definition)
    assert isinstance(node, pb.CreateTrigStmt)
    transitions = [each.trigger_transition for each in node.transition_rels]
    return {
        "timing": _TIMINGS.get(node.timing, node.timing),
        "events": [name for bit, name in _EVENTS.items() if node.events & bit],
        "columns": sorted(part.string.sval for part in node.columns),
        "level": "row" if node.row else "statement",
        "arguments": [part.string.sval for part in node.args],
        "transition tables": sorted((each.name, each.is_new) for each in transitions),
        "constraint": (node.isconstraint, node.deferrable, node.initdeferred),
        "when": parser.condition(definition),
    }


def events(definition: str) -> str:
    """Return when a trigger fires: `before insert, update of a`; `...` if it is too deep."""
    try:
        shape = trigger_shape(definition)
    except parser.TooDeep:
        return "..."
    of = f" of {', '.join(shape['columns'])}" if shape["columns"] else ""
    names = [f"{each}{of if each == 'UPDATE' else ''}".lower() for each in shape["events"]]
    level = "" if shape["level"] == "row" else " (statement)"
    return f"{str(shape['timing']).lower()} {', '.join(names)}{level}"


def same_condition(
    conn: Connection, expressions: Expressions, ours: str, trigger: InstalledTrigger
) -> bool:
    """Return whether a trigger's condition is the one that the catalog prints."""
    theirs = parser.condition(trigger.definition)
    if not ours or not theirs:
        return ours == theirs
    return expressions.same(
        ours,
        theirs,
        spelled=lambda: parser.condition(installed.spelled_trigger(conn, trigger.oid)),
        table=trigger.table_oid,
    )


def same_defaults(
    conn: Connection,
    expressions: Expressions,
    ours: Sequence[tuple[str, str]],
    function: InstalledFunction,
) -> bool:
    """Return whether default values, each with its type, are those that the catalog prints."""
    theirs = parser.separated(function.defaults)
    if len(theirs) != len(ours):
        return False
    spelled = parser.separated(installed.spelled_defaults(conn, function.oid)) if theirs else []
    return all(
        expressions.same(
            f"CAST({mine} AS {type_})",
            f"CAST({text} AS {type_})",
            spelled=partial("CAST({} AS {})".format, along_path, type_),
            table=None,
        )
        for (mine, type_), text, along_path in zip(ours, theirs, spelled, strict=True)
    )
