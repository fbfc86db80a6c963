"""Print the results of tests as TAP, and write them as JUnit's XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks.report.junit import Case
from pgtasks.schema.trigger.trial import Check, Tested


@dataclass(frozen=True)
class Tap:
    """The results of tests, whose lines are TAP (Test Anything Protocol 13)."""

    tested: Tested

    def lines(self) -> list[str]:
        """Return the lines of TAP."""
        lines = ["TAP version 13", f"1..{len(self.tested.checks)}"]
        for number, check in enumerate(self.tested.checks, 1):
            lines += _lines(number, check)
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return self.tested.as_json()


def _lines(number: int, check: Check) -> Iterator[str]:
    name = check.name.replace("#", "\\#")  # else what follows could be a directive
    yield f"{'not ok' if check.fault else 'ok'} {number} - {name}"
    if check.fault:
        yield "  ---"
        yield f"  message: {json.dumps(check.fault)}"
        yield f"  at: {json.dumps(f'{check.file}:{check.line}')}"
        yield "  ..."


def junit_cases(tested: Tested) -> list[Case]:
    """Return the results as cases of JUnit, those of a file side by side."""
    return [
        Case(each.file, each.name, each.seconds, each.fault, file=each.file, line=each.line)
        for file in tested.files
        for each in tested.checks
        if each.file == file
    ]
