"""The built-in rules, over the parse trees of one revision's SQL.

Where squawk has a rule for the same statement, ours has its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.server import parser
from pgtasks.server.quoting import quoted

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

_SHOWN = 100  # characters of a statement


@dataclass(frozen=True)
class Finding:
    """A statement that a rule objects to. `line` is its line in the revision's SQL."""

    rule: str
    message: str
    line: int
    statement: str


@dataclass
class _Reading:
    """What the statements so far have made: their tables are empty, or seen by nobody yet."""

    tables: set[str]
    in_transaction: bool = True  # Alembic's own, around each revision

    def is_new(self, relation: pb.RangeVar) -> bool:
        return parser.relation(relation) in self.tables


def findings(sql: str) -> list[Finding]:
    """Return what the rules object to in the SQL of one revision, in its order."""
    try:
        statements = parser.parse(sql)
    except parser.SyntaxFault as exc:
        line = sql.count("\n", 0, exc.position) + 1
        return [Finding("syntax-error", f"PostgreSQL's parser does not know it: {exc}", line, "")]
    return list(_findings(sql, statements))


def _findings(sql: str, statements: Sequence[parser.Parsed]) -> Iterator[Finding]:
    reading = _Reading(set())
    for statement in statements:
        if statement.node is None:
            continue
        text = statement.text
        start = statement.start + len(text) - len(text.lstrip())
        line = sql.count("\n", 0, start) + 1
        shown = " ".join(text.split())[:_SHOWN]
        for rule, message in _of(statement.node, reading):
            yield Finding(rule, message, line, shown)


Objection = tuple[str, str]


def _of(node: Message, reading: _Reading) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.TransactionStmt):
        begins = node.kind in (pb.TRANS_STMT_BEGIN, pb.TRANS_STMT_START)
        ends = node.kind in (pb.TRANS_STMT_COMMIT, pb.TRANS_STMT_ROLLBACK)
        reading.in_transaction = begins or (reading.in_transaction and not ends)
    elif isinstance(node, pb.CreateStmt):
        reading.tables.add(parser.relation(node.relation))
    elif isinstance(node, pb.CreateTableAsStmt):
        reading.tables.add(parser.relation(node.into.rel))
    elif isinstance(node, pb.IndexStmt):
        yield from _index(node, reading)
    elif isinstance(node, pb.DropStmt):
        yield from _drop(node, reading)
    elif isinstance(node, pb.RenameStmt):
        yield from _rename(node, reading)
    elif isinstance(node, pb.AlterTableStmt) and not reading.is_new(node.relation):
        for each in node.cmds:
            yield from _alter(each.alter_table_cmd)
    else:
        yield from _other(node, reading)


def _index(node: pb.IndexStmt, reading: _Reading) -> Iterator[Objection]:
    if node.concurrent and reading.in_transaction:
        yield _in_transaction("CREATE INDEX CONCURRENTLY")
    elif not node.concurrent and not reading.is_new(node.relation):
        yield (
            "require-concurrent-index-creation",
            "writes wait until the index is built: CREATE INDEX CONCURRENTLY in an "
            "autocommit_block",
        )


def _in_transaction(command: str) -> Objection:
    return (
        "ban-concurrent-index-creation-in-transaction",
        f"{command} fails in a transaction: with op.get_context().autocommit_block()",
    )


def _drop(node: pb.DropStmt, reading: _Reading) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    if node.remove_type == pb.OBJECT_TABLE:
        yield "ban-drop-table", "its rows are lost, and code that still uses the table fails"
    elif node.remove_type == pb.OBJECT_INDEX and node.concurrent and reading.in_transaction:
        yield _in_transaction("DROP INDEX CONCURRENTLY")
    elif node.remove_type == pb.OBJECT_INDEX and not node.concurrent:
        yield (
            "require-concurrent-index-deletion",
            "reads and writes wait for the lock: DROP INDEX CONCURRENTLY in an autocommit_block",
        )
    if node.behavior == pb.DROP_CASCADE:
        yield "ban-cascade", "CASCADE drops whatever depends on it: name what is to be dropped"


def _rename(node: pb.RenameStmt, reading: _Reading) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    if reading.is_new(node.relation):
        return
    if node.rename_type == pb.OBJECT_COLUMN:
        yield "renaming-column", "code that uses the old name fails from here on"
    elif node.rename_type == pb.OBJECT_TABLE:
        yield "renaming-table", "code that uses the old name fails from here on"


