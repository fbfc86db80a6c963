"""What the user reads: data on stdout, talk on stderr, one JSON document where asked for."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from pgtasks.errors import Failed, Interrupted

SUMMARY = "PGTASKS_SUMMARY"  # set for a run that is one of several: it says its result in a line
RED, YELLOW = "31", "33"  # of ECMA-48's "select graphic rendition"


def say(line: str = "") -> None:
    """Print talk, a line or several, whatever a server, a host or a backup put into it."""
    _talk(f"{shown(line)}\n")


def ask(question: str) -> str:
    """Ask the person at the terminal and return the answer; Ctrl-C there raises Interrupted."""
    try:
        _talk(shown(question))
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        _talk("\n")  # what follows is no part of the question's line
        raise Interrupted("interrupted, not confirmed: nothing was done") from None


def say_colored(line: str, words: str, color: str) -> None:
    """Print talk whose `words` stand out on a terminal that shows colours (NO_COLOR: none)."""
    _talk(f"{colored(shown(line), words, color)}\n")


def colored(line: str, words: str, color: str) -> str:
    """Return a line for stderr whose `words` stand out, where it is a terminal with colours."""
    if not _shows_colors():
        return line
    return line.replace(words, f"\033[{color}m{words}\033[0m", 1)


def _shows_colors() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb")
    return sys.stderr is not None and sys.stderr.isatty() and not plain


def _talk(text: str) -> None:
    if sys.stderr is not None:  # closed by the shell: print would take stdout instead
        sys.stderr.write(text)  # at once, so that lines of several threads stay whole
        sys.stderr.flush()


def data(text: str) -> None:
    """Print data, raising Failed where stdout takes none (a reader that left: BrokenPipeError)."""
    _put(shown(text))


def _put(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise Failed(f"the result was not written to stdout: {exc.strerror}") from None


def document(value: Any) -> None:
    """Print one JSON document."""
    # a name that is no UTF-8 becomes an escape, which JSON reads
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    _put(_escaped(text.encode("utf-8", "backslashreplace").decode()))


def _escaped(text: str) -> str:
    """Return JSON with the characters escaped that a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def silence(stream: Any) -> None:
    """Lead a stream that cannot be written to nowhere: Python flushes it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Reported(Protocol):
    """What a task found or did."""

    def lines(self) -> list[str]:
        """Return what a person reads."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""


def summarize(found: Reported) -> None:
    """Say a result in one line, for the table of several environments, if this run is one's."""
    if not os.environ.get(SUMMARY):
        return
    summary = getattr(found, "summary", None)
    text = summary() if summary else next(iter(found.lines()), "")
    if text and "\n" not in text:  # a table has no such line
        say(f"summary: {text}")


def result(found: Reported, *, json: bool) -> None:
    """Print what a task found, as lines or as one document."""
    if json:
        document(found.as_json())
    else:
        data("\n".join(found.lines()))


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    width: int | None = None,
    whole: Collection[str] = (),
    gives: Sequence[str] = (),
    runs_on: bool = False,
) -> str:
    """Return an aligned table; numbers stand right.

    On a terminal it is no wider than that: columns without a value go, then long values are cut,
    but for those of the columns `whole`: an ID, a time. Where that is too wide still, the columns
    `gives` go, in their order, which a last line says; then each row becomes a block of lines.
    With `runs_on` the last column is never cut: the terminal breaks it, so that a command in it
    can be copied.
    """
    body = [[_cell(value) for value in row] for row in rows]
    gone: list[str] = []
    width = _terminal_width() if width is None else width
    if width and _total(_widths(headings, body)) > width:
        headings, body = _without_empty(headings, body)
        kept = {headings[-1], *whole} if runs_on else set(whole)
        all_of_it, giving = (headings, body), [name for name in gives if name in headings]
        while True:
            laid = _cut(headings, body, width, kept, runs_on=runs_on)
            if _needed(_widths(headings, laid), runs_on=runs_on) <= width:
                break
            if len(gone) == len(giving):
                return _blocks(*all_of_it)
            gone.append(giving[len(gone)])
            headings, body = _without(headings, body, gone[-1])
        body = laid
    widths = _widths(headings, body)
    right = [
        bool(body) and all(_is_number(row[number]) for row in body)
        for number in range(len(headings))
    ]
    rules = [*widths[:-1], min(widths[-1], max(len(headings[-1]), _RUNS_ON))] if runs_on else widths
    lines = [_line(headings, widths, right), "  ".join("-" * width for width in rules)]
    lines += [_line(row, widths, right) for row in body]
    return "\n".join([*lines, *([f"no room for: {', '.join(gone)}"] if gone else [])])


