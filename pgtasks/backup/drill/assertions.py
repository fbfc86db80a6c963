"""The team's assertions: sql/drill/*.sql, each one query whose rows are findings.

They run in the restored database, read only, in the role that is given, with a time limit. Names
are looked up as in the application's sessions: with the search_path of the database.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Failed, Refused
from pgtasks.host import sources
from pgtasks.server import connection, parser
from pgtasks.server.errors import translated
from pgtasks.settings.target import Target

SECONDS = 300  # of one assertion
_LARGEST = 1 << 20  # bytes of a file
_SHOWN = 5  # rows of a finding
_LONGEST = 1_000  # characters of a row


@dataclass(frozen=True)
class Assertion:
    """One query; `name` is the path of its file below the project."""

    name: str
    query: str


@dataclass(frozen=True)
class Asserted:
    """The result of one assertion: the number of its findings, and the first rows as JSON.

    `fault` is the error of one that could not run to its end.
    """

    name: str
    findings: int = 0
    rows: tuple[str, ...] = ()
    fault: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Return whether it ran and found nothing."""
        return not (self.findings or self.fault)

    def fact(self) -> str:
        """Return what it found, without the rows, which may be anybody's data."""
        return f"{self.name}: {self.fault or report.plural(self.findings, 'finding')}"

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield self.fact()
        for row in self.rows:
            yield f"  {row}"
        if self.findings > len(self.rows):
            yield f"  and {report.plural(self.findings - len(self.rows), 'row')} more"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": self.name,
            "findings": self.findings,
            "rows": list(self.rows),
            "fault": self.fault,
            "seconds": round(self.seconds, 3),
        }


def found(folder: Path, root: Path) -> tuple[Assertion, ...]:
    """Return the assertions of a folder, by name, raising Refused for a file that is none."""
    try:
        paths = sources.listed(folder, ".sql")
    except OSError as exc:
        raise Refused(f"{folder}: {exc.strerror or exc}") from None
    return tuple(_assertion(path, root) for path in paths)


def _assertion(path: Path, root: Path) -> Assertion:
    name = str(path.relative_to(root) if path.is_relative_to(root) else path)
    try:
        if path.stat().st_size > _LARGEST:
            raise Refused(f"{name}: {report.size(path.stat().st_size)}, expected one query")
        text = sources.text(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise Refused(f"{name}: {getattr(exc, 'strerror', None) or exc}") from None
    return Assertion(name, _query(text, name))


def _query(text: str, name: str) -> str:
    """Return the only statement of a file, without its semicolon."""
    from postgast import pg_query_pb2 as pb

    try:
        statements = parser.parse(text)
    except parser.SyntaxFault as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise Refused(f"{name}:{line}: {exc}") from None
    if len(statements) != 1:
        found = report.plural(len(statements), "statement")
        raise Refused(f"{name}: {found}, expected one query, whose rows are findings")
    node = statements[0].node
    if not isinstance(node, pb.SelectStmt) or node.HasField("into_clause"):
        raise Refused(f"{name}: expected a query (SELECT, WITH, VALUES), whose rows are findings")
    return statements[0].text.strip()


def run(assertions: Sequence[Assertion], target: Target) -> tuple[Asserted, ...]:
    """Run the assertions in a database, each in a session of its own."""
    return tuple(_run(assertion, target) for assertion in assertions)


def _run(assertion: Assertion, target: Target) -> Asserted:
    began = time.monotonic()
    session = connection.session(target, read_only=True, own_path=True, purpose="backup.drill")
    with session as conn:
        connection.execute(conn, "BEGIN READ ONLY")
        connection.execute(conn, f"SET LOCAL statement_timeout = '{SECONDS}s'")
        try:
            with translated(), conn.cursor() as cursor:
                cursor.execute(_declared(assertion.query))
                cursor.execute(f"FETCH {_SHOWN} FROM findings")
                rows = tuple(row[0] for row in cursor.fetchall())
                cursor.execute("MOVE FORWARD ALL FROM findings")
                more = int((cursor.statusmessage or "0").split()[-1])
        except Failed as exc:
            return Asserted(assertion.name, fault=exc.message, seconds=time.monotonic() - began)
    return Asserted(assertion.name, len(rows) + more, rows, seconds=time.monotonic() - began)


def _declared(query: str) -> sql.Composed:
    """Return the statement that opens a cursor for a query, whose rows are short texts.

    As a subquery it cannot change rows, and a cursor never holds more than it is asked for.
    """
    return sql.SQL(
        "DECLARE findings NO SCROLL CURSOR FOR SELECT pg_catalog.left("
        "pg_catalog.row_to_json(finding)::pg_catalog.text, {}) FROM (\n{}\n) AS finding"
    ).format(sql.Literal(_LONGEST), sql.SQL(query))