def _alter(command: pb.AlterTableCmd) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    kind = command.subtype
    if kind == pb.AT_AddColumn:
        yield from _add_column(getattr(command, "def").column_def)
    elif kind == pb.AT_DropColumn:
        yield "ban-drop-column", "its values are lost, and code that still uses the column fails"
    elif kind == pb.AT_AlterColumnType:
        yield (
            "changing-column-type",
            "most changes of a type rewrite the table, and nobody can read it meanwhile: add a "
            "column, copy the values, exchange the two",
        )
    elif kind == pb.AT_SetNotNull:
        yield (
            "adding-not-nullable-field",
            f"the whole table is read under an exclusive lock: first CHECK "
            f"({quoted(command.name)} IS NOT NULL) NOT VALID, then VALIDATE CONSTRAINT",
        )
    elif kind == pb.AT_AddConstraint:
        yield from _constraint(getattr(command, "def").constraint)
    elif kind in (pb.AT_SetLogged, pb.AT_SetUnLogged, pb.AT_SetTableSpace):
        yield "table-rewrite", "the table is written anew, and nobody can read it meanwhile"


def _add_column(column: pb.ColumnDef) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    constraints = {each.constraint.contype: each.constraint for each in column.constraints}
    default = constraints.get(pb.CONSTR_DEFAULT)
    computed = {pb.CONSTR_GENERATED, pb.CONSTR_IDENTITY} & set(constraints) or _is_serial(column)
    if computed or (default is not None and _may_be_volatile(default)):
        yield (
            "adding-field-with-default",
            "a value for each row is computed, which writes the table anew: add the column, fill "
            "it in portions",
        )
    elif {pb.CONSTR_NOTNULL, pb.CONSTR_PRIMARY} & set(constraints) and default is None:
        yield "adding-required-field", "it fails if the table has rows: give it a default"
    for constraint in constraints.values():
        if constraint.contype in (pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY, pb.CONSTR_FOREIGN):
            yield from _constraint(constraint)


def _is_serial(column: pb.ColumnDef) -> bool:
    name = column.type_name.names[-1].string.sval if column.type_name.names else ""
    return name in ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")


# functions whose value is that of the transaction: it is computed once
_STABLE = ("now", "current_setting", "transaction_timestamp", "statement_timestamp", "to_timestamp")


def _may_be_volatile(default: pb.Constraint) -> bool:
    """Return whether an expression calls a function that may have another value for each row."""
    return any(name not in _STABLE for name in _functions(default.raw_expr))


def _functions(node: Message) -> Iterator[str]:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.FuncCall):
        yield node.funcname[-1].string.sval
    for _, value in node.ListFields():
        for each in value if isinstance(value, Sequence) else (value,):
            if isinstance(each, Message):
                yield from _functions(each)


def _constraint(node: pb.Constraint) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    if node.contype in (pb.CONSTR_CHECK, pb.CONSTR_FOREIGN) and not node.skip_validation:
        yield (
            "constraint-missing-not-valid",
            "all rows are checked while writes wait: add it NOT VALID, VALIDATE CONSTRAINT in the "
            "next revision",
        )
    elif node.contype in (pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY) and not node.indexname:
        yield (
            "disallowed-unique-constraint",
            "its index is built while reads and writes wait: CREATE UNIQUE INDEX CONCURRENTLY, "
            "then ADD CONSTRAINT ... USING INDEX",
        )


def _other(node: Message, reading: _Reading) -> Iterator[Objection]:
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.TruncateStmt):
        yield "ban-truncate", "all rows are lost"
    elif isinstance(node, pb.DropdbStmt):
        yield "ban-drop-database", "a migration is no place to drop a database"
    elif isinstance(node, (pb.UpdateStmt, pb.DeleteStmt)):
        if not node.HasField("where_clause") and not reading.is_new(node.relation):
            verb = "UPDATE" if isinstance(node, pb.UpdateStmt) else "DELETE"
            yield (
                "change-of-all-rows",
                f"{verb} without WHERE locks every row until the commit: do it in portions",
            )
    elif isinstance(node, pb.ReindexStmt):
        if not any(each.def_elem.defname == "concurrently" for each in node.params):
            yield "require-concurrent-reindex", "writes wait: REINDEX ... CONCURRENTLY"
    elif isinstance(node, pb.RefreshMatViewStmt) and not node.concurrent:
        yield "require-concurrent-refresh", "reads of the view wait until it is filled"
    elif isinstance(node, (pb.ClusterStmt,)) or (
        isinstance(node, pb.VacuumStmt)
        and any(each.def_elem.defname == "full" for each in node.options)
    ):
        yield "table-rewrite", "the table is written anew, and nobody can read it meanwhile"
