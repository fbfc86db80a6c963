"""Check the expressions of a project's own rules: one expression, of the row, the same each time.

PostgreSQL's own parser reads the text; the server says which functions may answer differently, and
looks up all names when it prepares a query with the expression. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from pgtasks.copy.mask.columns import Column
from pgtasks.errors import Failed
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import identifier

if TYPE_CHECKING:
    from google.protobuf.message import Message

COLUMN = "{column}"  # in a rule for several columns: the column itself
# stable, and yet another one in each session or transaction: the proof reads in others
_OF_THE_SESSION = (
    *("now", "transaction_timestamp", "statement_timestamp", "pg_backend_pid", "age"),
    *("current_setting", "inet_client_port", "inet_client_addr", "txid_current_if_assigned"),
    *("pg_current_xact_id_if_assigned", "pg_current_snapshot", "txid_current_snapshot"),
)
_FUNCTIONS = """
SELECT w.schema, w.name, count(p.oid)::int AS number,
  coalesce(bool_or(p.provolatile = 'v'), false) AS volatile,
  coalesce(min(o.rolname) FILTER (WHERE NOT o.rolsuper AND u.rolsuper), '') AS owner
FROM unnest(%s::text[], %s::text[]) w(schema, name)
LEFT JOIN pg_namespace n ON n.nspname = w.schema
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = w.name
LEFT JOIN pg_roles o ON o.oid = p.proowner JOIN pg_roles u ON u.rolname = current_user
GROUP BY 1, 2 ORDER BY 1, 2
"""
_OPERATORS = """
SELECT w.schema, w.name, count(*)::int AS number,
  coalesce(bool_or(p.provolatile = 'v'), false) AS volatile,
  coalesce(min(r.rolname) FILTER (WHERE NOT r.rolsuper AND u.rolsuper), '') AS owner
FROM unnest(%s::text[], %s::text[]) w(schema, name)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_operator o ON o.oprnamespace = n.oid AND o.oprname = w.name
JOIN pg_proc p ON p.oid = o.oprcode JOIN pg_roles r ON r.oid = p.proowner
JOIN pg_roles u ON u.rolname = current_user GROUP BY 1, 2 ORDER BY 1, 2
"""


class Fault(Exception):
    """Report what is wrong with an expression."""


@dataclass(frozen=True)
class Function:
    """The functions or operators of one name: how many, and whether any of them is volatile.

    `owner` is a plain role that owns one, if the session is a superuser's: that role may write any
    code into it.
    """

    schema: str
    name: str
    number: int
    volatile: bool
    owner: str


@dataclass(frozen=True)
class Names:
    """The functions, operators and types of an expression, with schema, and its columns.

    A column `*` is a whole row.
    """

    functions: tuple[tuple[str, str], ...]
    operators: tuple[tuple[str, str], ...]
    types: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]


def written(text: str, column: Column) -> str:
    """Return an expression with the name of the column in place of {column}."""
    return text.replace(COLUMN, f"{identifier(column.table)}.{identifier(column.name)}")


def names(text: str) -> Names:
    """Return the names in an expression, raising Fault if it is more than one, or no expression."""
    from postgast import pg_query_pb2 as pb
    from postgast import walk

    tree = _tree(text)
    functions: list[tuple[str, str]] = []
    operators: list[tuple[str, str]] = []
    types: list[tuple[str, str]] = []
    columns: list[str] = []
    for _, node in walk(tree):
        if isinstance(node, pb.RangeVar):
            raise Fault(f"it reads table {parser.relation(node)}, a mask reads its own row only")
        if isinstance(node, (pb.SQLValueFunction, pb.ParamRef)):
            raise Fault("it has another value in each session")
        if isinstance(node, pb.FuncCall):
            functions.append(_named(node.funcname))
        if isinstance(node, pb.A_Expr):
            operators.append(_named(node.name))
        if isinstance(node, pb.TypeName):  # of a cast, or of what a function returns
            types.append(_named(node.names))
        if isinstance(node, pb.ColumnRef):
            columns.extend(_column(node))
    return Names(tuple(functions), tuple(operators), tuple(types), tuple(columns))


def _tree(text: str) -> Message:
    """Return the node of an expression, raising Fault."""
    try:
        if parser.has_comment(text):
            raise Fault("a comment does not belong into it")
        return parser.expression(text)
    except parser.SyntaxFault as exc:
        raise Fault(f"{exc}") from None
    except parser.TooDeep:
        raise Fault("it is nested too deeply") from None


def _named(nodes: Sequence[Any]) -> tuple[str, str]:
    parts = [node.string.sval for node in nodes]
    return (parts[-2] if len(parts) > 1 else "pg_catalog", parts[-1])


def _column(node: Any) -> Iterator[str]:
    last = node.fields[-1]
    if last.HasField("string"):
        yield last.string.sval
    else:
        yield "*"


def is_itself(text: str, column: Column) -> bool:
    """Return whether an expression is only the name of the column."""
    from postgast import pg_query_pb2 as pb

    tree = _tree(text)
    return isinstance(tree, pb.ColumnRef) and [*_column(tree)] == [column.name]


def refuse_changing(conn: Connection, used: Iterable[Names]) -> dict[tuple[str, str], str]:
    """Return the functions that a mask must not call, each with the reason."""
    every = list(used)
    functions = sorted({name for each in every for name in each.functions})
    operators = sorted({name for each in every for name in each.operators})
    faults: dict[tuple[str, str], str] = {}
    if functions:
        columns = ([schema for schema, _ in functions], [name for _, name in functions])
        for each in connection.rows(conn, _FUNCTIONS, columns, into=Function):
            if reason := _reason(each):
                faults[each.schema, each.name] = reason
    if operators:
        columns = ([schema for schema, _ in operators], [name for _, name in operators])
        for each in connection.rows(conn, _OPERATORS, columns, into=Function):
            if reason := _reason(each):
                faults[each.schema, each.name] = reason
    return faults


def _reason(function: Function) -> str:
    own = function.schema == "pg_catalog"
    name = function.name if own else f"{function.schema}.{function.name}"
    if not function.number:
        where = ", functions of other schemas are written with their schema" if own else ""
        return f"function {name} does not exist{where}"
    if own and name in _OF_THE_SESSION:
        return f"{name}() has another value in each session"
    if function.owner:
        return (
            f"{name}() belongs to role {function.owner!r}, whose code would run with the rights of "
            "a superuser: let a reader of the environment copy (`reader`)"
        )
    if function.volatile:
        return f"{name}() is volatile: it has another value each time"
    return ""


def prepare(conn: Connection, column: Column, expression: str) -> None:
    """Raise Fault if the server does not take an expression as a value of the column.

    In WHERE no aggregate and no function that returns rows is allowed: they would change the
    number of rows.
    """
    query = sql.SQL("PREPARE pgtasks_mask AS SELECT FROM ONLY {} WHERE {} IS NULL").format(
        sql.Identifier(column.schema, column.table), sql.SQL(expression)
    )
    connection.execute(conn, "SAVEPOINT mask")
    try:
        connection.execute(conn, query)
        connection.execute(conn, "DEALLOCATE pgtasks_mask")
    except Failed as exc:
        connection.execute(conn, "ROLLBACK TO mask")
        raise Fault(exc.message) from None
    connection.execute(conn, "RELEASE mask")
