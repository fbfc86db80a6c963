"""A terminal of its own for a program, to answer what it asks."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import prefork
from rich.cells import cell_len

_PATIENCE = 120.0  # seconds for a program to ask or to end


@dataclass(frozen=True)
class Ended:
    """How a program ended, and all that its terminal showed."""

    code: int
    screen: str


def answer(
    argv: Sequence[str | Path],
    answers: Sequence[tuple[str, str | Callable[[int], None]]],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    columns: int = 80,
    **streams: int,
) -> Ended:
    """Run a program on a terminal; each answer is typed when its question (a pattern) is shown.

    An answer that is a function gets the terminal's descriptor, instead of text that is typed.
    `streams` (stdout, stderr) lead elsewhere than to the terminal.
    """
    terminal, theirs = os.openpty()
    resize(theirs, rows=24, columns=columns)
    plain = {"NO_COLOR": "1", **(env or {})}  # what is asserted are words
    inherited = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = prefork.start(
        argv,
        cwd=cwd,
        env={**inherited, **plain},
        terminal=True,
        **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams},
    )
    os.close(theirs)
    try:
        screen, seen = "", 0
        # a read may end within a character: a terminal holds no more than some kilobytes for it
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for question, text in answers:
            while not (found := re.search(question, screen[seen:])):
                more = _read(terminal, screen)
                assert more, f"{question!r} was never asked: {screen}"
                screen += decoder.decode(more)
            seen += found.end()
            text(terminal) if callable(text) else _type(terminal, text.encode())
        while more := _read(terminal, screen):
            screen += decoder.decode(more)
        return Ended(process.wait(_PATIENCE), screen.replace("\r\n", "\n"))
    finally:
        os.close(terminal)
        if process.poll() is None:
            process.kill()
            process.wait()


def resize(terminal: int, *, rows: int, columns: int) -> None:
    """Give a terminal another size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def interrupt(terminal: int, *, sign: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to what runs on a terminal."""
    os.killpg(os.tcgetpgrp(terminal), sign)


def _type(terminal: int, data: bytes) -> None:
    while data:
        data = data[os.write(terminal, data) :]


def _read(terminal: int, screen: str) -> bytes:
    """Return what the program wrote, nothing at its end."""
    ready, _, _ = select.select([terminal], [], [], _PATIENCE)
    assert ready, f"the program neither asked nor ended: {screen[-2000:]!r}"
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: the other end is closed
        return b""


def lines(screen: str, columns: int) -> list[str]:
    """Return the lines of a terminal as they stand at the end, raising where one is too wide.

    Knows what a bar and a line in colour need: carriage return, up, erase line, cursor, colours.
    """
    shown, row = [""], 0
    for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", screen):
        if part == "\n":
            row += 1
            shown += [""] * (row == len(shown))
        elif part.endswith("A") and part[0] == "\x1b":
            row -= int(part[2:-1] or 1)
        elif part.endswith("K") and part[0] == "\x1b":
            shown[row] = ""
        elif part == "\r":
            pass  # what follows erases the line, or begins the next one
        elif part[0] != "\x1b":
            shown[row] += part
            assert cell_len(shown[row]) <= columns, f"wider than {columns}: {shown[row]!r}"
    return shown
