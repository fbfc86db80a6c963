"""The steps of a setup or an upgrade, each a line with its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.database import wayback
from pgtasks.schema import privileges, trigger
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Step:
    """The result of one part: done, unchanged, skipped, or planned with --dry."""

    name: str
    result: str
    text: str
    seconds: float = 0.0
    details: Any = None

    def line(self) -> str:
        """Return what a person reads."""
        duration = report.duration(self.seconds) if self.result in ("done", "unchanged") else "-"
        return f"{self.name:10}  {self.result:9}  {duration:>7}  {self.text}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "step": self.name,
            "result": self.result,
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "details": self.details,
        }


def skipped(name: str, why: str) -> Step:
    """Return the step of a part that the project lacks, or that does not apply."""
    return Step(name, "skipped", why)


def triggers(project: Project, target: Target) -> Step:
    """Apply the trigger files where they differ from the database; the caller holds the lock."""
    files = trigger.read(project)
    if not files:
        return skipped("triggers", no_triggers(project))
    verification = trigger.verify(files, target)
    if not verification.faults() and not verification.unknown:
        # CREATE TRIGGER would lock tables in use without need
        return Step("triggers", "unchanged", verification.sentence())
    applied = trigger.apply(files, target)
    for warning in applied.warnings:
        report.say(f"warning: {warning}")
    return Step("triggers", "done" if applied.changes else "unchanged", applied.sentence())


def roles(project: Project, target: Target) -> Step:
    """Run the files of roles, which say what others than the owner may do."""
    files = privileges.read(project)
    if not files:
        return skipped("roles", no_roles(project, target))
    granted = privileges.apply(files, target)
    for warning in granted.warnings:
        report.say(f"warning: {warning}")
    if not granted.files:
        return skipped("roles", granted.sentence())
    return Step("roles", "done" if granted.changed else "unchanged", granted.sentence())


def no_roles(project: Project, target: Target) -> str:
    """Return the reason why a project's files of roles are skipped."""
    folder = f"{project.folder('sql').name}/{wayback.FOLDER}"
    if role := resolve(project, target.environment).settings.pool.role:
        return f"no *.sql in {folder}, so pool.role {role!r} gets no privilege from this"
    return f"no *.sql in {folder}"


def no_triggers(project: Project) -> str:
    """Return the reason why a project's trigger files are skipped."""
    folder = project.folder("sql").name
    return f"no *.sql in {folder}/functions and {folder}/triggers"
