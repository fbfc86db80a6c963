"""The result of one check, and the table of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgtasks import report
from pgtasks.errors import Failed, PgtasksError, Refused

_STAMP = "stamp"  # the subject of the finding


@dataclass(frozen=True)
class Finding:
    """The result of one check; `state` is ok, note or fault (some task cannot work)."""

    subject: str
    state: str
    text: str


def faults(findings: Iterable[Finding]) -> tuple[list[Finding], type[PgtasksError]]:
    """Return the faults, and the error that they are: Refused for the stamp, which comes first.

    The guard refuses it in any other task.
    """
    found = [each for each in findings if each.state == "fault"]
    found.sort(key=lambda each: each.subject != _STAMP)
    return found, Refused if found and found[0].subject == _STAMP else Failed


def table(findings: Iterable[Finding]) -> str:
    """Return the table for a person."""
    rows = [(each.subject, each.state, each.text) for each in findings]
    return report.table(("what", "", "found"), rows, runs_on=True)


def noted(findings: Iterable[Finding]) -> str:
    """Return the end of a summary, `, noted: clock, stamp`, empty without notes."""
    subjects = [each.subject for each in findings if each.state == "note"]
    return f", noted: {', '.join(subjects)}" if subjects else ""


@dataclass(frozen=True)
class SettingsFinding:
    """The result of one check: a fault, a note, or that it could not be made."""

    level: str  # fault, note, unchecked
    check: str  # stable name, for scripts
    environment: str  # empty where it concerns the project
    message: str

    def line(self) -> str:
        """Return what a person reads."""
        start = f"{self.level:<10} {self.environment or 'project':<10} "
        return report.hanging(start, self.message)
