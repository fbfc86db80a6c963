"""Run the statements of the project's SQL files; an error names file and line."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg2
from psycopg2.errorcodes import DUPLICATE_OBJECT

from pgtasks.errors import Failed, PgtasksError, Refused
from pgtasks.schema.trigger import expected
from pgtasks.schema.trigger.files import Statement
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
