"""Refuse what would end a transaction, or let it write, otherwise than its block says.

`session.execute(text("COMMIT"))` would commit the work of all blocks around, and what follows would
be in a transaction of its own. SQLAlchemy's own statements of that kind take another way. And the
server answers the COMMIT of a transaction with a failed statement by a ROLLBACK, without an error.

`SET TRANSACTION READ WRITE` lifts what a read-only block is for, as its first statement: later, and
in a query or a function (`set_config`), the server refuses that itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import suppress
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
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sbt]|(%)%")
_READS_ONLY = "transaction_read_only"
_SETS = re.compile(r"\b(?:re)?set\b", re.IGNORECASE)
# what such a statement names, in lower case; with U& the name may hide behind escapes
_NAMED = ("transaction", 'u&"')
# as the server reads a truth value: it takes a part of some words
_ON = ("on", "1", "t", "tr", "tru", "true", "y", "ye", "yes")
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
    options = context.execution_options
    if "pgtasks_unit" not in options:
        return
    _check_end(statement, context)
    if options.get("postgresql_readonly"):
        _check_writes(statement)


def _check_end(statement: str, context: Any) -> None:
    suspect = _BEGINS.match(statement) or (";" in statement and _FOLLOWS.search(statement))
    if not suspect and ("/*" in statement or "\r" in statement):
        suspect = _HIDDEN.search(statement)
    if not suspect:
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


def _check_writes(statement: str) -> None:
    lowered = statement.lower()
    if not any(word in lowered for word in _NAMED) or not _SETS.search(statement):
        return
    read = _lifting if len(statement) < _LONGEST else _lifting.__wrapped__
    if words := read(statement):
        raise Refused(f"{words} may let a read-only block write: open one without read_only")


@functools.lru_cache(maxsize=256)
def _control(statement: str) -> str:
    """Return the first words of a statement of transaction control, empty if there is none."""
    from postgast import pg_query_pb2 as pb

    for node in _nodes(statement):
        if isinstance(node, pb.TransactionStmt):
            name = str(pb.TransactionStmtKind.Name(node.kind))
            return name.removeprefix("TRANS_STMT_").replace("_", " ")
    return ""


@functools.lru_cache(maxsize=256)
def _lifting(statement: str) -> str:
    """Return the words of a statement by which a transaction may write, empty if there is none."""
    from postgast import pg_query_pb2 as pb

    for node in _nodes(statement):
        if not isinstance(node, pb.VariableSetStmt):
            continue
        if node.kind == pb.VAR_SET_MULTI and node.name == "TRANSACTION":
            modes = [mode.def_elem for mode in node.args]
            if any(_is(mode.defname) and not mode.arg.a_const.ival.ival for mode in modes):
                return "SET TRANSACTION READ WRITE"
        elif _is(node.name) and not (node.args and _is_on(node.args[0].a_const)):
            return f"{'RESET' if node.kind == pb.VAR_RESET else 'SET'} {_READS_ONLY}"
    return ""


def _is(setting: str) -> bool:
    return setting.lower() == _READS_ONLY


def _is_on(value: Any) -> bool:
    """Return whether a value of SET is on; one that is bound may be anything."""
    return (value.sval.sval.lower() or str(value.ival.ival)) in _ON


def _nodes(statement: str) -> Iterator[Any]:
    """Yield the trees of the statements, but of those that the parser does not take.

    A word stands for each bound value, which it takes in most places, also in a text.
    """
    plain = _PLACEHOLDER.sub(lambda found: found[1] or "pgtasks", statement)
    try:
        yield from (each.node for each in parser.parse(plain))
    except parser.SyntaxFault:  # the server's error, or a bound value in an odd place
        for each in parser.separate(plain):
            with suppress(parser.SyntaxFault):
                yield from (found.node for found in parser.parse(each))
