"""Read the tests of triggers: SQL files whose comments say what is expected.

A comment before a statement says what it must do: `-- expect: error 23514`, `-- expect: rows 2`,
`-- expect: row a | b` (one for each row, in order). Without one, a query that returns one boolean
column must return true; all else must not fail. The comment line above is the name of the check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgtasks.errors import Refused
from pgtasks.schema.trigger import files
from pgtasks.schema.trigger.files import SqlFile, Statement
from pgtasks.settings.project import Project

FOLDER = "tests"
_EXPECT = re.compile(r"^--\s*expect:\s*(.*)$", re.IGNORECASE)
_ERROR = re.compile(r"^error(?:\s+([0-9A-Z]{5}))?(?:\s+(.+))?$")
_ROWS = re.compile(r"^rows\s+([0-9]+)$")
_ROW = re.compile(r"^row\s(.*)$")


@dataclass(frozen=True)
class Expectation:
    """What a statement must do: fail with `error`, or return `count` rows, or these `rows`.

    An error is a SQLSTATE, or empty for any, with a part of its message.
    """

    error: tuple[str, str] | None = None
    count: int | None = None
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Case:
    """A statement of a test, with its name and what is expected, if anything is."""

    statement: Statement
    name: str
    expectation: Expectation | None


@dataclass(frozen=True)
class Suite:
    """A file of tests."""

    file: SqlFile
    cases: tuple[Case, ...]


def read(project: Project, names: Sequence[str] = ()) -> tuple[Suite, ...]:
    """Return the tests in the project's sql/tests, or those files of it that are named.

    Raises Refused if there are none, or if one could end its transaction.
    """
    found = tuple(files.read(project, (FOLDER,)))
    folder = project.shown(project.folder("sql") / FOLDER)
    chosen = [file for file in found if not names or _is_named(file.name, names)]
    unknown = [name for name in names if not any(_is_named(file.name, [name]) for file in found)]
    if unknown:
        raise Refused(f"no test {unknown[0]!r} in {folder}")
    if not chosen:
        raise Refused(f"no tests here: {folder} holds no *.sql")
    return tuple(Suite(file, tuple(cases(file))) for file in chosen)


def _is_named(file: str, names: Sequence[str]) -> bool:
    """Whether a file is named by its path or by the end of it, with or without the suffix."""
    return any(f"/{file}".endswith((f"/{name}", f"/{name}.sql")) for name in names)


def cases(file: SqlFile) -> Iterator[Case]:
    """Yield the statements of a test."""
    end = 0
    for statement in files.statements(file):
        _check(statement)
        comments = file.text[end : statement.start]
        end = statement.start + len(statement.text)
        name, expectation = _comments(comments, statement)
        yield Case(statement, name or _first_line(statement.text), expectation)


def _check(statement: Statement) -> None:
    from postgast import pg_query_pb2 as pb

    if statement.node is None or isinstance(statement.node, pb.TransactionStmt):
        what = statement.text.strip().split()[0].upper() if statement.node else "a statement"
        why = "is nested too deeply" if statement.node is None else "in a test"
        raise Refused(
            f"{statement.where}: {what} {why}: each test runs in one transaction, which is"
            " rolled back"
        )


def _first_line(text: str) -> str:
    return " ".join(text.split())[:60]


def _comments(text: str, statement: Statement) -> tuple[str, Expectation | None]:
    """Return the name and the expectation in the comments before a statement."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("--")]
    wanted = [match[1].strip() for line in lines if (match := _EXPECT.match(line))]
    names = [line.strip("- ") for line in lines if not _EXPECT.match(line)]
    return (names[-1] if names else ""), _expectation(wanted, statement)


def _expectation(wanted: Sequence[str], statement: Statement) -> Expectation | None:
    if not wanted:
        return None
    if len(wanted) == 1 and (match := _ERROR.match(wanted[0])):
        return Expectation(error=(match[1] or "", match[2] or ""))
    if len(wanted) == 1 and (match := _ROWS.match(wanted[0])):
        return Expectation(count=int(match[1]))
    rows = [_ROW.match(each) for each in wanted]
    if all(rows):
        return Expectation(rows=tuple(match[1].strip() for match in rows if match))
    raise Refused(
        f"{statement.where}: expect: {'; '.join(wanted)!r} is not known: write error 23514, rows 2,"
        " or row a | b for each row"
    )
