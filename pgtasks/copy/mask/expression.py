"""Check the expressions of a project's own rules: one expression, of the row, the same each time.

PostgreSQL's own parser reads the text; the server says which functions may answer differently, and
looks up all names when it prepares a query with the expression. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from psycopg2 import sql

from pgtasks.copy.mask.columns import Column
from pgtasks.copy.part import expressions
from pgtasks.copy.part.expressions import Function, Names
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


class Fault(Exception):
    """Report what is wrong with an expression."""


def written(text: str, column: Column) -> str:
    """Return an expression with the name of the column in place of {column}."""
    return text.replace(COLUMN, f"{identifier(column.table)}.{identifier(column.name)}")


def names(text: str) -> Names:
    """Return the names in an expression, raising Fault if it is more than one, or no expression."""
    from postgast import pg_query_pb2 as pb
    from postgast import walk

    tree = _tree(text)
    for _, node in walk(tree):
        if isinstance(node, pb.RangeVar):
            raise Fault(f"it reads table {parser.relation(node)}, a mask reads its own row only")
        if isinstance(node, (pb.SQLValueFunction, pb.ParamRef)):
            raise Fault("it has another value in each session")
    return expressions.names(tree)


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


def is_itself(text: str, column: Column) -> bool:
    """Return whether an expression is only the name of the column."""
    from postgast import pg_query_pb2 as pb

    tree = _tree(text)
    return isinstance(tree, pb.ColumnRef) and expressions.column(tree) == column.name


def refuse_changing(conn: Connection, used: Iterable[Names]) -> dict[tuple[str, str], str]:
    """Return the functions that a mask must not call, each with the reason."""
    reasons = {
        (each.schema, each.name): _reason(each) for each in expressions.looked_up(conn, used)
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(function: Function) -> str:
    own, name = function.schema == "pg_catalog", str(function)
    if not function.number:
        where = ", functions of other schemas are written with their schema" if own else ""
        return f"function {name} does not exist{where}"
    if own and name in _OF_THE_SESSION:
        return f"{name}() has another value in each session"
    if function.owner:
        return (
            f"{name}() is or runs code of role {function.owner!r}, with the rights of a superuser: "
            "let a reader of the environment copy (`reader`)"
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
