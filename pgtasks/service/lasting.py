"""Tell the statements whose effect outlives their transaction from those that end with it.

The words of a statement say cheaply whether it may be one; PostgreSQL's own parser decides, once
for each text, but for long ones. What a function does is not seen. DO is taken for one whatever it
does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgtasks.server import parser

if TYPE_CHECKING:
    from google.protobuf.message import Message

_FIRST = re.compile(r"\s*(?:set|reset|discard|listen|load|prepare|do)\b", re.IGNORECASE)
# what stands in each other one, in lower case: a comment or a `;` hides the first word
_WORDS = (
    *("--", "/*", ";", "temp", "hold", "set_", "setseed", "advisory_lock", "dblink_connect"),
    "pg_settings",
)
_KINDS = ("DiscardStmt", "ListenStmt", "LoadStmt", "PrepareStmt", "DoStmt")
_FUNCTIONS = {
    *("pg_advisory_lock", "pg_advisory_lock_shared"),
    *("pg_try_advisory_lock", "pg_try_advisory_lock_shared"),
    *("dblink_connect", "dblink_connect_u", "set_limit", "setseed"),
}
# what holds the relation that a statement makes
_MADE = {"CreateStmt": "relation", "IntoClause": "rel", "ViewStmt": "view"}
_MADE["CreateSeqStmt"] = "sequence"
_READS = ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "DropStmt")
_OF_THE_TRANSACTION = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")
_HOLD = 0x20  # parsenodes.h: CURSOR_OPT_HOLD
_TRUE = ("t", "true", "y", "yes", "on", "1")
_PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?[sbt]|%%")
_BOUND = "pgtasks bound "  # a text in place of a bound value: it may stand where SET has its value
_LONGEST = 10_000  # characters of a text that is parsed, and kept with its judgement
# where nobody parses, each word that could be meant so closes the connection; a pattern that begins
# with a character is found fast
_BEGINS = (
    r"(?:set\b(?!\s+local\b)|reset\b|discard\b|listen\b|load\b|prepare\b|do\b"
    r"|create\s[^;]{,40}?\b(?:temp|temporary|pg_temp)\b)"
)
_DOUBTFUL = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        *(rf"\A\s*{_BEGINS}", rf";\s*{_BEGINS}", rf"\*/\s*{_BEGINS}"),
        rf"[\r\n][ \t]*{_BEGINS}",  # after a comment; \s would read a run of lines again and again
    )
)
_CALLED = ("set_config", "pg_settings", "set_limit", "setseed", "advisory_lock", "dblink_connect")
_DOUBTFUL_WORDS = (*_CALLED, "with hold", "into temp", "pg_temp")


@dataclass(frozen=True)
class Judgement:
    """Whether a statement lasts; `bound` are the values that say so where they are not true."""

    lasts: bool
    bound: tuple[str, ...] = ()


def changes_session(statement: str, parameters: Any = None) -> bool:
    """Return whether a statement, as the driver gets it, changes what outlives its transaction."""
    if len(statement) > _LONGEST:  # a tree of it takes its time, and a judgement its room
        lowered = statement.lower()
        return any(word in lowered for word in _DOUBTFUL_WORDS) or any(
            pattern.search(statement) for pattern in _DOUBTFUL
        )
    judgement = _judged(statement)
    if judgement.lasts or not judgement.bound:
        return judgement.lasts
    return any(
        not _is_true(_value(row, name)) for row in _rows(parameters) for name in judgement.bound
    )


@functools.lru_cache(maxsize=1024)
def _judged(statement: str) -> Judgement:
    lowered = statement.lower()
    if not _FIRST.match(statement) and not any(word in lowered for word in _WORDS):
        return Judgement(False)
    count = -1

    def marked(match: re.Match[str]) -> str:
        nonlocal count
        if match[0] == "%%":
            return "%"
        count += 1
        return f"'{_BOUND}{match[1] or count}'"

    try:
        parsed = parser.parse(_PLACEHOLDER.sub(marked, statement))
    except parser.SyntaxFault:  # the server's error, or an SQL that the parser does not know
        return Judgement(bool(_FIRST.match(statement)))
    found = [_statement(each) for each in parsed]
    return Judgement(any(each.lasts for each in found), tuple(b for f in found for b in f.bound))


def _statement(parsed: parser.Parsed) -> Judgement:
    from postgast import walk

    node = parsed.node
    if node is None:  # it is nested too deeply to be looked at
        return Judgement(True)
    kind = type(node).__name__
    if kind in _KINDS or (kind not in _READS and "pg_temp" in parsed.text.lower()):
        return Judgement(True)
    if kind == "VariableSetStmt":
        return Judgement(_sets(node))
    nodes = [each for _, each in walk(node)]
    if any(_makes(each) for each in nodes):
        return Judgement(True)
    bound = list(_bound(nodes))
    return Judgement("" in bound, tuple(filter(None, bound)))


def _sets(node: Any) -> bool:
    """Return whether a SET or RESET is of more than its transaction."""
    from postgast import pg_query_pb2 as pb

    if node.kind == pb.VAR_SET_MULTI:
        return not node.name.upper().startswith("TRANSACTION")
    return not node.is_local and node.name not in _OF_THE_TRANSACTION


def _makes(node: Any) -> bool:
    """Return whether a part of a statement leaves something in the session."""
    from postgast import pg_query_pb2 as pb

    kind = type(node).__name__
    if kind in _MADE:
        dropped = pb.ONCOMMIT_DROP in (getattr(node, "oncommit", 0), getattr(node, "on_commit", 0))
        return getattr(node, _MADE[kind]).relpersistence == "t" and not dropped
    if kind == "FuncCall":
        return node.funcname[-1].string.sval in _FUNCTIONS
    if kind == "UpdateStmt":  # a rule of that view calls set_config
        return bool(node.relation.relname == "pg_settings")
    return kind == "DeclareCursorStmt" and bool(node.options & _HOLD)


def _bound(nodes: Sequence[Message]) -> Iterator[str]:
    """Yield the bound values that say whether calls of set_config are local, "" for one not."""
    for node in nodes:
        if type(node).__name__ != "FuncCall":
            continue
        call: Any = node
        if call.funcname[-1].string.sval == "set_config" and len(call.args) == 3:
            local = call.args[2]
            while local.HasField("type_cast"):
                local = local.type_cast.arg
            text = local.a_const.sval.sval
            if text.startswith(_BOUND):
                yield text.removeprefix(_BOUND)
            elif not (local.a_const.boolval.boolval or text.lower() in _TRUE):
                yield ""


def _rows(parameters: Any) -> Sequence[Any]:
    """Return the rows of a statement's values, of which most have one."""
    if isinstance(parameters, (list, tuple)) and parameters and _is_row(parameters[0]):
        return parameters
    return (parameters,)


def _is_row(value: Any) -> bool:
    return isinstance(value, (Mapping, tuple, list))


def _value(row: Any, name: str) -> Any:
    if isinstance(row, Mapping):
        return row.get(name)
    return row[int(name)] if name.isdecimal() and row and int(name) < len(row) else None


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in _TRUE)
