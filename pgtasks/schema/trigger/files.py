"""Read the project's SQL files of functions and triggers with PostgreSQL's own parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import Failed, Refused
from pgtasks.settings.project import Project

FOLDERS = ("functions", "triggers")  # functions first: triggers name them


@dataclass(frozen=True)
class SqlFile:
    """One file; `name` is its path below the project."""

    name: str
    text: str


@dataclass(frozen=True)
class Statement:
    """One statement of a file; `node` is its parse tree."""

    file: SqlFile
    start: int
    text: str
    node: Any

    @property
    def line(self) -> int:
        """Return the number of its first line."""
        return line_of(self.file.text, self.start)

    @property
    def where(self) -> str:
        """Return file and line."""
        return f"{self.file.name}:{self.line}"


def line_of(text: str, position: int) -> int:
    """Return the number of the line that holds the character at `position`."""
    return text.count("\n", 0, position) + 1


def read(project: Project) -> tuple[SqlFile, ...]:
    """Return the files in the order of their application: functions, triggers, by name."""
    return tuple(_read(project))


def _read(project: Project) -> Iterator[SqlFile]:
    for folder in FOLDERS:
        for path in sorted((project.folder("sql") / folder).glob("*.sql")):
            name = str(path.relative_to(project.root)) if path.is_relative_to(project.root) else ""
            try:
                yield SqlFile(name or str(path), path.read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError) as exc:
                words = getattr(exc, "strerror", None) or exc
                raise Failed(f"{name or path}: {words}") from None


def needed(project: Project) -> tuple[SqlFile, ...]:
    """Return the files, raising Refused if there are none."""
    files = read(project)
    if not files:
        folder = project.folder("sql").name
        raise Refused(
            f"no trigger files here: {folder}/functions and {folder}/triggers hold no *.sql"
        )
    return files


def statements(file: SqlFile) -> list[Statement]:
    """Return a file's statements, raising Failed with the line of a syntax error."""
    import pglast

    try:
        parsed = pglast.parse_sql(file.text)
    except pglast.parser.ParseError as exc:
        position = exc.args[1] if len(exc.args) > 1 else 0
        line = line_of(file.text, position or 0)
        hint = ""
        if "\\" in str(exc.args[0]):
            hint = "these files are sent to the server as they are: commands of psql do not work"
        raise Failed(f"{file.name}:{line}: {exc.args[0]}", hint=hint) from None
    return [_statement(file, raw) for raw in parsed]


def _statement(file: SqlFile, raw: Any) -> Statement:
    start = raw.stmt_location or 0
    end = start + raw.stmt_len if raw.stmt_len else len(file.text)
    return Statement(file, start, file.text[start:end], raw.stmt)
