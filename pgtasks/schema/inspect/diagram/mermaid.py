"""Write a diagram for Mermaid, which lays it out itself: in GitHub, GitLab, many editors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgtasks.report import printable
from pgtasks.schema.inspect.diagram.model import Column, Link, Model, Table

_NO_WORD = re.compile(r"[^A-Za-z0-9_]+")
_ESCAPED = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"} | {
    "%": "#37;"  # two begin a comment
}


def lines(model: Model) -> Iterator[str]:
    """Yield the lines of an erDiagram."""
    yield "erDiagram"
    for number, table in enumerate(model.tables):
        yield from _table(number, table)
    for link in model.links:
        yield f"    {_link(link)}"


def _table(number: int, table: Table) -> Iterator[str]:
    head = f'    t{number}["{_label(table.label)}"]'
    if not table.columns:
        yield head
        return
    yield f"{head} {{"
    for column in table.columns:
        yield f"        {_column(column)}"
    yield "    }"


def _column(column: Column) -> str:
    """Return an attribute; its comment has the name that is not a word of Mermaid."""
    type, name = _word(column.type), _word(column.name)
    odd = f'"{_label(column.name)}"' if name != column.name else ""
    return " ".join(filter(None, (type, name, ", ".join(column.marks), odd)))


def _word(text: str) -> str:
    word = _NO_WORD.sub("_", text).strip("_") or "_"
    return word if word[0].isalpha() else f"_{word}"


def _link(link: Link) -> str:
    parent = "|o" if link.optional else "||"
    child = "o|" if link.unique else "o{"
    return f't{link.parent} {parent}--{child} t{link.child} : "{_label(link.name)}"'


def _label(text: str) -> str:
    """Return text for a label: Mermaid has entities, and shows HTML."""
    return "".join(_ESCAPED.get(character, character) for character in printable(text))
