"""Find the tables, columns and rows that the SQL of a migration drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    import pglast

    try:
        statements = [raw.stmt for raw in pglast.parse_sql(sql)]
    except pglast.parser.ParseError:
        return (Loss("what it drops cannot be told: PostgreSQL's parser does not know its SQL"),)
    return tuple(loss for statement in statements for loss in _losses_of(statement))


def _losses_of(statement: Any) -> list[Loss]:
    from pglast import ast

    if isinstance(statement, ast.DropStmt):
        return _dropped(statement)
    if isinstance(statement, ast.AlterTableStmt):
        return _columns(statement)
    if isinstance(statement, ast.TruncateStmt):
        tables = [_named(relation) for relation in statement.relations or ()]
        return [Loss(f"empties table {table}", table) for table in tables]
    if isinstance(statement, ast.DeleteStmt):
        table = _named(statement.relation)
        return [Loss(f"deletes from table {table}", table)]
    return []


def _dropped(statement: Any) -> list[Loss]:
    from pglast import enums

    kind = statement.removeType.name.removeprefix("OBJECT_").replace("_", " ").lower()
    cascade = " cascade" if statement.behavior == enums.DropBehavior.DROP_CASCADE else ""
    names = [_dotted(each) for each in statement.objects]
    return [
        Loss(f"drops {kind} {name}{cascade}", name if kind == "table" else "") for name in names
    ]


def _columns(statement: Any) -> list[Loss]:
    from pglast import enums

    table = _named(statement.relation)
    return [
        Loss(f"drops column {table}.{command.name}", table)
        for command in statement.cmds or ()
        if command.subtype == enums.AlterTableType.AT_DropColumn
    ]


def _named(node: Any) -> str:
    from pglast import stream

    return str(stream.RawStream()(node))


def _dotted(node: Any) -> str:
    """Return the name of an object of a DROP: names, a type, or a function with its types."""
    from pglast import stream

    if not isinstance(node, tuple):
        node = getattr(node, "objname", None) or getattr(node, "names", None) or (node,)
    return ".".join(stream.maybe_double_quote_name(part.sval) for part in node)