_NARROWEST = 8  # no value is cut below this
_RUNS_ON = 40  # columns that are left to a column which the terminal breaks
_GAP = 2


def _terminal_width() -> int | None:
    """Return the columns of the terminal that output goes to, None where it goes elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def _widths(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(headings, *body, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _without_empty(
    headings: Sequence[str], body: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    kept = [
        number
        for number in range(len(headings))
        if any(row[number] not in ("", "-") for row in body)
    ]
    return [headings[n] for n in kept], [[row[n] for n in kept] for row in body]


def _without(
    headings: Sequence[str], body: Sequence[Sequence[str]], name: str
) -> tuple[list[str], list[list[str]]]:
    kept = [number for number, heading in enumerate(headings) if heading != name]
    return [headings[n] for n in kept], [[row[n] for n in kept] for row in body]


def _needed(widths: Sequence[int], *, runs_on: bool) -> int:
    """Return the columns that a table needs; of one that runs on, its last needs only some."""
    return _total([*widths[:-1], min(widths[-1], _RUNS_ON)] if runs_on else widths)


def _cut(
    headings: Sequence[str],
    body: list[list[str]],
    width: int,
    whole: Collection[str],
    *,
    runs_on: bool,
) -> list[list[str]]:
    """Return the cells cut so that the table fits, the widest column first.

    They come back as they are where that is not enough.
    """
    widths = _widths(headings, body)
    least = [
        most if heading in whole else max(len(heading), _NARROWEST)
        for heading, most in zip(headings, widths, strict=True)
    ]
    while _needed(widths, runs_on=runs_on) > width:
        number = max(range(len(widths)), key=lambda n: widths[n] - least[n])
        if widths[number] <= least[number]:
            return body  # as narrow as it gets
        widths[number] -= 1
    return [list(map(_shortened, row, widths)) for row in body]


def _blocks(headings: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return each row as lines of their own, `heading  value`, a blank line between rows."""
    widest = max(map(len, headings))
    return "\n\n".join(
        "\n".join(
            f"{heading.ljust(widest)}  {value}"
            for heading, value in zip(headings, row, strict=True)
            if value not in ("", "-")
        )
        for row in body
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    laid = (
        cell.rjust(width) if flush else cell.ljust(width)
        for cell, width, flush in zip(cells, widths, right, strict=True)
    )
    return "  ".join(laid).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return printable(str(value))


def shown(text: str) -> str:
    """Return lines as a terminal may have them: what is neither text, tab nor line end is escaped.

    Escape sequences could hide what is said, and direction marks turn it round.
    """
    return "\n".join(
        line if line.isprintable() else "\t".join(map(printable, line.split("\t")))
        for line in text.split("\n")
    )


def printable(text: str) -> str:
    """Return text whose control characters are written out: names may hold any."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdecimal()


def count(number: int) -> str:
    """Return a number as people write it: 812,004."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """Return `1 table`, `17 tables`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Return bytes as people write them: 217 MB (powers of 1000, as `ls --si` does)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 999.5 or unit == "TB":
            digits = 0 if unit == "B" or number >= 9.95 else 1
            return f"{number:.{digits}f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Return a time as people write it: 120 ms, 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def age(seconds: float) -> str:
    """Return how long ago something was: 40 s, 5 min, 3 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length * (2 if unit != "min" else 1):
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


class Progress:
    """Show how far long work is: a live bar on a terminal, a line now and then in a log.

    `total` is the work in bytes as well as it is known; the bar stays below its end until `done`.
    """

    _EVERY = 10.0  # seconds between the lines in a log

    def __init__(self, what: str, total: int = 0, *, quiet: bool = False) -> None:
        self.what, self.total = what, total
        self._begun = self._said = time.monotonic()
        self._bar: Any = None
        self._quiet = quiet

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _bar(self.what, self.total)
            self._bar.start()
        return self

    def update(self, done: int, note: str = "") -> None:
        """Say how many bytes are done."""
        if self._bar is not None:
            shown = min(done, self.total - 1) if self.total else done
            self._bar.update(self._bar.task_ids[0], completed=shown, note=note)
        elif not self._quiet and time.monotonic() - self._said > self._EVERY:
            self._said = time.monotonic()
            of = f" of about {size(self.total)}" if self.total else ""
            say(f"  {self.what}: {size(done)}{of}, {duration(self._said - self._begun)} {note}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(what: str, total: int) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(what, total=total or None, note="")
    return bar


def failure(error: str, exit_code: int, hint: str) -> Mapping[str, Any]:
    """Return the document that stands for a failed run under --json."""
    return {"error": error, "exit_code": exit_code, "hint": hint}
