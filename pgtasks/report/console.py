"""The person at the terminal: what is said and asked, on stderr. Data goes to stdout: `output`."""

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
    """What is said to a person and asked; `quiet` shows no progress, as a program reads along."""

    quiet: bool = False

    @property
    def interactive(self) -> bool:
        """Return whether a person can be asked."""
        return terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stderr)

    def require(self, otherwise: str) -> None:
        """Raise Refused with the way out where nobody can be asked."""
        if not self.interactive:
            raise Refused(otherwise)

    def say(self, line: str = "") -> None:
        """Print a line or several, whatever a server, a host or a backup put into them."""
        terminal.talk(f"{terminal.painted(shown(line), sys.stderr)}\n")

    def ask(self, question: str) -> str:
        """Return the answer to a question; Ctrl-C there raises Interrupted."""
        try:
            terminal.talk(shown(question))
            return sys.stdin.readline().strip()
        except KeyboardInterrupt:
            terminal.talk("\n")  # what follows is no part of the question's line
            raise Interrupted("interrupted, not confirmed: nothing was done") from None

    def ask_secret(self, question: str) -> str:
        """Return an answer that is not shown while it is typed; raises EOFError for none."""
        import getpass

        return getpass.getpass(shown(question), stream=sys.stderr)

    def confirm(self, question: str) -> bool:
        """Return whether the answer to a question is yes; no answer is none."""
        return is_yes(self.ask(f"{question} [y/N] "))

    def choose(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        whole: Collection[str] = (),
    ) -> int | None:
        """Show a numbered table and return the index of the row that is chosen, None for none."""
        numbered = [(number, *row) for number, row in enumerate(rows, 1)]
        self.say(table(("", *headings), numbered, whole=whole, stream=sys.stderr))
        most = len(numbered)
        while answer := self.ask(f"which one? [1-{most}] "):
            if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= most:
                return int(answer) - 1
            self.say(f"{answer!r} is none of 1 to {most}")
        return None

    def progress(self, what: str, total: int = 0) -> Progress:
        """Return what shows how far long work is; `total` is the work in bytes, 0 if unknown."""
        return Progress(what, total, quiet=self.quiet)


CONSOLE = Console()  # for what no run's own console reaches
say = CONSOLE.say


def is_yes(answer: str) -> bool:
    """Return whether an answer is yes."""
    return answer.lower() in ("y", "yes")
