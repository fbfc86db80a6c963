"""Fingerprints: what `apply` leaves in the comment of a function or trigger.

It is the last line of the comment, after the text of a user, and has a digest of the file's
definition and of the database's. Where they differ later, it says which of the two has changed.
Whether they differ is always compared anew, because the owner of an object can write its comment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg2 import errors as sqlstate
from psycopg2 import sql

from pgtasks.schema.trigger import installed
from pgtasks.schema.trigger.expected import Expected
from pgtasks.server import connection
from pgtasks.server.connection import Connection

if TYPE_CHECKING:
    from pgtasks.server.proof.toc import Entry

_LINE = re.compile(r"(?:\A|\n)pgtasks: file=([0-9a-f]{16}) database=([0-9a-f]{16})\Z")
_IN_SQL = re.compile(rb"(?:\n|(?<='))pgtasks: file=[0-9a-f]{16} database=[0-9a-f]{16}(?=';)")
_EMPTY = re.compile(rb" IS E?'';\s*\Z")


@dataclass(frozen=True)
class Fingerprint:
    """The digests of the definitions of a file and of the database at the time of `apply`."""

    file: str
    database: str

    def line(self) -> str:
        """Return the line for the comment."""
        return f"pgtasks: file={self.file} database={self.database}"


def digest(text: str) -> str:
    """Return the digest of a definition; white space around it does not count."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


def of(comment: str) -> Fingerprint | None:
    """Return the fingerprint at the end of a comment, or None."""
    match = _LINE.search(comment)
    return Fingerprint(*match.groups()) if match else None


def without(comment: str) -> str:
    """Return a comment without its fingerprint."""
    return _LINE.sub("", comment)


def unmarked(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries of an archive, without fingerprints and comments that are nothing else."""
    for entry in entries:
        definition = entry.definition
        if entry.desc == "COMMENT" and _IN_SQL.search(definition):
            definition = _IN_SQL.sub(b"", definition)
            if _EMPTY.search(definition):
                continue
            entry = replace(entry, definition=definition)
        yield entry


def judged(comment: str, *, file: str, database: str) -> tuple[str, str]:
    """Return the state of an object whose definitions differ, and a note."""
    left = of(comment)
    if left is None:
        return "CHANGED", ""
    if left.database == digest(database):
        return "OUTDATED", ""
    return "DRIFTED", "" if left.file == digest(file) else "the file has changed too"


def leave(conn: Connection, described: Expected, objects: Collection[tuple[str, str]]) -> None:
    """Write the fingerprints of objects that were just applied, in the open transaction.

    A role that may create a trigger on a table of another role may not comment on it. The
    fingerprints are then left out.
    """
    statements = [
        *_on_functions(conn, described, objects),
        *_on_triggers(conn, described, objects),
    ]
    if not statements:
        return
    connection.execute(conn, "SAVEPOINT pgtasks_comment")
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql.SQL(";").join(statements))
    except sqlstate.InsufficientPrivilege:
        connection.execute(conn, "ROLLBACK TO SAVEPOINT pgtasks_comment")
    connection.execute(conn, "RELEASE SAVEPOINT pgtasks_comment")


def _on_functions(
    conn: Connection, described: Expected, objects: Collection[tuple[str, str]]
) -> Iterator[sql.Composed]:
    functions = [
        function
        for function in described.functions.values()
        if (function.kind, function.signature) in objects
    ]
    oids = installed.function_oids(conn, [function.signature for function in functions])
    actual = installed.functions(conn, [oid for oid in oids if oid is not None])
    comments = installed.comments(conn, "pg_proc", list(actual))
    for function, oid in zip(functions, oids, strict=True):
        if oid in actual:
            mark = Fingerprint(digest(function.text), digest(actual[oid].definition))
            yield sql.SQL("COMMENT ON {} {} IS {}").format(
                sql.SQL(function.kind.upper()),
                sql.SQL(actual[oid].identity),
                sql.Literal(_joined(comments.get(oid, ""), mark)),
            )


def _on_triggers(
    conn: Connection, described: Expected, objects: Collection[tuple[str, str]]
) -> Iterator[sql.Composed]:
    triggers = [
        trigger for trigger in described.triggers.values() if ("trigger", trigger.shown) in objects
    ]
    tables = installed.table_oids(conn, [trigger.table for trigger in triggers])
    actual = {(each.table_oid, each.name): each for each in installed.triggers(conn)}
    comments = installed.comments(conn, "pg_trigger", [each.oid for each in actual.values()])
    for trigger, table in zip(triggers, tables, strict=True):
        known = actual.get((table, trigger.name)) if table is not None else None
        if known is not None:
            mark = Fingerprint(digest(trigger.text), digest(known.text))
            yield sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
                sql.Identifier(known.name),
                sql.SQL(known.table),
                sql.Literal(_joined(comments.get(known.oid, ""), mark)),
            )


def _joined(comment: str, mark: Fingerprint) -> str:
    text = without(comment)
    return f"{text}\n{mark.line()}" if text else mark.line()
