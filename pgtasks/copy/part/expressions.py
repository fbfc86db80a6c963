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

# What runs with a function: its own code, and that of its defaults, of an aggregate's functions, of
# a body in SQL, and of the types of all these.
_LOOKED_UP = """
WITH RECURSIVE written AS (SELECT * FROM unnest(%s::text[], %s::text[]) w(schema, name)),
named AS ({named}),
reached (root, class, oid) AS (
  SELECT oid, 'pg_proc'::regclass::oid, oid FROM named WHERE oid <> 0
  UNION SELECT r.root, d.refclassid, d.refobjid FROM reached r
    JOIN pg_depend d ON d.classid = r.class AND d.objid = r.oid
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)),
owned AS (
  SELECT r.root, o.rolname FROM reached r LEFT JOIN pg_proc p ON p.oid = r.oid
    AND r.class = 'pg_proc'::regclass LEFT JOIN pg_type t ON t.oid = r.oid
    AND r.class = 'pg_type'::regclass AND t.typtype <> 'e' AND t.typelem = 0
  JOIN pg_roles o ON o.oid = coalesce(p.proowner, t.typowner) AND NOT o.rolsuper
  JOIN pg_roles u ON u.rolname = current_user AND u.rolsuper)
SELECT n.schema, n.name, count(DISTINCT n.oid)::int AS number,
  coalesce(bool_or(p.provolatile = 'v'), false) AS volatile, coalesce(min(o.rolname), '') AS owner
FROM named n LEFT JOIN pg_proc p ON p.oid = n.oid LEFT JOIN owned o ON o.root = n.oid
GROUP BY 1, 2 ORDER BY 1, 2
"""
_FUNCTIONS = _LOOKED_UP.replace(
    "{named}",
    "SELECT w.schema, w.name, p.oid FROM written w LEFT JOIN pg_namespace n ON n.nspname = w.schema"
    " LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = w.name",
)
_OPERATORS = _LOOKED_UP.replace(
    "{named}",
    "SELECT w.schema, w.name, o.oprcode::oid AS oid FROM written w"
    " JOIN pg_namespace n ON n.nspname = w.schema"
    " JOIN pg_operator o ON o.oprnamespace = n.oid AND o.oprname = w.name",
)


@dataclass(frozen=True)
class Function:
    """The functions or operators of one name: how many, and whether any of them is volatile.

    `owner` is a plain role whose code runs with one, if the session is a superuser's: that role may
    write anything into it.
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
