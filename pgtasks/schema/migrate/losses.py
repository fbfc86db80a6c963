"""Find the tables, columns and rows that the SQL of a migration drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.server import parser
from pgtasks.server.quoting import quoted

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

# of no single table
_OF_ANY_ROWS = ("drops schema", "drops a table", "drops a column", "drops materialized")


@dataclass(frozen=True)
class Loss:
    """An object that is dropped. `table` is set if rows of it lose data, `rows` is their number."""

    text: str
    table: str = ""
    rows: str = ""

    @property
    def of_rows(self) -> bool:
        """Whether rows lose data, or may, which no undo restores."""
        return (bool(self.table) and self.rows != "empty") or self.text.startswith(_OF_ANY_ROWS)

    def __str__(self) -> str:
        return f"{self.text} ({self.rows})" if self.rows else self.text


def losses(sql: str) -> tuple[Loss, ...]:
    """Return the objects that some SQL drops or empties."""
    try:
        statements = parser.parse(sql)
    except parser.SyntaxFault:
        return (Loss("what it drops cannot be told: PostgreSQL's parser does not know its SQL"),)
    return tuple(loss for statement in statements for loss in _losses_of(statement.node))


def _losses_of(node: Message | None) -> list[Loss]:
    from postgast import pg_query_pb2 as pb

    if node is None:
        return [Loss("what it drops cannot be told: its SQL is nested too deeply")]
    if isinstance(node, pb.DropStmt):
        return _dropped(node)
    if isinstance(node, pb.AlterTableStmt):
        return _columns(node)
    if isinstance(node, pb.TruncateStmt):
        tables = [parser.relation(each.range_var) for each in node.relations]
        return [Loss(f"empties table {table}", table) for table in tables]
    if isinstance(node, pb.DeleteStmt):
        table = parser.relation(node.relation)
        return [Loss(f"deletes from table {table}", table)]
    return []


def _dropped(node: pb.DropStmt) -> list[Loss]:
    from postgast import pg_query_pb2 as pb

    kind = pb.ObjectType.Name(node.remove_type).removeprefix("OBJECT_").replace("_", " ").lower()
    cascade = " cascade" if node.behavior == pb.DROP_CASCADE else ""
    return [
        Loss(f"drops {kind} {name}{cascade}", name if kind == "table" else "")
        for name in map(_name, node.objects)
    ]


def _columns(node: pb.AlterTableStmt) -> list[Loss]:
    from postgast import pg_query_pb2 as pb

    table = parser.relation(node.relation)
    commands = [each.alter_table_cmd for each in node.cmds]
    return [
        Loss(f"drops column {table}.{command.name}", table)
        for command in commands
        if command.subtype == pb.AT_DropColumn
    ]


def _name(node: pb.Node) -> str:
    """Return the name of an object of a DROP: a name, its parts, a type, a function."""
    if node.HasField("list"):
        return ".".join(map(_name, node.list.items))
    if node.HasField("object_with_args"):
        return parser.dotted(node.object_with_args.objname)
    if node.HasField("type_name"):
        return parser.type_text(node.type_name)
    return quoted(node.string.sval)
