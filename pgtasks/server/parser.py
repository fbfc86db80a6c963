"""Parse SQL with PostgreSQL's own parser (libpg_query, through postgast).

Nodes are messages of `postgast.pg_query_pb2`. protobuf decodes a tree of at most 100 levels, and
an operator takes two: a statement that is nested more deeply has no tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.server.quoting import quoted

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

# The names of types that SQL's grammar defines. `char` would mean char(1).
_TYPES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "bpchar": "bpchar",
    "varchar": "varchar",
    "varbit": "bit varying",
    "numeric": "numeric",
    "interval": "interval",
    "time": "time",
    "timetz": "time with time zone",
    "timestamp": "timestamp",
    "timestamptz": "timestamp with time zone",
}


class SyntaxFault(Exception):
    """Report a syntax error; `position` is the index of the character."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class TooDeep(Exception):
    """Report SQL that is nested too deeply to have a tree."""


@dataclass(frozen=True)
class Parsed:
    """A statement. `start` is the index of its first character, `node` None if it is too deep."""

    start: int
    text: str
    node: Message | None


def parse(sql: str) -> list[Parsed]:
    """Return the statements of some SQL, raising SyntaxFault."""
    if "\0" in sql:  # the parser, written in C, would end there
        raise SyntaxFault("a zero byte", sql.index("\0"))
    try:
        return list(_statements(sql))
    except TooDeep:
        return list(_each(sql))


def _statements(sql: str) -> Iterator[Parsed]:
    from google.protobuf.message import DecodeError
    from postgast import PgQueryError, parse, unwrap_node

    try:
        tree = parse(sql)
    except PgQueryError as exc:
        raise SyntaxFault(exc.message, max(0, exc.cursorpos - 1)) from None
    except DecodeError:
        raise TooDeep from None
    data = sql.encode()
    for raw in tree.stmts:
        start = raw.stmt_location
        end = start + raw.stmt_len if raw.stmt_len else len(data)
        yield Parsed(
            start=len(data[:start].decode()),
            text=data[start:end].decode(),
            node=unwrap_node(raw.stmt),
        )


def _each(sql: str) -> Iterator[Parsed]:
    """Parse each statement separately, so that only those that are too deep have no tree."""
    from postgast import split

    end = 0
    for text in split(sql):
        start = sql.index(text, end)
        end = start + len(text)
        try:
            node = next(_statements(text)).node
        except TooDeep:
            node = None
        yield Parsed(start, text, node)


def separate(sql: str) -> list[str]:
    """Return the texts of statements of which some may be no SQL, none if that cannot be told."""
    from postgast import PgQueryError, split

    if "\0" in sql or "atomic" in sql.lower():  # it does not know the body of BEGIN ATOMIC
        return []
    try:
        return list(split(sql, method="scanner"))
    except PgQueryError:
        return []


def statement(sql: str) -> Message:
    """Return the node of the only statement of some SQL, raising TooDeep."""
    return next(_statements(sql)).node


def expression(sql: str) -> Message:
    """Return the node of one expression, raising TooDeep, or SyntaxFault if it is more than that.

    A query that contains the text in parentheses then evaluates nothing but this node.
    """
    from postgast import pg_query_pb2 as pb
    from postgast import unwrap_node

    statements = [parsed.node for parsed in _statements(f"SELECT ({sql})")]
    select = statements[0]
    assert isinstance(select, pb.SelectStmt)
    clauses = {field.name for field, _ in select.ListFields()} - {"limit_option", "op"}
    if len(statements) > 1 or len(select.target_list) > 1 or clauses != {"target_list"}:
        raise SyntaxFault("more than one expression", 0)
    return unwrap_node(select.target_list[0].res_target.val)


def has_comment(sql: str) -> bool:
    """Return whether some SQL has a comment, raising SyntaxFault for what is not SQL."""
    from postgast import PgQueryError, scan
    from postgast import pg_query_pb2 as pb

    if "\0" in sql:
        raise SyntaxFault("a zero byte", sql.index("\0"))
    try:
        tokens = scan(sql).tokens
    except PgQueryError as exc:
        raise SyntaxFault(exc.message, max(0, exc.cursorpos - 1)) from None
    return any(token.token in (pb.SQL_COMMENT, pb.C_COMMENT) for token in tokens)


def condition(trigger: str) -> str:
    """Return the text of the condition of a CREATE TRIGGER, empty if it has none."""
    words = _words(trigger)
    for word in words:
        if word.upper() == "WHEN":  # reserved, so it cannot be an unquoted name
            next(words)
            return "\n".join(_until(words, ")")[0])
    return ""


def defaults(function: str) -> list[str]:
    """Return the texts of the default values in a CREATE FUNCTION."""
    words = _words(function)
    _until(words, "(")
    parsed, end = [], ","
    while end == ",":
        parameter, end = _until(words, ",", ")")
        for number, word in enumerate(parameter):
            if word.upper() == "DEFAULT" or word == "=":
                parsed.append("\n".join(parameter[number + 1 :]))
                break
    return parsed


def separated(expressions: str) -> list[str]:
    """Return the texts of the expressions in a comma-separated list."""
    words = _words(expressions)
    parts, end = [], "," if expressions else ""
    while end == ",":
        expression, end = _until(words, ",")
        parts.append("\n".join(expression))
    return parts


def _words(sql: str) -> Iterator[str]:
    """Yield the texts of the tokens, without comments.

    Join them with newlines: adjacent string constants are one constant only on separate lines.
    """
    from postgast import pg_query_pb2 as pb
    from postgast import scan

    data = sql.encode()
    for token in scan(sql).tokens:
        if token.token not in (pb.SQL_COMMENT, pb.C_COMMENT):
            yield data[token.start : token.end].decode()


def _until(words: Iterator[str], *ends: str) -> tuple[list[str], str]:
    """Take the words up to an end outside brackets; return them and that end."""
    taken: list[str] = []
    depth = 0
    for word in words:
        if depth == 0 and word in ends:
            return taken, word
        depth += (word in ("(", "[")) - (word in (")", "]"))
        taken.append(word)
    return taken, ""


def dotted(nodes: Iterable[pb.Node]) -> str:
    """Return a qualified name, quoted where necessary."""
    return ".".join(quoted(node.string.sval) for node in nodes)


def relation(node: pb.RangeVar) -> str:
    """Return the qualified name of a table, quoted where necessary."""
    return ".".join(map(quoted, filter(None, (node.schemaname, node.relname))))


def type_text(node: pb.TypeName) -> str:
    """Return a type as SQL, without SETOF, and without a length, which functions ignore."""
    parts = [part.string.sval for part in node.names]
    if parts[:-1] == ["pg_catalog"] and parts[-1] in _TYPES:
        name = _TYPES[parts[-1]]
    else:
        name = ".".join(map(_type_name, parts))
    return name + "[]" * len(node.array_bounds)


def _type_name(name: str) -> str:
    """Return a part of a type's name, quoted where necessary, as "char" is."""
    from postgast import pg_query_pb2 as pb
    from postgast import scan

    if quoted(name) != name:
        return quoted(name)
    kind = scan(name).tokens[0].keyword_kind
    return name if kind in (pb.NO_KEYWORD, pb.UNRESERVED_KEYWORD) else f'"{name}"'
