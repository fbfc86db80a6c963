"""Read the project's SQL files of functions and triggers with PostgreSQL's own parser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks.errors import Failed
from pgtasks.host import sources
from pgtasks.server import parser
from pgtasks.settings.project import Project

if TYPE_CHECKING:
    from google.protobuf.message import Message

FOLDERS = ("functions", "triggers")  # functions first: triggers name them


@dataclass(frozen=True)
class SqlFile:
    """One file; `name` is its path below the project.

    A `rule` of the settings is a file too, whose text depends on the database (rules.py). It has
    a name and one line, `at`, in its settings file.
    """

    name: str
    text: str
    rule: tuple[str, Any] | None = None
    at: int | None = None

    def line_of(self, position: int) -> int:
        """Return the number of the line that holds the character at `position`."""
        return self.at or self.text.count("\n", 0, position) + 1


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
        return self.file.line_of(self.start)

    @property
    def where(self) -> str:
        """Return file and line."""
        return f"{self.file.name}:{self.line}"


def read(project: Project, folders: Sequence[str] = FOLDERS) -> Iterator[SqlFile]:
    """Yield the files of the folders, by name."""
    for folder in folders:
        place = project.folder("sql") / folder
        try:
            paths = sources.listed(place, ".sql")
        except OSError as exc:
            raise Failed(f"{_name(place, project)}: {exc.strerror or exc}") from None
        for path in paths:
            name = _name(path, project)
            try:
                yield SqlFile(name, sources.text(path))
            except (OSError, UnicodeDecodeError) as exc:
                words = getattr(exc, "strerror", None) or exc
                raise Failed(f"{name}: {words}") from None


def _name(path: Path, project: Project) -> str:
    return str(path.relative_to(project.root) if path.is_relative_to(project.root) else path)


def statements(file: SqlFile) -> list[Statement]:
    """Return a file's statements, raising Failed with the line of a syntax error."""
    try:
        parsed = parser.parse(file.text)
    except parser.SyntaxFault as exc:
        line = file.line_of(exc.position)
        hint = ""
        if "\\" in str(exc):
            hint = "these files are sent to the server as they are: commands of psql do not work"
        raise Failed(f"{file.name}:{line}: {exc}", hint=hint) from None
    return [Statement(file, each.start, each.text, each.node) for each in parsed]
