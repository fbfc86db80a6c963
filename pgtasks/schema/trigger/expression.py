"""Compare two expressions as the server plans them, without evaluating either.

The planner evaluates constants: an IMMUTABLE function of a user, in the condition or in an index, a
policy or a view of the table, would run with the rights of this session. So only names of
pg_catalog are planned, and never on the table itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_NAMES = {
    "FuncCall": "funcname",
    "A_Expr": "name",
    "TypeName": "names",
    "CollateClause": "collname",
}
_PLANNED = {
    *_NAMES,
    *("SelectStmt", "ResTarget", "ColumnRef", "A_Star", "A_Const", "TypeCast", "NamedArgExpr"),
    *("BoolExpr", "NullTest", "BooleanTest", "CoalesceExpr", "MinMaxExpr", "CaseExpr", "CaseWhen"),
    *("RowExpr", "A_ArrayExpr", "A_Indirection", "A_Indices", "SQLValueFunction"),
    *("String", "Integer", "Float", "Boolean", "BitString"),
}
# Columns of the server's own types; columns of user-defined types are left out.
_COLUMNS = """
WITH RECURSIVE columns (number, name, type, modifier) AS (
    SELECT attnum, attname, atttypid, atttypmod FROM pg_attribute
    WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT c.number, c.name, t.typbasetype, t.typtypmod
    FROM columns c JOIN pg_type t ON t.oid = c.type WHERE t.typtype = 'd'
)
SELECT c.name, format_type(c.type, c.modifier) FROM columns c JOIN pg_type t ON t.oid = c.type
WHERE t.typtype <> 'd' AND t.oid < 16384 AND t.typnamespace = 'pg_catalog'::regnamespace
ORDER BY c.number
"""


def same(conn: Connection, ours: str, theirs: str, *, spelled: str, table: int | None) -> bool:
    """Return whether two expressions are the same to the server.

    The server stores `a IN (1, 2)` as `a = ANY (ARRAY[1, 2])`, with casts as needed. Expressions
    without user-defined names are planned and compared; of others the texts, without casts.
    `spelled` is `theirs` with the names as the session's search_path shortens them.
    """
    if not (_of_the_system(ours) and _of_the_system(theirs)):
        return _plain(ours) in (_plain(theirs), _plain(spelled))
    with connection.pinned(conn):
        their_plan = _explained(conn, theirs, table)
        mine = _explained(conn, ours, table)
    if their_plan is None or mine is None:
        return _plain(ours) in (_plain(theirs), _plain(spelled))
    return bool(their_plan == mine)


def values(expressions: str) -> list[Any]:
    """Return the parse trees of a list of expressions."""
    return [target.val for target in _selected(expressions).targetList]


def _selected(expressions: str) -> Any:
    import pglast

    return pglast.parse_sql(f"SELECT {expressions}")[0].stmt


def _of_the_system(expression: str) -> bool:
    """Whether every name in it belongs to pg_catalog, if only that is searched."""
    for node in _nodes(_selected(f"({expression})")(skip_none=True)):
        name = node.get(_NAMES.get(node["@"], ""), ())
        if node["@"] not in _PLANNED or (len(name) > 1 and name[0]["sval"] != "pg_catalog"):
            return False
    return True


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "@" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, tuple):
        for value in tree:
            yield from _nodes(value)


def _explained(conn: Connection, expression: str, table: int | None) -> Any:
    """Return an expression as the server's planner prints it, None if it cannot be planned.

    The rows old and new replace the table, whose indexes and policies would be planned too.
    """
    from psycopg2 import sql

    query = sql.SQL("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT (") + sql.SQL(expression)
    query += sql.SQL(")")
    columns = []
    if table is not None:
        columns = connection.rows(conn, _COLUMNS, (table,), into=tuple[str, str])
    if columns:
        row = sql.SQL(", ").join(
            sql.Identifier(name) + sql.SQL(f" {type_}") for name, type_ in columns
        )
        query += sql.SQL(
            " FROM pg_catalog.json_to_record('{{}}') AS old ({}),"
            " pg_catalog.json_to_record('{{}}') AS new ({})"
        ).format(row, row)
    try:
        plan = connection.value(conn, query)
    except Failed:
        return None
    return plan[0]["Plan"].get("Output")


def _plain(expression: str) -> Any:
    """Return the tree of an expression without casts, in the form that the server stores."""
    return _stripped(values(expression)[0](skip_none=True)) if expression else None


def _stripped(tree: Any) -> Any:
    if isinstance(tree, tuple):
        return [_stripped(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.get("@") == "TypeCast":
        return _stripped(tree["arg"])
    if tree.get("@") == "A_Const":  # -1 is stored as '-1'::integer
        return [str(value) for key, value in tree.get("val", {}).items() if key != "@"]
    if tree.get("@") == "A_Expr" and isinstance(tree["kind"], dict):
        return _stripped(_stored(tree, tree["kind"]["name"]))
    places = ("location", "list_start", "list_end")
    return {key: _stripped(value) for key, value in tree.items() if not key.endswith(places)}


def _stored(tree: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "AEXPR_IN" and len(tree["rexpr"]) == 1:
        return {**tree, "kind": "AEXPR_OP", "rexpr": tree["rexpr"][0]}
    if kind == "AEXPR_IN":
        elements = {"@": "A_ArrayExpr", "elements": tree["rexpr"]}
        every = tree["name"][-1]["sval"] != "="  # NOT IN
        return {**tree, "kind": "AEXPR_OP_ALL" if every else "AEXPR_OP_ANY", "rexpr": elements}
    if kind == "AEXPR_BETWEEN":
        ends = tuple(
            {**tree, "kind": "AEXPR_OP", "name": ({"@": "String", "sval": operator},), "rexpr": end}
            for operator, end in zip((">=", "<="), tree["rexpr"], strict=True)
        )
        both = {"#": "BoolExprType", "name": "AND_EXPR", "value": 0}
        return {"@": "BoolExpr", "boolop": both, "args": ends}
    return {**tree, "kind": "AEXPR_OP" if kind in ("AEXPR_LIKE", "AEXPR_ILIKE") else kind}
