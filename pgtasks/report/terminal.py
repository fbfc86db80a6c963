"""Terminals: whether stdout and stderr lead to one, its width and its colours."""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
from typing import TextIO

_LOOK = 0.1  # seconds between two looks for a signal
WIDTH = "PGTASKS_WIDTH"  # columns, set for a run whose output another run shows on its terminal

_RED, _GREEN, _YELLOW, _BOLD_RED = "31", "32", "33", "1;31"  # "select graphic rendition", ECMA-48
_COLORS = {
    "ok": _GREEN,
    "done": _GREEN,
    "INSTALLED": _GREEN,
    "note": _YELLOW,
    "warning": _YELLOW,
    "protected": _YELLOW,
    "unchecked": _YELLOW,
    "skipped": _YELLOW,
    "interrupted": _YELLOW,
    "DISABLED": _YELLOW,
    "ORPHAN": _YELLOW,
    "error": _RED,
    "fault": _RED,
    "failed": _RED,
    "FAILED": _RED,
    "CHANGED": _RED,
    "MISSING": _RED,
    "DAMAGED": _BOLD_RED,
}
_WORDS = "|".join(_COLORS)
# a state is in its own column, begins a line, or ends it in parentheses; a last `note` is the
# heading of the notes
_STATE = re.compile(
    rf"(?:^|(?<=  ))(?!note$)(?P<word>{_WORDS})(?: \(\d+\))?(?=  |$)"
    rf"|^(?P<opening>{_WORDS}):|\((?P<closing>protected)\)$"
)

_UNDRAW = "\r\033[2K"  # move to the beginning of the line and erase it: ECMA-48
_bar_stands = False


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream leads to a terminal; a closed one does not."""
    return stream is not None and not stream.closed and stream.isatty()


def line_typed() -> str:
    """Return the next line of stdin.

    On a terminal it looks for signals meanwhile: one that came just before a read would wait for a
    line to be typed.
    """
    while is_terminal(sys.stdin) and not select.select([sys.stdin], [], [], _LOOK)[0]:
        pass
    return sys.stdin.readline()


def is_drawn_on(stream: TextIO | None) -> bool:
    """Return whether a stream leads to a terminal that can move its cursor."""
    return is_terminal(stream) and os.environ.get("TERM") not in (None, "", "dumb")


def columns(stream: TextIO | None) -> int | None:
    """Return the width of the terminal that shows a stream, None if there is none."""
    if is_terminal(stream):
        return shutil.get_terminal_size().columns
    width = os.environ.get(WIDTH, "")
    return int(width) if width.isascii() and width.isdecimal() else None


def lent_width(*, indent: int) -> dict[str, str]:
    """Return the variables with which a run fits its tables to our terminal, less the indent."""
    width = columns(sys.stdout)
    return {WIDTH: str(width - indent)} if width else {}


def painted(text: str, stream: TextIO | None) -> str:
    """Return lines with their states in colour, if the stream shows colours (see NO_COLOR).

    The text must have been escaped: see `text.shown`.
    """
    if os.environ.get("NO_COLOR") or not is_drawn_on(stream):
        return text
    return "\n".join(_STATE.sub(_colored, line, count=1) for line in text.split("\n"))


def _colored(match: re.Match[str]) -> str:
    word = match["word"] or match["opening"] or match["closing"]
    return f"\033[{_COLORS[word]}m{match[0]}\033[0m"


def talk(text: str) -> None:
    """Write to stderr above a bar, in one piece, so that threads do not mix their lines."""
    if sys.stderr is None:  # closed by the shell: print would use stdout instead
        return
    sys.stderr.write(f"{_UNDRAW if _bar_stands else ''}{text}")
    sys.stderr.flush()


def keep_line(*, bar: bool) -> None:
    """Note whether a bar is shown on the last line of the terminal."""
    global _bar_stands
    _bar_stands = bar
