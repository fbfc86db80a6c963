"""Read the project's SQL files of functions and triggers with PostgreSQL's own parser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.errors import Failed, Refused
from pgtasks.server import parser
from pgtasks.settings.project import Project

if TYPE_CHECKING:
    from google.protobuf.message import Message

FOLDERS = ("functions", "triggers")  # functions first: triggers name them


@dataclass(frozen=True)
class SqlFile:
    """One file; `name` is its path below the project."""

    name: str
    text: str


@dataclass(frozen=True)
class Statement:
    """One statement of a file; `node` is its parse tree, None if it is nested too deeply."""

    file: SqlFile
    start: int
    text: str
    node: Message | None

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


def read(project: Project, *, base: bool = False) -> tuple[SqlFile, ...]:
    """Return the files in the order of their application: functions, triggers, by name.

    With `base` these are the files of functions alone.
    """
    return tuple(_read(project, FOLDERS[:1] if base else FOLDERS))


def _read(project: Project, folders: Sequence[str]) -> Iterator[SqlFile]:
    for folder in folders:
        for path in sorted((project.folder("sql") / folder).glob("*.sql")):
            name = str(path.relative_to(project.root)) if path.is_relative_to(project.root) else ""
            try:
                yield SqlFile(name or str(path), path.read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError) as exc:
                words = getattr(exc, "strerror", None) or exc
                raise Failed(f"{name or path}: {words}") from None


def needed(project: Project, *, base: bool = False) -> tuple[SqlFile, ...]:
    """Return the files, raising Refused if there are none."""
    files = read(project, base=base)
    if not files:
        sql = project.folder("sql").name
        folders = f"{sql}/functions holds" if base else f"{sql}/functions and {sql}/triggers hold"
        raise Refused(f"no trigger files here: {folders} no *.sql")
    return files


def statements(file: SqlFile) -> list[Statement]:
    """Return a file's statements, raising Failed with the line of a syntax error."""
    try:
        parsed = parser.parse(file.text)
    except parser.SyntaxFault as exc:
        line = line_of(file.text, exc.position)
        hint = ""
        if "\\" in str(exc):
            hint = "these files are sent to the server as they are: commands of psql do not work"
        raise Failed(f"{file.name}:{line}: {exc}", hint=hint) from None
    return [Statement(file, each.start, each.text, each.node) for each in parsed]
