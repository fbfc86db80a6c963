"""The results of a task in several environments: a line for each, and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks import errors, report
from pgtasks.errors import Interrupted

# From the least to the most severe; the exit code of all is the most severe one. A locked target is
# the least, because another run is working on it.
_SEVERITY = (0, 6, 2, 7, 3, 4, 1, 5, 130)


@dataclass(frozen=True)
class RunResult:
    """The result of one environment; `output` is its stdout, `brief` its result in one line."""

    environment: str
    exit_code: int
    seconds: float
    output: str = ""
    error: str = ""
    brief: str = ""

    @property
    def result(self) -> str:
        """Return `done`, `failed (4)` or `interrupted`."""
        if self.exit_code == Interrupted.exit_code:
            return "interrupted"
        return f"failed ({self.exit_code})" if self.exit_code else "done"

    @property
    def summary(self) -> str:
        """Return the result in one line: the error, the result, or the whole output."""
        lines = self.output.splitlines()
        return self.error or self.brief or (lines[0] if len(lines) == 1 else "")

    def line(self, width: int) -> str:
        """Return the line for the end of the run: `prod-eu  done  2.1 s`, with its error if any."""
        duration = report.duration(self.seconds)
        words = f"{self.environment.ljust(width)}  {self.result}  {duration}  {self.error}"
        return report.printable(words.rstrip())

    def as_json(self) -> dict[str, Any]:
        """Return plain data; `result` is the task's own document."""
        document = _document(self.output)
        error, hint = document.pop("error", self.error or None), document.pop("hint", "")
        document.pop("exit_code", None)
        return {
            "environment": self.environment,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "result": document or None,
            "error": error if self.exit_code else None,
            "hint": hint,
        }


def _document(text: str) -> dict[str, Any]:
    """Return the document that a run printed, of whatever task; empty if it printed none."""
    try:
        document: object = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {"result": document}


@dataclass(frozen=True)
class GroupResult:
    """The results of all environments, in the order in which they were named."""

    outcomes: Sequence[RunResult]

    @property
    def exit_code(self) -> int:
        """Return the most severe exit code."""
        return max((each.exit_code for each in self.outcomes), key=_severity)

    def lines(self) -> list[str]:
        """Return the output of each run, above the table of all if it is longer than a line."""
        blocks = [line for each in self.outcomes for line in _block(each)]
        rows = [
            (
                *(each.environment, each.result, f"{each.seconds:.1f}"),
                each.error if _block(each) else each.summary,
            )
            for each in self.outcomes
        ]
        headings = ("environment", "result", "seconds", "what")
        return [*blocks, report.table(headings, rows, runs_on=True)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environments": [each.as_json() for each in self.outcomes],
            "exit_code": self.exit_code,
        }

    def check(self) -> None:
        """Raise the error with the most severe exit code, if a run failed."""
        failed = [each for each in self.outcomes if each.exit_code]
        if failed:
            named = ", ".join(f"{each.environment} ({each.exit_code})" for each in failed)
            number = report.plural(len(self.outcomes), "environment")
            line = f"{len(failed)} of {number} failed: {named}"
            interrupted = self.exit_code == Interrupted.exit_code
            raise errors.of(self.exit_code)(
                "interrupted" if interrupted else line, details=self.as_json()
            )


def _severity(code: int) -> int:
    return _SEVERITY.index(code) if code in _SEVERITY else _SEVERITY.index(1)


def _block(outcome: RunResult) -> list[str]:
    lines = outcome.output.splitlines()
    if len(lines) < 2:
        return []
    return [f"{outcome.environment}:", *(f"  {line}".rstrip() for line in lines), ""]
