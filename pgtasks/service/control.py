"""Refuse what would end a transaction otherwise than its block says.

`session.execute(text("COMMIT"))` would commit the work of all blocks around, and what follows would
be in a transaction of its own. SQLAlchemy's own statements of that kind take another way. And the
server answers the COMMIT of a transaction with a failed statement by a ROLLBACK, without an error.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.sql.elements import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
)

from pgtasks.errors import Failed, Refused
from pgtasks.server import parser

UNIT = {"pgtasks_unit": True}  # the option of connections that belong to a block
_OWN = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)
_WORDS = "begin|start|commit|end|rollback|abort|prepare|savepoint|release"
_SKIPPED = r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*"
_BEGINS = re.compile(rf"{_SKIPPED}(?:{_WORDS})\b", re.IGNORECASE)
# a comment that follows is left to the parser: to skip one behind each `;` costs their product
_FOLLOWS = re.compile(rf";\s*(?:--|(?:{_WORDS})\b)", re.IGNORECASE)
# a comment within a comment, and a line that ends otherwise, hide where a statement begins
_HIDDEN = re.compile(rf"\b(?:{_WORDS})\b", re.IGNORECASE)
_LONGEST = 10_000  # characters of a text that is kept with its answer
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sbt]|%%")
_IN_ERROR = 3  # libpq's PQTRANS_INERROR, of both drivers


def listen(engine: Engine) -> None:
    """Watch the statements of an engine, in the dialect: that costs less than in connections."""
    event.listen(engine, "do_execute", _check)
    event.listen(engine, "do_executemany", _check)
    event.listen(engine, "do_execute_no_params", _check_alone)
    _watch_commits(engine)


def _watch_commits(engine: Engine) -> None:
    commit = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        if connection.dbapi_connection.info.transaction_status == _IN_ERROR:
            engine.dialect.do_rollback(connection)  # the pool takes it for ended
            raise Failed(
                "nothing was committed: a statement failed, and its error was caught; put what may "
                "fail into a block of its own within this one"
            )
        commit(connection)

    engine.dialect.do_commit = do_commit  # type: ignore[assignment, method-assign]


def _check_alone(cursor: Any, statement: str, context: Any) -> None:
    _check(cursor, statement, None, context)


def _check(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    suspect = _BEGINS.match(statement) or (";" in statement and _FOLLOWS.search(statement))
    if not suspect and ("/*" in statement or "\r" in statement):
        suspect = _HIDDEN.search(statement)
    if not suspect or "pgtasks_unit" not in context.execution_options:
        return
    compiled = getattr(context, "compiled", None)
    if compiled is not None and isinstance(compiled.statement, _OWN):
        return
    read = _control if len(statement) < _LONGEST else _control.__wrapped__
    if words := read(statement):
        nested = "use session.begin_nested(), or a block within this one"
        whole = "leave the block, or use session.commit() or rollback() in the outermost one"
        way = nested if words.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO")) else whole
        raise Refused(f"{words} in a block would end or change its transaction: {way}")


@functools.lru_cache(maxsize=256)
def _control(statement: str) -> str:
    """Return the first words of a statement of transaction control, empty if there is none."""
    from postgast import pg_query_pb2 as pb

    try:
        parsed = parser.parse(_PLACEHOLDER.sub("NULL", statement))
    except parser.SyntaxFault:
        return ""  # the server says so too
    kinds = [each.node.kind for each in parsed if isinstance(each.node, pb.TransactionStmt)]
    if not kinds:
        return ""
    name = str(pb.TransactionStmtKind.Name(kinds[0]))
    return name.removeprefix("TRANS_STMT_").replace("_", " ")
