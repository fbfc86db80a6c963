"""What the user reads: data on stdout, talk on stderr, one JSON document where asked for."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from pgtasks.errors import Failed


def say(line: str = "") -> None:
    """Print one line of talk."""
    if sys.stderr is not None:  # closed by the shell: print would take stdout instead
        sys.stderr.write(f"{line}\n")  # at once, so that lines of several threads stay whole
        sys.stderr.flush()


def data(text: str) -> None:
    """Print data, raising Failed where stdout takes none (a reader that left: BrokenPipeError)."""
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
    data(text.encode("utf-8", "backslashreplace").decode())


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


def result(found: Reported, *, json: bool) -> None:
    """Print what a task found, as lines or as one document."""
    if json:
        document(found.as_json())
    else:
        data("\n".join(found.lines()))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an aligned table; numbers stand right."""
    body = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *body, strict=True)]
    right = [
        bool(body) and all(_is_number(row[number]) for row in body)
        for number in range(len(headings))
    ]
    lines = [_line(headings, widths, right), "  ".join("-" * width for width in widths)]
    return "\n".join(lines + [_line(row, widths, right) for row in body])


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
