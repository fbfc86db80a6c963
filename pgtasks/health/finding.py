"""The result of one check, and the table of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgtasks import report


@dataclass(frozen=True)
class Finding:
    """The result of one check; `state` is ok, note or fault (some task cannot work)."""

    subject: str
    state: str
    text: str


def table(findings: Iterable[Finding]) -> str:
    """Return the table for a person."""
    rows = [(each.subject, each.state, each.text) for each in findings]
    return report.table(("what", "", "found"), rows, runs_on=True)


def noted(findings: Iterable[Finding]) -> str:
    """Return the end of a summary, `, noted: clock, stamp`, empty without notes."""
    subjects = [each.subject for each in findings if each.state == "note"]
    return f", noted: {', '.join(subjects)}" if subjects else ""
