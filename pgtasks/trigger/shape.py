"""Normal forms: what two pieces of SQL must have in common to be the same definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgtasks.connection import Connection
from pgtasks.trigger import installed
from pgtasks.trigger.expected import expression_text

_TIMINGS = {0: "AFTER", 2: "BEFORE", 64: "INSTEAD OF"}  # TRIGGER_TYPE_... in pg_trigger.h
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}


def trigger_shape(definition: Any) -> dict[str, Any]:
    """Return the parts of a CREATE TRIGGER, given as text or as its parse tree.

    Table and function are left out: names mean something only in the database.
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


def same_expression(conn: Connection, ours: str, theirs: str, *, table: int | None = None) -> bool:
    """Return whether two expressions are the same to the server.

    The server stores `a IN (1, 2)` as `a = ANY (ARRAY[1, 2])`, with casts where it needs them.
    Where the texts differ, both are planned by it and what comes out is compared.
    """
    if ours == theirs:
        return True
    if not ours or not theirs:
        return False
    found = installed.explained(conn, theirs, table)
    if found is not None:
        return bool(found == installed.explained(conn, ours, table))
    return bool(_without_casts(ours) == _without_casts(theirs))


def same_defaults(conn: Connection, ours: Sequence[tuple[str, str]], theirs: str) -> bool:
    """Return whether default values, each with its type, are those that the catalog prints."""
    texts = [expression_text(value) for value in _values(theirs)] if theirs else []
    return len(texts) == len(ours) and all(
        same_expression(conn, f"CAST({mine} AS {type_})", f"CAST({text} AS {type_})")
        for (mine, type_), text in zip(ours, texts, strict=True)
    )


def _without_casts(expression: str) -> Any:
    return _stripped(_values(expression)[0](skip_none=True))


def _values(expressions: str) -> list[Any]:
    import pglast

    selected: Any = pglast.parse_sql(f"SELECT {expressions}")[0].stmt
    return [target.val for target in selected.targetList]


def _stripped(tree: Any) -> Any:
    if isinstance(tree, dict):
        if tree.get("@") == "TypeCast":
            return _stripped(tree["arg"])
        return {key: _stripped(value) for key, value in tree.items() if "location" not in key}
    if isinstance(tree, tuple):
        return [_stripped(value) for value in tree]
    return tree
