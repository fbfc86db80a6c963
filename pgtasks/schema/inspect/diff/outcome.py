"""The result of a comparison: differences, and what was compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import NotProven
from pgtasks.schema.inspect.diff.change import Change

_SHOWN_LINES = 40  # lines of one difference


@dataclass(frozen=True)
class Diff:
    """The differences of two sides, by name.

    `compared` are the parts that were compared, `skipped` what was not, with the reason. `sql` is
    the script that makes the left side like the right one, which is shown in place of all else.
    """

    sides: tuple[str, str]
    changes: tuple[Change, ...]
    compared: tuple[str, ...]
    skipped: tuple[str, ...]
    with_text: bool = False
    sql: tuple[str, ...] | None = None

    @property
    def equal(self) -> bool:
        """Return whether no difference was found in what was compared."""
        return not self.changes

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if self.sql is not None:
            return list(self.sql)
        rows = [(report.printable(each.name), each.words) for each in self.changes]
        headings = ("what", "difference")
        shown = report.table(headings, rows, prose=headings, runs_on=True).splitlines()
        skipped = list(_grouped(self.skipped))
        compared = ("compared: ", self.compared), ("not compared: ", skipped)
        said = [
            report.hanging(start, report.printable("; ".join(each))) for start, each in compared
        ]
        return [*(shown if rows else []), *self._texts(), self.summary(), *said]

    def summary(self) -> str:
        """Return the result in one line."""
        left, right = self.sides
        if self.equal:
            return f"no difference between {left} and {right} in what was compared"
        return f"{report.plural(len(self.changes), 'difference')} between {left} and {right}"

    def _texts(self) -> list[str]:
        lines: list[str] = []
        for each in self.changes if self.with_text else ():
            text = each.text_lines()
            more = [f"... {len(text) - _SHOWN_LINES} more lines"] if text[_SHOWN_LINES:] else []
            lines += ["", each.name, *text[:_SHOWN_LINES], *more] if text else []
        return [*lines, ""] if lines else []

    def check(self) -> None:
        """Raise NotProven with the differences, if there are any."""
        if not self.equal:
            raise NotProven(self.summary(), details=self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "left": self.sides[0],
            "right": self.sides[1],
            "differences": [each.as_json(self.sides) for each in self.changes],
            "compared": list(self.compared),
            "not_compared": list(self.skipped),
            **({} if self.sql is None else {"sql": "\n".join(self.sql)}),
        }


def _grouped(skipped: Iterable[str]) -> Iterator[str]:
    """Yield what was not compared, with each reason once."""
    groups: dict[str, list[str]] = {}
    for each in skipped:
        name, _, reason = each.partition(": ")
        groups.setdefault(reason, []).append(name)
    for reason, names in groups.items():
        yield f"{', '.join(names)}: {reason}" if reason else ", ".join(names)
