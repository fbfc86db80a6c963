"""Bring the SQL that servers print of their objects into one form, whatever their version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pgtasks.server import parser

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PREFIX = re.compile(rb'(?:"(?:[^"]|"")*"|[^".\s]+)\.')  # the name of a table before a column
_NAMED = re.compile(rb'CONSTRAINT (?:"(?:[^"]|"")*_not_null"|[a-z0-9_]+_not_null) (?=NOT NULL)')
# A list of texts in a condition on a varchar; a server prints it in another way once it has read it
# in this form.
_VALUE = r"E?'(?:[^'\\]|''|\\.)*'::character varying"
_LIST = re.compile(rf"\(\(ARRAY\[({_VALUE}(?:, {_VALUE})*)\]\)::text\[\]\)", re.DOTALL)


def normalized(kind: str, definition: str) -> str:
    """Return a definition by pg_dump as PostgreSQL 16 or 17 prints it; `kind` is the entry's."""
    if kind in ("VIEW", "MATERIALIZED VIEW"):
        definition = unqualified(definition)
    elif kind == "TABLE":
        definition = unnamed(definition)
    if kind != "COMMENT" and (kind not in ("FUNCTION", "PROCEDURE") or _is_parsed(definition)):
        definition = _LIST.sub(_each_cast, definition)
    return definition


def _is_parsed(function: str) -> bool:
    """Return whether the server prints the body of a function, which is not a text then."""
    from postgast import pg_query_pb2 as pb

    node = _parsed(function)
    return isinstance(node, pb.CreateFunctionStmt) and node.HasField("sql_body")


def _each_cast(found: re.Match[str]) -> str:
    values = re.sub(_VALUE, lambda value: f"({value[0]})::text", found[1], flags=re.DOTALL)
    return f"(ARRAY[{values}])"


def unnamed(table: str) -> str:
    """Return a CREATE TABLE without the names that servers since 18 give to NOT NULL."""
    from postgast import pg_query_pb2 as pb

    node = _parsed(table)
    if not isinstance(node, pb.CreateStmt):
        return table
    columns = (each.column_def for each in node.table_elts if each.HasField("column_def"))
    constraints = (each.constraint for column in columns for each in column.constraints)
    places = [each.location for each in constraints if each.contype == pb.CONSTR_NOTNULL]
    return _without(table, places, _NAMED)


def unqualified(view: str) -> str:
    """Return a view of one table with the names of its columns alone, as servers since 16 print it.

    Older ones print them with the name of the table. A view of several tables is not changed.
    """
    from postgast import pg_query_pb2 as pb

    node = _parsed(view)
    if not isinstance(node, (pb.ViewStmt, pb.CreateTableAsStmt)):
        return view
    select = node.query.select_stmt
    if len(select.from_clause) != 1 or select.op != pb.SETOP_NONE:
        return view
    source = select.from_clause[0]
    if not source.HasField("range_var"):
        return view
    table = source.range_var.alias.aliasname or source.range_var.relname
    return _without(view, list(_qualified(select, table, _outputs(node))), _PREFIX)


def _outputs(view: Message) -> set[str]:
    """Return the names of the columns of a view that are not columns of that name of its table."""
    from postgast import pg_query_pb2 as pb

    assert isinstance(view, (pb.ViewStmt, pb.CreateTableAsStmt))
    targets = [each.res_target for each in view.query.select_stmt.target_list]
    renamed = view.aliases if isinstance(view, pb.ViewStmt) else view.into.col_names
    named = {each.name for each in targets if each.name and _column(each.val) != each.name}
    return {*named, *(each.string.sval for each in renamed)}


def _parsed(definition: str) -> Message | None:
    try:
        statements = parser.parse(definition)
    except (parser.SyntaxFault, ValueError):  # newer than the parser, or not UTF-8
        return None
    return statements[0].node if len(statements) == 1 else None


def _without(text: str, places: list[int], pattern: re.Pattern[bytes]) -> str:
    """Return a text without what a pattern matches at some places, in bytes."""
    data = text.encode()
    for place in sorted(places, reverse=True):
        if found := pattern.match(data, place):
            data = data[:place] + data[found.end() :]
    return data.decode()


def _qualified(node: Message, table: str, outputs: set[str]) -> Iterator[int]:
    """Yield the places of columns with the name of the table, outside of inner queries.

    A column that is sorted by, or distinct, keeps it if a column of the view has the same name:
    that one would be meant without it.
    """
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.ColumnRef):
        if _is_column_of(node, table):
            yield node.location
        return
    if isinstance(node, pb.SubLink):
        if node.HasField("testexpr"):
            yield from _qualified(node.testexpr, table, outputs)
        return
    is_query = isinstance(node, pb.SelectStmt)
    for field, value in node.ListFields():
        if field.name == "with_clause":
            continue
        by_output = is_query and field.name in ("sort_clause", "distinct_clause")
        for each in value if isinstance(value, Sequence) else (value,):
            if isinstance(each, Message) and not (by_output and _column(each) in outputs):
                yield from _qualified(each, table, outputs)


def _is_column_of(reference: Message, table: str) -> bool:
    """Return whether it is `table.column`; `table.*` is the row."""
    from postgast import pg_query_pb2 as pb

    assert isinstance(reference, pb.ColumnRef)
    fields = reference.fields
    return len(fields) == 2 and fields[0].string.sval == table and fields[1].HasField("string")


def _column(clause: Message) -> str | None:
    """Return the name of a column if a clause, of ORDER BY for example, is nothing else."""
    from postgast import pg_query_pb2 as pb

    assert isinstance(clause, pb.Node)
    node = clause.sort_by.node if clause.HasField("sort_by") else clause
    fields = node.column_ref.fields
    return fields[-1].string.sval if fields else None
