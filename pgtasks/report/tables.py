"""Aligned tables that fit the width of the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any, TextIO

from pgtasks.report import terminal
from pgtasks.report.text import count, printable

Measure = Callable[[str], int]

_NARROWEST = 8  # cells: values are not cut below this
_RUNS_ON, _FOLDED = 40, 24  # cells for a column that is folded, and for one without room
_PROSE = 24  # cells that prose keeps as long as other columns can be cut or omitted
_GAP = 2

# A command in a message is not split: half of it, pasted into a shell, would be another command.
_VALUE = r"(?:'[^']*'|[^\s'-]\S*)"
_COMMAND = re.compile(rf"\binv(?: -\w {_VALUE})* [\w.-]+(?: --[\w-]+(?: {_VALUE})?)*")
_GLUE = "\u00a0"  # of one cell; in texts it is escaped, see `printable`


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    width: int | None = None,
    whole: Collection[str] = (),
    keys: Collection[str] | None = None,
    prose: Collection[str] = (),
    gives: Sequence[str] = (),
    runs_on: bool = False,
    indent: int = 0,
    stream: TextIO | None = None,
) -> str:
    """Return an aligned table for `stream` (default: stdout); numbers are right-aligned.

    On a terminal the table fits its width. First, columns without values are omitted. Then long
    values are cut: those of the columns `prose`, then others, except in the columns `whole` (an ID,
    a time) and `keys`, which identify a row (default: the first column). Then the columns `gives`
    are omitted in that order, and a last line names them. Only then are `keys` cut. Finally each
    row becomes a block of lines. With `runs_on` the last column is not cut but folded between
    words, without breaking a command, so that it can be copied, and those of `prose`, also if they
    are keys, are folded within long words, too.
    """
    texts = [tuple(map(_text, row)) for row in rows]
    grid = _Grid(tuple(headings), texts, runs_on, frozenset(prose))
    width = terminal.columns(stream or sys.stdout) if width is None else width
    keys = headings[:1] if keys is None else keys
    lines = grid.fitted(width - indent, whole, keys, gives) if width else grid.lines()
    return "\n".join(f"{' ' * indent}{line}".rstrip() for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return printable(str(value))


@dataclass(frozen=True)
class _Grid:
    """The cells of a table, each with one or more lines; `measure` returns the width of a line."""

    headings: tuple[str, ...]
    body: list[tuple[str, ...]]
    runs_on: bool
    prose: frozenset[str]
    measure: Measure = len

    @property
    def widths(self) -> list[int]:
        """Return the width of each column."""
        return [
            max(self.measure(line) for text in column for line in text.split("\n"))
            for column in zip(self.headings, *self.body, strict=True)
        ]

    def lines(self) -> list[str]:
        """Return the lines of headings, rules and rows."""
        widths = self.widths
        rules = list(widths)
        if self.runs_on:
            rules[-1] = min(widths[-1], max(len(self.headings[-1]), _RUNS_ON))
        columns = list(zip(*self.body, strict=True)) or [()] * len(widths)
        right = [bool(column) and all(map(_is_number, column)) for column in columns]
        rows = [self.headings, tuple("-" * cells for cells in rules), *self.body]
        return [line for row in rows for line in self._row(row, widths, right)]

    def _row(self, row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
        parts = zip_longest(*(text.split("\n") for text in row), fillvalue="")
        return [
            (" " * _GAP).join(map(self._justified, line, widths, right)).rstrip() for line in parts
        ]

    def _justified(self, text: str, width: int, right: bool) -> str:
        space = " " * (width - self.measure(text))
        return f"{space}{text}" if right else f"{text}{space}"

    def fitted(
        self, width: int, whole: Collection[str], keys: Collection[str], gives: Sequence[str]
    ) -> list[str]:
        """Return lines that fit a width, see `table`."""
        grid = replace(self, measure=_measure(chain(self.headings, *self.body)))
        if _total(grid.widths) <= width:
            return grid.lines()
        grid = all_of_it = grid.without_empty()
        omitted, giving = list[str](), [name for name in gives if name in grid.headings]
        kept = {*whole, *keys}
        while (cut := grid.cut(width, kept, steps=2)) is None and giving:
            omitted.append(giving.pop(0))
            grid = grid.without(omitted[-1])
        cut = cut or grid.cut(width, kept) or grid.cut(width, whole)
        if cut is None:
            return all_of_it.blocks()
        return [*cut.lines(), *([f"no room for: {', '.join(omitted)}"] if omitted else [])]

    def cut(self, width: int, whole: Collection[str], steps: int = 3) -> _Grid | None:
        """Return the table with its widest columns cut so that it fits, None if it cannot."""
        widths = self.widths
        for floors in list(zip(*self._floors(whole), strict=True))[:steps]:
            while _total(widths) > width:
                number = max(range(len(widths)), key=lambda n: widths[n] - floors[n])
                if widths[number] <= floors[number]:
                    break
                widths[number] -= 1
        if _total(widths) > width:
            return None
        body = [
            tuple(self._cell(text, widths, number) for number, text in enumerate(row))
            for row in self.body
        ]
        return replace(self, body=body)

    def _floors(self, whole: Collection[str]) -> Iterator[tuple[int, int, int]]:
        """Yield how far each column may be cut: before others if it is prose, and at last."""
        for heading, most, folds in zip(self.headings, self.widths, self._folds, strict=True):
            least = max(len(heading), _NARROWEST)
            if heading in whole:
                least = _RUNS_ON if folds and heading in self.prose else most
                yield least, least, least
            elif folds:
                yield _RUNS_ON, _RUNS_ON, _FOLDED
            elif heading in self.prose:
                yield max(_PROSE, least), max(_PROSE, least), least
            else:
                yield most, least, least

    @property
    def _folds(self) -> list[bool]:
        last = len(self.headings) - 1
        return [
            self.runs_on and (number == last or heading in self.prose)
            for number, heading in enumerate(self.headings)
        ]

    def _cell(self, text: str, widths: Sequence[int], number: int) -> str:
        most = widths[number]
        if self.measure(text) <= most:
            return text
        if not self._folds[number]:
            return f"{_cropped(text, most - 1)}…"
        lines = _folded(text, most, self.measure)
        if self.headings[number] in self.prose:
            lines = [piece for line in lines for piece in _pieces(line, most, self.measure)]
        return "\n".join(lines)

    def without_empty(self) -> _Grid:
        """Return the table without its empty columns."""
        columns = zip(*self.body, strict=True)
        return self._of([n for n, column in enumerate(columns) if {*column} - {"", "-"}])

    def without(self, name: str) -> _Grid:
        """Return the table without the columns of this name."""
        return self._of([n for n, heading in enumerate(self.headings) if heading != name])

    def _of(self, numbers: Sequence[int]) -> _Grid:
        body = [tuple(row[n] for n in numbers) for row in self.body]
        return replace(self, headings=tuple(self.headings[n] for n in numbers), body=body)

    def blocks(self) -> list[str]:
        """Return each row as a block of lines `heading value`, with blank lines between."""
        widest = max(map(len, self.headings))
        lines: list[str] = []
        for row in self.body:
            lines += [
                f"{heading.ljust(widest)}  {value}"
                for heading, value in zip(self.headings, row, strict=True)
                if value not in ("", "-")
            ]
            lines.append("")
        return lines[:-1]


def hanging(start: str, text: str) -> str:
    """Return a line of a list for stdout, folded to the width of the terminal below `text`.

    It is folded like the last column of a table with `runs_on`.
    """
    room = (terminal.columns(sys.stdout) or 0) - len(start)
    if room < _RUNS_ON or not text.isprintable():
        return f"{start}{text}"
    below = "\n" + " " * len(start)
    return start + below.join(_folded(text, room, _measure([text])))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _is_number(text: str) -> bool:
    return text == "-" or text[:1].isdecimal()


def _measure(texts: Iterable[str]) -> Measure:
    """Return the function for widths: len, or that of rich if a text is not ASCII."""
    if all(map(str.isascii, texts)):
        return len
    from rich.cells import cell_len

    return cell_len


def _cropped(text: str, cells: int) -> str:
    if text.isascii():
        return text[:cells]
    from rich.cells import set_cell_size

    return set_cell_size(text, cells)


def _pieces(text: str, width: int, measure: Measure) -> Iterator[str]:
    while measure(text) > width:
        piece = _cropped(text, width)
        yield piece
        text = text[len(piece.rstrip()) :]
    yield text


def _folded(text: str, width: int, measure: Measure) -> list[str]:
    """Fold a text into lines of at most `width`, unless one word or command is wider."""
    glued = _COMMAND.sub(lambda command: command[0].replace(" ", _GLUE), text)
    first, *words = glued.split(" ")
    lines = [first]
    for word in words:
        if measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [line.replace(_GLUE, " ") for line in lines]
