"""Normal forms, to compare two definitions in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgtasks.schema.trigger import expression, installed
from pgtasks.schema.trigger.expected import expression_text
from pgtasks.schema.trigger.installed import InstalledFunction, InstalledTrigger
from pgtasks.server.connection import Connection

_TIMINGS = {0: "AFTER", 2: "BEFORE", 64: "INSTEAD OF"}  # TRIGGER_TYPE_... in pg_trigger.h
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}


def trigger_shape(definition: Any) -> dict[str, Any]:
    """Return the parts of a CREATE TRIGGER, given as text or as its parse tree.

    It leaves out table and function, because only the database can resolve their names.
    """
    node = _parsed(definition) if isinstance(definition, str) else definition
    events = [name for bit, name in _EVENTS.items() if node.events & bit]
    return {
        "timing": _TIMINGS.get(node.timing, node.timing),
        "events": events,
        "columns": sorted(part.sval for part in node.columns or ()),
        "level": "row" if node.row else "statement",
        "arguments": [part.sval for part in node.args or ()],
        "transition tables": sorted(
            (each.name, bool(each.isNew)) for each in node.transitionRels or ()
        ),
        "constraint": (bool(node.isconstraint), bool(node.deferrable), bool(node.initdeferred)),
        "when": expression_text(node.whenClause) if node.whenClause else "",
    }


def _parsed(definition: str) -> Any:
    import pglast

    return pglast.parse_sql(definition)[0].stmt


def same_condition(conn: Connection, ours: str, trigger: InstalledTrigger) -> bool:
    """Return whether a trigger's condition is the one that the catalog prints."""
    theirs = trigger_shape(trigger.definition)["when"]
    if ours == theirs:
        return True
    if not ours or not theirs:
        return False
    spelled = trigger_shape(installed.spelled_trigger(conn, trigger.oid))["when"]
    return expression.same(conn, ours, theirs, spelled=spelled, table=trigger.table_oid)


def same_defaults(
    conn: Connection, ours: Sequence[tuple[str, str]], function: InstalledFunction
) -> bool:
    """Return whether default values, each with its type, are those that the catalog prints."""
    theirs = _texts(function.defaults)
    if len(theirs) != len(ours):
        return False
    spelled = _texts(installed.spelled_defaults(conn, function.oid)) if theirs else []
    return all(
        mine == text
        or expression.same(
            conn,
            f"CAST({mine} AS {type_})",
            f"CAST({text} AS {type_})",
            spelled=f"CAST({along_path} AS {type_})",
            table=None,
        )
        for (mine, type_), text, along_path in zip(ours, theirs, spelled, strict=True)
    )


def _texts(expressions: str) -> list[str]:
    texts = expression.values(expressions) if expressions else []
    return [expression_text(value) for value in texts]
