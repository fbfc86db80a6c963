"""Find the tables that a statement of a migration touches, as far as its text says.

Functions that it calls may touch others. For DO and CALL, every name in the text counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgtasks.server import parser

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

# placeholders of psycopg, which are not SQL; `%%` is a percent sign
_PLACEHOLDER = re.compile(r"%(?:\([^)]*\)s|s|%)")
# the cheapest look: all else only reads, or changes no table that exists
_RELEVANT = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|ALTER|TRIGGER|DO|CALL"
    r"|COMMIT|END|PREPARE|ROLLBACK|ABORT)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Touch:
    """What a statement does to a table.

    rows     it inserts or updates rows
    deletes  it deletes rows, which may delete rows of tables that reference it
    columns  it drops columns or changes their types, which triggers may name
    defines  it creates, drops, enables or renames triggers, or renames the table or a column
    names    its text may name tables: `table` is that text
    commits  it ends the transaction and keeps what it did; no table
    returns  it rolls the transaction back, or a part of it; no table
    """

    kind: str
    table: str


def touches(sql: str) -> list[Touch]:
    """Return what the statements of some SQL do to tables, in order."""
    if not _RELEVANT.search(sql):
        return []
    try:
        return [
            touch
            for each in _parsed(sql)
            for touch in (_touches(each.node) if each.node else [Touch("names", each.text)])
        ]
    except parser.SyntaxFault:  # the server will report it, or its dialect is newer than ours
        return [Touch("names", sql)]


def _parsed(sql: str) -> list[parser.Parsed]:
    plain = _PLACEHOLDER.sub(lambda match: "%" if match[0] == "%%" else "NULL", sql)
    try:
        return parser.parse(plain)
    except parser.SyntaxFault:
        return parser.parse(sql)


def _touches(node: Message) -> Iterator[Touch]:
    from postgast import pg_query_pb2 as pb
    from postgast import walk

    if isinstance(node, pb.TransactionStmt):
        yield from _ended(node)
    elif isinstance(node, pb.DoStmt | pb.CallStmt):
        yield Touch("names", str(node))
    elif isinstance(node, pb.AlterTableStmt):
        yield from _altered(node)
    elif isinstance(node, pb.CreateTrigStmt | pb.RenameStmt | pb.AlterObjectSchemaStmt):
        if node.HasField("relation"):
            yield Touch("defines", parser.relation(node.relation))
    elif isinstance(node, pb.DropStmt):
        if node.remove_type == pb.OBJECT_TRIGGER:
            yield from (
                Touch("defines", parser.dotted(list(item.list.items)[:-1])) for item in node.objects
            )
    elif isinstance(node, pb.TruncateStmt):
        yield from (Touch("deletes", parser.relation(each.range_var)) for each in node.relations)
    elif isinstance(node, pb.CopyStmt):
        if node.is_from and node.HasField("relation"):
            yield Touch("rows", parser.relation(node.relation))
    else:  # WITH may contain others
        yield from filter(None, (_changed(each) for _, each in walk(node)))


def _ended(node: pb.TransactionStmt) -> Iterator[Touch]:
    from postgast import pg_query_pb2 as pb

    if node.kind in (pb.TRANS_STMT_COMMIT, pb.TRANS_STMT_PREPARE):
        yield Touch("commits", "")
    elif node.kind in (pb.TRANS_STMT_ROLLBACK, pb.TRANS_STMT_ROLLBACK_TO):
        yield Touch("returns", "")


def _changed(node: Any) -> Touch | None:
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.InsertStmt | pb.UpdateStmt):
        return Touch("rows", parser.relation(node.relation))
    if isinstance(node, pb.DeleteStmt | pb.MergeStmt):
        return Touch("deletes", parser.relation(node.relation))
    return None


def _altered(node: pb.AlterTableStmt) -> Iterator[Touch]:
    from postgast import pg_query_pb2 as pb

    of_columns = {pb.AT_DropColumn, pb.AT_AlterColumnType, pb.AT_SetExpression}
    of_triggers = {
        *(pb.AT_EnableTrig, pb.AT_EnableAlwaysTrig, pb.AT_EnableReplicaTrig, pb.AT_DisableTrig),
        *(pb.AT_EnableTrigAll, pb.AT_DisableTrigAll, pb.AT_EnableTrigUser, pb.AT_DisableTrigUser),
        *(pb.AT_AttachPartition, pb.AT_DetachPartition),
    }
    commands = {each.alter_table_cmd.subtype for each in node.cmds}
    table = parser.relation(node.relation)
    if commands & of_triggers:
        yield Touch("defines", table)
    if commands & of_columns:
        yield Touch("columns", table)
