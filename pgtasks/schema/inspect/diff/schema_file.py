"""Compare a database with a schema file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pgtasks.errors import BadConfiguration
from pgtasks.report import plural
from pgtasks.schema import file
from pgtasks.schema.inspect.diff import columns
from pgtasks.schema.inspect.diff.change import Change, only
from pgtasks.schema.inspect.diff.definitions import states
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.server import parser
from pgtasks.server.parser import Parsed, SyntaxFault
from pgtasks.server.reach import Reached

_NAME = re.compile(r"^-- (.+)$", re.MULTILINE)
_WORDS = 60  # characters that name a statement without a comment
_SETTINGS = ("VariableSetStmt", "SelectStmt", "InsertStmt", "TransactionStmt")
_LIMIT = 64 << 20
_NOT_IN_FILES = (
    "owners, grants and labels, which a schema file has none of",
    "extension versions, settings, roles, rows",
)


def with_file(name: str, path: Path, place: str, reached: Reached, *, first: bool) -> Diff:
    """Compare a database with a schema file; it is the left side if it is `first`.

    Raises BadConfiguration for a file that is no SQL.
    """
    saved = statements(_read(path), name)
    there = statements(file.text(reached.target, reached.host), place)
    sides = (name, place) if first else (place, name)
    ours, theirs = (saved, there) if first else (there, saved)
    changes = tuple(_changes(ours, theirs, sides))
    compared = f"schema ({plural(len({*ours, *theirs}), 'object')}, triggers with their state)"
    return Diff(sides, changes, (compared,), _NOT_IN_FILES)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LIMIT:
            raise BadConfiguration(f"{path}: larger than {_LIMIT >> 20} MiB")
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as exc:
        raise BadConfiguration(f"cannot read {str(path)!r}: {exc.strerror}") from None


def statements(text: str, where: str) -> dict[str, str]:
    """Return the statements of a schema file by the name of their object.

    The name is in a comment before them, as `inv schema.write` writes it, else it is their first
    words. Settings and the version of migrations are left out.
    """
    try:
        parsed = parser.parse(text)
    except SyntaxFault as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise BadConfiguration(f"{where}:{line}: {exc}") from None
    by_name: dict[str, str] = {}
    end, name = 0, ""
    for statement in parsed:
        comments = _NAME.findall(text[end : statement.start])
        name = comments[-1] if comments else name
        end = statement.start + len(statement.text)
        if type(statement.node).__name__ in _SETTINGS:
            continue
        key = name or _first_words(statement)
        by_name[key] = "\n".join(filter(None, (by_name.get(key), statement.text.strip())))
    return by_name


def _first_words(statement: Parsed) -> str:
    return " ".join(statement.text.split())[:_WORDS].partition("(")[0].strip().lower()


def _changes(
    ours: Mapping[str, str], theirs: Mapping[str, str], sides: tuple[str, str]
) -> Iterator[Change]:
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            yield only(name, sides[0])
        elif name not in ours:
            yield only(name, sides[1])
        elif ours[name] != theirs[name]:
            both = ours[name], theirs[name]
            state = states(both, sides) if name.startswith("trigger ") else ""
            words = state or columns.words(*both, sides) or "defined differently"
            yield Change(name, words, texts=both)
