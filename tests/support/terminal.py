"""A terminal of its own for a program, to answer what it asks."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 60.0  # seconds for a program to ask or to end


@dataclass(frozen=True)
class Ended:
    """How a program ended, and all that its terminal showed."""

    code: int
    screen: str


def answer(
    argv: Sequence[str | Path],
    answers: Sequence[tuple[str, str]],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program on a terminal; each answer is typed when its question (a pattern) is shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        plain = {"NO_COLOR": "1", **(env or {})}  # what is asserted are words
        os.execve(argv[0], [str(word) for word in argv], {**os.environ, **plain})
    try:
        screen, seen = "", 0
        for question, text in answers:
            while not (found := re.search(question, screen[seen:])):
                more = _read(terminal)
                assert more is not None, f"{question!r} was never asked: {screen}"
                screen += more
            seen += found.end()
            os.write(terminal, text.encode())
        while (more := _read(terminal)) is not None:
            screen += more
        _, status = os.waitpid(pid, 0)
        pid = 0
        return Ended(os.waitstatus_to_exitcode(status), screen.replace("\r\n", "\n"))
    finally:
        os.close(terminal)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _read(terminal: int) -> str | None:
    """Return what the program wrote, None at its end."""
    deadline = time.monotonic() + _PATIENCE
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, "the program neither asked nor ended"
    try:
        return os.read(terminal, 65536).decode(errors="replace") or None
    except OSError:  # Linux: the other end is closed
        return None
