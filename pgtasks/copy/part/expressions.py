"""The names that an expression uses, and the functions and operators behind them.

An expression of a person (a mask, or the condition of --where) runs with the rights of the session,
which may be a superuser's: not with a function that a plain role can replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgtasks.server import connection
from pgtasks.server.connection import Connection

if TYPE_CHECKING:
    from google.protobuf.message import Message

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

    def __str__(self) -> str:
        return self.name if self.schema == "pg_catalog" else f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Names:
    """The functions, operators and types of an expression, with schema, and its columns.

    A column `*` is a whole row.
    """

    functions: tuple[tuple[str, str], ...]
    operators: tuple[tuple[str, str], ...]
    types: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]


def names(tree: Message) -> Names:
    """Return the names in an expression."""
    from postgast import pg_query_pb2 as pb
    from postgast import walk

    functions: list[tuple[str, str]] = []
    operators: list[tuple[str, str]] = []
    types: list[tuple[str, str]] = []
    columns: list[str] = []
    for _, node in walk(tree):
        if isinstance(node, pb.FuncCall):
            functions.append(_named(node.funcname))
        if isinstance(node, pb.A_Expr):
            operators.append(_named(node.name))
        if isinstance(node, pb.SubLink) and node.oper_name:  # x = ANY (SELECT ...)
            operators.append(_named(node.oper_name))
        if isinstance(node, pb.SortBy) and node.use_op:
            operators.append(_named(node.use_op))
        if isinstance(node, pb.TypeName):  # of a cast, or of what a function returns
            types.append(_named(node.names))
        if isinstance(node, pb.ColumnRef):
            columns.append(column(node))
    return Names(tuple(functions), tuple(operators), tuple(types), tuple(columns))


def _named(nodes: Sequence[Any]) -> tuple[str, str]:
    parts = [node.string.sval for node in nodes]
    return (parts[-2] if len(parts) > 1 else "pg_catalog", parts[-1])


def column(node: Any) -> str:
    """Return the name of a column that is referred to, `*` for a whole row."""
    last = node.fields[-1]
    return last.string.sval if last.HasField("string") else "*"


def looked_up(conn: Connection, used: Iterable[Names]) -> Iterator[Function]:
    """Yield what the server knows of the functions and operators that expressions use."""
    every = list(used)
    for query, names in (
        (_FUNCTIONS, {name for each in every for name in each.functions}),
        (_OPERATORS, {name for each in every for name in each.operators}),
    ):
        if names:
            schemas, own = zip(*sorted(names), strict=True)
            yield from connection.rows(conn, query, (list(schemas), list(own)), into=Function)
