"""Compare two expressions as the server plans them, without evaluating either.

The planner evaluates constants: an IMMUTABLE function of a user, in the condition or in an index, a
policy or a view of the table, would run with the rights of this session. So only names of
pg_catalog are planned, and never on the table itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgtasks.errors import Failed
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

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
    *("List", "String", "Integer", "Float", "Boolean", "BitString"),
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


class Expressions:
    """Compares expressions in a session; what was compared once is known.

    The server stores `a IN (1, 2)` as `a = ANY (ARRAY[1, 2])`, with casts as needed. Expressions
    without user-defined names are planned and compared; of others the trees, without casts.
    """

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._known: dict[tuple[str, str, int | None], bool] = {}

    def same(
        self, ours: str, theirs: str, *, spelled: Callable[[], str], table: int | None
    ) -> bool:
        """Return whether two expressions are the same to the server.

        `spelled` returns `theirs` with the names as the session's search_path shortens them.
        """
        for row in (None, table):
            if (ours, theirs, row) in self._known:
                return self._known[(ours, theirs, row)]
        try:
            mine, printed = (parser.expression(sql) for sql in (ours, theirs))
            row = table if _has_columns(mine) or _has_columns(printed) else None
            same = self._compared(ours, theirs, (mine, printed), spelled, row)
        except (parser.TooDeep, parser.SyntaxFault):
            row, same = table, False
        self._known[(ours, theirs, row)] = same
        return same

    def _compared(
        self,
        ours: str,
        theirs: str,
        trees: tuple[Message, Message],
        spelled: Callable[[], str],
        table: int | None,
    ) -> bool:
        mine, printed = trees
        if _tree(mine) == _tree(printed):
            return True
        if _of_the_system(mine) and _of_the_system(printed):
            planned = self._same_plan(ours, theirs, table)
            if planned is not None:
                return planned
        along_path = parser.expression(spelled())
        stored = [_tree(tree, stored=True) for tree in (printed, along_path)]
        return _tree(mine, stored=True) in stored

    def _same_plan(self, ours: str, theirs: str, table: int | None) -> bool | None:
        """Return whether the plans are the same, None if one cannot be planned."""
        with connection.pinned(self._conn):
            plans = [_explained(self._conn, sql, table) for sql in (ours, theirs)]
        return None if None in plans else bool(plans[0] == plans[1])


def _has_columns(expression: Message) -> bool:
    from postgast import walk

    return any(type(node).__name__ == "ColumnRef" for _, node in walk(expression))


def _of_the_system(expression: Message) -> bool:
    """Whether every name in it belongs to pg_catalog, if only that is searched."""
    from postgast import walk

    for _, node in walk(expression):
        kind = type(node).__name__
        name: Any = getattr(node, _NAMES.get(kind, ""), ())
        foreign = len(name) > 1 and name[0].string.sval != "pg_catalog"
        if kind not in _PLANNED or foreign:
            return False
    return True


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
        with _savepoint(conn):
            plans = connection.value(conn, query, into=list[dict[str, Any]])
    except Failed:
        return None
    return plans[0]["Plan"].get("Output")


@contextmanager
def _savepoint(conn: Connection) -> Iterator[None]:
    """Keep a transaction, if one is open, usable after an error in the block."""
    if conn.autocommit:
        yield
        return
    connection.execute(conn, "SAVEPOINT pgtasks_plan")
    try:
        yield
    except Failed:
        connection.execute(conn, "ROLLBACK TO SAVEPOINT pgtasks_plan")
        raise
    finally:
        connection.execute(conn, "RELEASE SAVEPOINT pgtasks_plan")


def _tree(node: Message, *, stored: bool = False) -> Any:
    """Return an expression as plain data to compare, without positions in the text.

    With `stored` it has no casts, and IN, LIKE and BETWEEN are in the form that the server stores.
    """
    from postgast import pg_query_pb2 as pb
    from postgast import unwrap_node

    node = unwrap_node(node)
    if stored and isinstance(node, pb.TypeCast):
        return _tree(node.arg, stored=True)
    if stored and isinstance(node, pb.A_Const):  # -1 is stored as '-1'::integer
        kind = node.WhichOneof("val")
        return [str(getattr(getattr(node, kind), kind))] if kind else []
    if stored and isinstance(node, pb.A_Expr):
        node = _stored(node)
    fields = {
        field.name: _value(value, stored=stored)
        for field, value in node.ListFields()
        if not field.name.endswith(("location", "list_start", "list_end"))
    }
    return type(node).__name__, fields


def _value(value: Any, *, stored: bool) -> Any:
    from google.protobuf.message import Message

    if isinstance(value, Message):
        return _tree(value, stored=stored)
    if isinstance(value, (str, int)):
        return value
    return [_value(each, stored=stored) for each in value]


def _stored(node: pb.A_Expr) -> pb.A_Expr | pb.BoolExpr:
    from postgast import pg_query_pb2 as pb

    if node.kind == pb.AEXPR_IN:
        values = node.rexpr.list.items
        if len(values) == 1:
            return _operation(node, pb.AEXPR_OP, right=values[0])
        every = node.name[-1].string.sval != "="  # NOT IN
        array = pb.Node(a_array_expr=pb.A_ArrayExpr(elements=values))
        return _operation(node, pb.AEXPR_OP_ALL if every else pb.AEXPR_OP_ANY, right=array)
    if node.kind == pb.AEXPR_BETWEEN:
        ends = [
            pb.Node(a_expr=_operation(node, pb.AEXPR_OP, right=end, operator=operator))
            for operator, end in zip((">=", "<="), node.rexpr.list.items, strict=True)
        ]
        return pb.BoolExpr(boolop=pb.AND_EXPR, args=ends)
    if node.kind in (pb.AEXPR_LIKE, pb.AEXPR_ILIKE):
        return _operation(node, pb.AEXPR_OP, right=node.rexpr)
    return node


def _operation(
    node: pb.A_Expr, kind: pb.A_Expr_Kind, *, right: pb.Node, operator: str = ""
) -> pb.A_Expr:
    """Return a copy of another kind, with another right operand."""
    from postgast import pg_query_pb2 as pb

    name = [pb.Node(string=pb.String(sval=operator))] if operator else node.name
    return pb.A_Expr(kind=kind, name=name, lexpr=node.lexpr, rexpr=right)
