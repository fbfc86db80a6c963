"""Run the tests of triggers, each file in a transaction that is always rolled back.

Each statement is sent alone, and read by the server as it was by the parser, so that none can end
the transaction; after each, the transaction must be the same one. What a transaction does not cover
stays: the next value of a sequence, or what code of the database does elsewhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    new_type,
    register_type,
    string_types,
)

from pgtasks import report
from pgtasks.errors import Failed, NotProven
from pgtasks.schema.trigger.cases import Case, Expectation, Suite
from pgtasks.server import connection, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate
from pgtasks.settings.target import Target

_LOCK_TIMEOUT = "5s"
_BOOLEAN = 16  # OID of the type
# The server reads a statement in the client's encoding: some have characters that end with a byte
# that is a backslash or a quote elsewhere.
_BEFORE = (
    "SAVEPOINT pgtasks_test; SET LOCAL standard_conforming_strings = on;"
    " SET LOCAL client_encoding = 'UTF8'"
)
_TRANSACTION = (
    "SELECT virtualxid FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'virtualxid'"
    " AND virtualxid OPERATOR(pg_catalog.=) virtualtransaction"
    " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
)
_TAP_LINE = re.compile(r"^(ok|not ok)\s+\d+(?:\s*-?\s*(.*))?$")


@dataclass(frozen=True)
class Check:
    """The result of one check. `fault` is empty if it passed."""

    file: str
    line: int
    name: str
    fault: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Tested:
    """The result of all tests."""

    files: tuple[str, ...]
    checks: tuple[Check, ...]
    seconds: float

    def faults(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if check.fault]

    def sentence(self) -> str:
        """Return the result in one line."""
        number = report.plural(len(self.checks), "check")
        files = report.plural(len(self.files), "file")
        failed = len(self.faults())
        ended = f"{failed} of {number} failed" if failed else f"{number} passed"
        return f"{ended} in {files} ({report.duration(self.seconds)})"

    def lines(self) -> list[str]:
        """Return what a person reads: a line for each file and for each failure, then the count."""
        lines = []
        for file in self.files:
            checks = [check for check in self.checks if check.file == file]
            faults = [check for check in checks if check.fault]
            word, number = "FAIL" if faults else "ok", report.plural(len(checks), "check")
            lines.append(f"{word:4}  {file}  {number}")
            lines += [
                f"      {each.file}:{each.line}: {each.name}: {each.fault}" for each in faults
            ]
        return [*lines, self.sentence()]

    def check(self) -> None:
        """Raise NotProven if a check failed."""
        if self.faults():
            first = self.faults()[0]
            where = f"{first.file}:{first.line}"
            raise NotProven(
                f"{self.sentence()}, the first at {where}: {first.fault}", details=self.as_json()
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "files": list(self.files),
            "passed": len(self.checks) - len(self.faults()),
            "failed": len(self.faults()),
            "checks": [
                {**asdict(check), "passed": not check.fault, "seconds": round(check.seconds, 4)}
                for check in self.checks
            ],
            "seconds": round(self.seconds, 3),
        }


def run(suites: Sequence[Suite], target: Target) -> Tested:
    """Run the tests and roll them back. The caller holds the target's lock."""
    began = time.monotonic()
    checks = [check for suite in suites for check in _suite(suite, target)]
    names = tuple(suite.file.name for suite in suites)
    return Tested(names, tuple(checks), time.monotonic() - began)


def _suite(suite: Suite, target: Target) -> Iterator[Check]:
    """Run a file; after an error that was not expected, the rest is left out."""
    session = connection.session(target, purpose="test", own_path=True)
    with session as conn, interrupt.cancelling([conn]):
        tap = _has_pgtap(conn)
        _values_as_text(conn)
        conn.autocommit = False
        connection.execute(conn, f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        transaction = connection.value(conn, _TRANSACTION, into=str)
        for case in suite.cases:
            outcome = _outcome(conn, case.statement.text)
            if (
                conn.info.transaction_status == TRANSACTION_STATUS_IDLE
                or connection.value(conn, _TRANSACTION, into=str) != transaction
            ):
                raise Failed(
                    f"{case.statement.where}: it ended the transaction of the test, and may have"
                    " committed what the file did"
                )
            yield from _checks(case, outcome, tap=tap)
            if outcome.error is not None and case.expectation is None:
                break
        conn.rollback()


def _has_pgtap(conn: Connection) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname::text = 'pgtap')"
    with connection.pinned(conn):
        return connection.value(conn, query, into=bool)


