"""The conditions of --where: one SQL expression each, that means the same in all sessions."""

from __future__ import annotations

import re

from psycopg2 import sql

from pgtasks.copy.part import expressions
from pgtasks.copy.part.foreign import Foreign
from pgtasks.errors import Failed, Refused
from pgtasks.server import connection, parser
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection

# what is not to be looked into, the present, and values that are others each time
_TOKEN = re.compile(
    r"""
      (?P<opaque>  [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                 | \$(?P<tag>[A-Za-z_\x80-\uffff]\w*)?\$ .*? \$(?P=tag)?\$
                 | --[^\n]* | /\* .*? \*/ )
    | (?P<time>    \b(?: (?:pg_catalog\s*\.\s*)?
                       (?:now|transaction_timestamp|statement_timestamp|clock_timestamp)
                       \s*\(\s*\)
                     | (?:current_timestamp|localtimestamp) (?:\s*\(\s*[0-9]\s*\))?
                     | current_date ) (?![\w$.]) )
    | (?P<chance>  \b(?: random | gen_random_uuid ) \s*\( )
    | (?P<word>    [A-Za-z_\x80-\uffff][\w$]* )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_PATTERN = re.compile(r'((?:[^"=]|"[^"]*")+?)\s*=(.*)', re.DOTALL)
_TYPES = {"current_date": "date", "localtimestamp": "timestamp"}


def parted(text: str) -> tuple[str, str]:
    """Return table and condition of `TABLE=CONDITION`, raising Refused."""
    match = _PATTERN.fullmatch(text.strip())
    table, condition = (match[1].strip(), match[2].strip()) if match else ("", "")
    if not table or not condition:
        raise Refused(
            f"--where {text!r}: expected TABLE=CONDITION, as in \"person=country = 'DE'\""
        )
    return table, condition


def fixed(condition: str, now: str) -> str:
    """Return a condition with the time in `now` (UTC) in place of the present, raising Refused.

    Each session has a present of its own, and all of them must choose the same rows.
    """
    try:
        parser.expression(condition)
    except parser.SyntaxFault as exc:
        raise Refused(f"--where {condition!r}: {exc}") from None
    except parser.TooDeep:
        raise Refused(f"--where {condition!r}: nested too deeply") from None
    return _TOKEN.sub(lambda match: _fixed(match, condition, now), condition)


def _fixed(match: re.Match[str], condition: str, now: str) -> str:
    if match["chance"]:
        raise Refused(
            f"--where {condition!r}: {match[0]}) chooses other rows each time, --sample does not"
        )
    if match["time"]:
        word = match[0].lower().partition("(")[0].strip()
        return f"'{now}'::pg_catalog.{_TYPES.get(word, 'timestamptz')}"
    return match[0]


def refuse_foreign(conn: Connection, table: Relation, condition: str, types: Foreign) -> None:
    """Raise Refused if a condition runs code of a plain role, or a function that changes.

    `types` are those whose casts and checks are such code.
    """
    used = expressions.names(parser.expression(condition))
    for function in expressions.looked_up(conn, [used]):
        if function.owner:
            raise Refused(
                f"--where on {table}: {function} is or runs code of role {function.owner!r}, with "
                "the rights of a superuser: copy as a plain role (`user`)"
            )
        if function.volatile:
            raise Refused(f"--where on {table}: {function} may choose other rows each time")
    whole = ["*"] if table.name in used.columns else []
    of_others = reads_tables(condition) and (types.columns or types.domains)
    if of_others or types.read(table.oid, [*used.columns, *whole]):
        raise Refused(
            f"--where on {table}: choosing its rows would run code of another role, by a type of a "
            "column: copy as its owner"
        )
    # a call may be a cast to the type of that name
    if name := types.named((*used.types, *used.functions, *used.operators)):
        raise Refused(
            f"--where on {table}: {name} is, or takes, a type of a plain role, whose casts and "
            "checks would run with the rights of a superuser: copy as a plain role (`user`)"
        )


def reads_tables(condition: str) -> bool:
    """Whether a condition has a subquery that reads tables."""
    from postgast import pg_query_pb2 as pb
    from postgast import walk

    return any(isinstance(node, pb.RangeVar) for _, node in walk(parser.expression(condition)))


def enclosed(condition: str) -> str:
    """Return a condition in brackets; it may end with a comment."""
    return f"({condition}\n)"


def check(conn: Connection, table: str, rows: sql.Composable, condition: str) -> None:
    """Raise Refused if the server does not understand a condition on a table.

    Nothing is read or planned: the planner evaluates functions, and an error might show a value of
    its statistics.
    """
    query = sql.SQL("PREPARE pgtasks_where AS SELECT FROM {} WHERE {}").format(
        rows, sql.SQL(enclosed(condition))
    )
    try:
        connection.execute(conn, query)
        connection.execute(conn, "DEALLOCATE pgtasks_where")
    except Failed as exc:
        raise Refused(f"--where on {table}: {exc.message}", hint=exc.hint) from None
