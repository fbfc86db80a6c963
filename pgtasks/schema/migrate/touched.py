"""Find the tables whose statistics a migration makes stale, and analyze them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from psycopg2 import sql

from pgtasks.server import connection, parser, versiontable
from pgtasks.server.quoting import qualified
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

# The parameters of a statement as SQLAlchemy's drivers for PostgreSQL send it
_PARAMETER = re.compile(r"%\(\w+\)s|%s")
# changes of a table that alter no value of a column, and its statistics stay true
_WITHOUT_VALUES = (
    *("AT_DropColumn", "AT_SetNotNull", "AT_DropNotNull", "AT_ColumnDefault", "AT_ChangeOwner"),
    *("AT_AddConstraint", "AT_DropConstraint", "AT_ValidateConstraint", "AT_EnableTrig"),
    *("AT_DisableTrig", "AT_EnableRowSecurity", "AT_DisableRowSecurity", "AT_ReplicaIdentity"),
    *("AT_EnableTrigAll", "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser"),
)


def tables(statements: Iterable[str]) -> tuple[str, ...]:
    """Return the tables whose rows or columns some statements change, as they name them.

    A statement of a function or of a DO block is not seen, nor what a trigger changes.
    """
    names = (name for text in statements for name in _of_text(text))
    return tuple(dict.fromkeys(names))


def _of_text(text: str) -> Iterator[str]:
    try:
        parsed = parser.parse(plain(text))
    except parser.SyntaxFault:
        return
    for statement in parsed:
        if statement.node is not None:
            yield from _of_node(statement.node)


def plain(text: str) -> str:
    """Return a statement with its parameters as the parser knows them."""
    return _PARAMETER.sub("$1", text).replace("%%", "%")


def _of_node(node: Message) -> Iterator[str]:
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.SelectStmt):
        yield from _within(node.with_clause)
    elif isinstance(node, (pb.InsertStmt, pb.UpdateStmt, pb.DeleteStmt, pb.MergeStmt)):
        yield parser.relation(node.relation)
        yield from _within(node.with_clause)
    elif isinstance(node, pb.CopyStmt) and node.is_from:
        yield parser.relation(node.relation)
    elif isinstance(node, pb.CreateTableAsStmt):
        yield parser.relation(node.into.rel)
    elif isinstance(node, pb.RefreshMatViewStmt):
        yield parser.relation(node.relation)
    elif isinstance(node, pb.IndexStmt):
        if any(each.index_elem.HasField("expr") for each in node.index_params):
            yield parser.relation(node.relation)  # an expression has statistics of its own
    elif isinstance(node, pb.AlterTableStmt) and _changes_values(node):
        yield parser.relation(node.relation)


def _within(clause: pb.WithClause) -> Iterator[str]:
    from postgast import unwrap_node

    for each in clause.ctes:
        yield from _of_node(unwrap_node(each.common_table_expr.ctequery))


def _changes_values(node: pb.AlterTableStmt) -> bool:
    from postgast import pg_query_pb2 as pb

    kinds = (pb.AlterTableType.Name(each.alter_table_cmd.subtype) for each in node.cmds)
    return any(kind not in _WITHOUT_VALUES for kind in kinds)


_OIDS = (
    "SELECT pg_catalog.to_regclass(name)::pg_catalog.oid::pg_catalog.int8"
    " FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS named(name)"
)
_NAMES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) AND c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
ORDER BY 1, 2
"""


def analyze(target: Target, names: Iterable[str]) -> list[str]:
    """Gather the statistics of those tables that exist, and return their names.

    The names are looked up with the search_path that the revisions use. A table that another
    session locks is skipped, autovacuum gathers its statistics later.
    """
    session = connection.session(target, purpose="analyze", own_path=True)
    with session as conn:
        oids = connection.rows(conn, _OIDS, (list(names),), into=tuple[int | None])
        with connection.pinned(conn):
            versions = {(table.schema, table.name) for table in versiontable.read(conn)}
            found = connection.rows(conn, _NAMES, ([oid for (oid,) in oids if oid],))
            tables = [(schema, name) for schema, name in found if (schema, name) not in versions]
            if tables:
                listed = sql.SQL(", ").join(sql.Identifier(*each) for each in tables)
                statement = sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(listed)
                connection.execute(conn, statement)
        return [qualified(*each) for each in tables]
