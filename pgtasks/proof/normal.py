"""Expressions in one form: what one server prints in two ways, before and after a restore.

`varchar IN ('a', 'b')` is stored as `(ARRAY[...])::text[]`; loading what the server prints of it
stores `ARRAY[(...)::text, ...]` instead, and from then on it stays. Casts of a whole array are
moved to its elements here, in the parse tree, so that both are equal and nothing else becomes so.
"""

from __future__ import annotations

from typing import Any

_PLACES = ("location", "stmt_location", "stmt_len", "list_start", "list_end")
# an expression, a statement, a constraint, the body of a function
_WRAPS = ("SELECT {}", "{}", "ALTER TABLE x ADD {}", "CREATE FUNCTION f() RETURNS int {}")


def normal(text: str | None) -> str | None:
    """Return an expression or a definition in its one form."""
    if text is None or "ARRAY[" not in text:
        return text
    tree = _parsed(text)
    return text if tree is None else repr(_moved(tree))


def _parsed(text: str) -> Any:
    import json

    from pglast.parser import ParseError, parse_sql_json

    for wrap in _WRAPS:
        try:
            return _bare(json.loads(parse_sql_json(wrap.format(text)))["stmts"])
        except ParseError:
            continue
    return None  # syntax of a server newer than the parser: compared as it stands


def _bare(node: Any) -> Any:
    """Return the tree without the places of its parts in the text."""
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in sorted(node.items()) if key not in _PLACES}
    if isinstance(node, list):
        return [_bare(item) for item in node]
    return node


def _moved(node: Any) -> Any:
    """Return the tree with the casts of arrays moved to their elements."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _moved(value) for key, value in node.items()}
    cast = node.get("TypeCast")
    if cast and "A_ArrayExpr" in cast["arg"] and cast["typeName"].get("arrayBounds"):
        element = {key: v for key, v in cast["typeName"].items() if key != "arrayBounds"}
        elements = cast["arg"]["A_ArrayExpr"].get("elements", [])
        moved = [{"TypeCast": {"arg": item, "typeName": element}} for item in elements]
        return {"A_ArrayExpr": {"elements": moved}}
    return node