def _values_as_text(conn: Connection) -> None:
    """Return all values as the server writes them, booleans as true and false."""
    words = {"t": "true", "f": "false"}
    types = tuple(oid for oid in string_types if oid != _BOOLEAN)
    register_type(new_type(types, "PGTASKS_TEXT", lambda value, cursor: value), conn)
    as_word = new_type((_BOOLEAN,), "PGTASKS_BOOLEAN", lambda value, cursor: words.get(str(value)))
    register_type(as_word, conn)


@dataclass(frozen=True)
class _Outcome:
    """What a statement did: rows, or an error. `booleans`: the only column is of that type."""

    seconds: float
    rows: Sequence[tuple[Any, ...]] = ()
    booleans: bool = False
    error: psycopg2.Error | None = None


def _checks(case: Case, outcome: _Outcome, *, tap: bool) -> Iterator[Check]:
    statement = case.statement
    place = statement.file.name, statement.line
    if tap and case.expectation is None and (lines := tap_lines(outcome.rows)):
        yield from (Check(*place, name, fault, outcome.seconds) for name, fault in lines)
        return
    fault = _fault(outcome, case.expectation)
    if fault or case.expectation is not None or outcome.booleans:
        yield Check(*place, case.name, fault, outcome.seconds)


def _outcome(conn: Connection, text: str) -> _Outcome:
    connection.execute(conn, _BEFORE)
    began = time.monotonic()
    try:
        with conn.cursor() as cursor:
            cursor.execute(text)
            description = cursor.description or ()
            rows = cursor.fetchall() if description else []
            booleans = len(description) == 1 and description[0].type_code == _BOOLEAN
    except psycopg2.Error as exc:
        if conn.closed:
            raise translate(exc) from None
        connection.execute(
            conn, "ROLLBACK TO SAVEPOINT pgtasks_test; RELEASE SAVEPOINT pgtasks_test"
        )
        return _Outcome(time.monotonic() - began, error=exc)
    connection.execute(conn, "RELEASE SAVEPOINT pgtasks_test")
    return _Outcome(time.monotonic() - began, rows, booleans)


def _fault(outcome: _Outcome, expectation: Expectation | None) -> str:
    error = outcome.error
    if expectation is not None and expectation.error is not None:
        return _other_error(error, *expectation.error)
    if error is not None:
        return f"error {error.pgcode}: {_message(error)}"
    if expectation is None:
        return _not_true(outcome.rows) if outcome.booleans else ""
    if expectation.count is not None:
        number = len(outcome.rows)
        return "" if number == expectation.count else f"{number} rows, not {expectation.count}"
    rows = tuple(" | ".join(map(_text, row)) for row in outcome.rows)
    expected = expectation.rows or ()
    return (
        "" if rows == expected else f"rows {'; '.join(rows) or 'none'}, not {'; '.join(expected)}"
    )


def _other_error(error: psycopg2.Error | None, code: str, words: str) -> str:
    wanted = " ".join(filter(None, ("error", code, words)))
    if error is None:
        return f"no error, not {wanted}"
    if (code and error.pgcode != code) or words not in _message(error):
        return f"error {error.pgcode}: {_message(error)}, not {wanted}"
    return ""


def _message(error: psycopg2.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())


def _not_true(rows: Sequence[tuple[Any, ...]]) -> str:
    if not rows:
        return "no rows, not true"
    wrong = [row[0] for row in rows if row[0] != "true"]
    return f"{_text(wrong[0])}, not true" if wrong else ""


def _text(value: Any) -> str:
    return "NULL" if value is None else str(value)


def tap_lines(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, str]]:
    """Return name and fault of each line of pgTAP, and nothing for other rows."""
    checks: list[tuple[str, str]] = []
    for line in (line for row in rows for line in str(row[0]).splitlines()):
        if match := _TAP_LINE.match(line):
            checks.append((match[2] or "a test of pgTAP", "not ok" if match[1] != "ok" else ""))
        elif line.startswith("#") and checks and checks[-1][1]:
            name, fault = checks[-1]
            checks[-1] = name, f"{fault}; {line.strip('# ')}" if fault else ""
    return checks
