"""The result of feature checks, for a person, a program, and a CI system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import NotProven
from pgtasks.report.junit import Case

PASSED, FAILED, SKIPPED = "ok", "FAILED", "skipped"
_WORDS = {PASSED: "passed", FAILED: "failed", SKIPPED: "skipped"}


@dataclass(frozen=True)
class Outcome:
    """The result of one check: ok, FAILED or skipped; what was seen, or why.

    `details` are further lines of a fault, such as the last words of a tool.
    """

    category: str
    name: str
    state: str
    text: str
    seconds: float = 0.0
    details: str = ""

    def line(self) -> str:
        """Return what a person reads, as the check ends."""
        took = report.duration(self.seconds) if self.state != SKIPPED else "-"
        start = f"{self.state:7}  {self.category:8}  {took:>7}  "
        return report.hanging(start, f"{self.name}: {self.text}" if self.text else self.name)

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "category": self.category,
            "check": self.name,
            "result": _WORDS[self.state],
            "text": self.text,
            "details": self.details or None,
            "seconds": round(self.seconds, 3),
        }

    def case(self) -> Case:
        """Return the case of JUnit."""
        fault = self.text if self.state == FAILED else ""
        why = self.text if self.state == SKIPPED else ""
        return Case(self.category, self.name, self.seconds, fault, why, self.details)


@dataclass(frozen=True)
class Verified:
    """The result of all checks; the line of each was printed when it ended."""

    environment: str
    outcomes: tuple[Outcome, ...]
    seconds: float
    swept: tuple[str, ...] = ()

    def count(self, state: str) -> int:
        """Return the number of checks with a result."""
        return sum(1 for each in self.outcomes if each.state == state)

    def lines(self) -> list[str]:
        """Return what failed, with the last words of tools, and the numbers."""
        lines = []
        for each in self.outcomes:
            if each.state == FAILED:
                lines.append(f"FAILED  {each.category}: {each.name}: {each.text}")
                lines += [f"  {line}" for line in each.details.splitlines()]
        return [*lines, self.summary()]

    def summary(self) -> str:
        """Return one line: `30 passed, 1 failed, 2 skipped in 14.2 s`."""
        states = [PASSED, *(state for state in (FAILED, SKIPPED) if self.count(state))]
        counts = ", ".join(f"{self.count(state)} {_WORDS[state]}" for state in states)
        return f"{counts} in {report.duration(self.seconds)}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "environment": self.environment,
            **{word: self.count(state) for state, word in _WORDS.items()},
            "seconds": round(self.seconds, 3),
            "swept": list(self.swept),
            "checks": [each.as_json() for each in self.outcomes],
        }

    def journaled(self) -> dict[str, Any]:
        """Return what the journal keeps: the numbers, and what failed."""
        facts = self.as_json()
        del facts["checks"]
        faults = (each for each in self.outcomes if each.state == FAILED)
        return {**facts, "faults": [f"{each.category}: {each.name}" for each in faults]}

    def check(self) -> None:
        """Raise NotProven if a check failed."""
        faults = [each for each in self.outcomes if each.state == FAILED]
        if faults:
            first = f"{faults[0].category}: {faults[0].name}: {faults[0].text}"
            number = report.plural(len(faults), "check")
            which = ", the first one " if faults[1:] else ": "
            raise NotProven(f"{number} failed{which}{first}", details=self.as_json())
