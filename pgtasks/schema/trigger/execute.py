"""Run the statements of the project's SQL files; an error names file and line.

The settings that a file changes, and the role that it takes on, end with it: the next one begins as
if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import psycopg2
from psycopg2.errorcodes import DUPLICATE_OBJECT

from pgtasks.errors import Failed, PgtasksError, Refused
from pgtasks.schema.trigger import expected
from pgtasks.schema.trigger.files import Statement
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate


def refuse_control(statements: Iterable[Statement], *, kind: str) -> None:
    """Raise Refused for a statement that ends the transaction; `kind` is what the file is of."""
    from postgast import pg_query_pb2 as pb

    for statement in statements:
        if isinstance(statement.node, pb.TransactionStmt):
            raise Refused(
                f"{statement.where}: {statement.text.strip().split()[0].upper()} in a {kind} file:"
                " all files run in one transaction, take it out"
            )
        if isinstance(statement.node, pb.CopyStmt) and not statement.node.filename:
            raise Refused(
                f"{statement.where}: COPY of the client's rows in a {kind} file: take it out"
            )


def in_turn(
    conn: Connection, statements: Iterable[Statement], begin: Callable[[Connection], None]
) -> list[str]:
    """Run the statements in the transaction of a session with `own_path`; return the warnings.

    `begin` makes the settings that each file needs.
    """
    warnings: list[str] = []
    for _, of_file in groupby(statements, lambda each: each.file.name):
        ran = list(of_file)
        for statement in ran:
            conn.notices.clear()
            run(conn, statement)
            warnings += _warnings(conn, statement)
        if any(map(_may_set, ran)):
            connection.renew(conn)
            begin(conn)
    return warnings


def _warnings(conn: Connection, statement: Statement) -> list[str]:
    """Return the server's warnings about a statement, which has left out what they are about."""
    # a session sends its severity in its own language: only by the order can it be known
    lines = (str(notice).splitlines()[0] for notice in conn.notices)
    return [f"{statement.where}: {line.partition(':')[2].strip()}" for line in lines]


def _may_set(statement: Statement) -> bool:
    """Return whether a statement may change a setting or the role of its session."""
    from postgast import pg_query_pb2 as pb

    sets_nothing = (
        *(pb.GrantStmt, pb.GrantRoleStmt, pb.AlterDefaultPrivilegesStmt, pb.CommentStmt),
        *(pb.CreateFunctionStmt, pb.CreateTrigStmt, pb.DropStmt),
    )
    return not isinstance(statement.node, sets_nothing)


def run(conn: Connection, statement: Statement) -> None:
    """Run a statement in the transaction of a session, which an error ends."""
    try:
        with conn.cursor() as cursor:
            cursor.execute(statement.text)
    except psycopg2.Error as exc:
        raise _located(exc, statement) from None


def _located(exc: psycopg2.Error, statement: Statement) -> PgtasksError:
    """Return the error with file and line, as exactly as the server reports it."""
    error = translate(exc)
    if not isinstance(error, Failed):
        return error
    position = getattr(exc.diag, "statement_position", None)
    line = statement.line
    if position:
        line = statement.file.line_of(statement.start + int(position) - 1)
    words = exc.diag.message_primary or error.message
    again = expected.once(statement.node) if exc.pgcode == DUPLICATE_OBJECT else ""
    hint = "\n".join(filter(None, (exc.diag.message_detail, exc.diag.message_hint, again)))
    return Failed(f"{statement.file.name}:{line}: {words}; nothing was changed", hint=hint)
