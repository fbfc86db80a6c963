"""Messages to a person, and questions, on stderr. Results go to stdout, see `output`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import Interrupted, Refused
from pgtasks.report import terminal
from pgtasks.report.progress import Progress
from pgtasks.report.tables import table
from pgtasks.report.text import shown

Say = Callable[[str], None]


@dataclass(frozen=True)
class Console:
    """Messages and questions; with `quiet`, for programs, no progress is shown."""

    quiet: bool = False

    @property
    def interactive(self) -> bool:
        """Return whether a person can be asked."""
        return terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stderr)

    def require(self, otherwise: str) -> None:
        """Raise Refused with the message `otherwise` if nobody can be asked."""
        if not self.interactive:
            raise Refused(otherwise)

    def say(self, line: str = "") -> None:
        """Print one or more lines, with control characters escaped."""
        terminal.talk(f"{terminal.painted(shown(line), sys.stderr)}\n")

    def ask(self, question: str) -> str:
        """Return the answer to a question; Ctrl-C raises Interrupted."""
        try:
            terminal.talk(shown(question))
            return terminal.line_typed().strip()
        except KeyboardInterrupt:
            terminal.talk("\n")  # the next output begins on a new line
            raise Interrupted("interrupted, not confirmed: nothing was done") from None

    def ask_secret(self, question: str) -> str:
        """Return an answer that is not echoed; raises EOFError without an answer."""
        import getpass

        return getpass.getpass(shown(question), stream=sys.stderr)

    def confirm(self, question: str) -> bool:
        """Return whether the answer to a question is yes."""
        return is_yes(self.ask(f"{question} [y/N] "))

    def choose(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        whole: Collection[str] = (),
    ) -> int | None:
        """Show a numbered table and return the index of the chosen row, None without an answer."""
        numbered = [(number, *row) for number, row in enumerate(rows, 1)]
        self.say(table(("", *headings), numbered, whole=whole, stream=sys.stderr))
        most = len(numbered)
        while answer := self.ask(f"which one? [1-{most}] "):
            if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= most:
                return int(answer) - 1
            self.say(f"{answer!r}, expected 1 to {most}")
        return None

    def progress(self, what: str, total: int = 0) -> Progress:
        """Return the progress of long work; `total` is in bytes, 0 if unknown."""
        return Progress(what, total, quiet=self.quiet)


CONSOLE = Console()  # for code without the console of a run
say = CONSOLE.say


def is_yes(answer: str) -> bool:
    """Return whether an answer is yes."""
    return answer.lower() in ("y", "yes")
