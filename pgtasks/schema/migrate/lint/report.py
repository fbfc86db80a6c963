"""The findings of several revisions, each linted on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.migrate.lint import ignores, rules, squawk
from pgtasks.schema.migrate.lint.rules import Finding
from pgtasks.schema.migrate.plan import MigrationStep
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision


@dataclass(frozen=True)
class LintedRevision:
    """The findings of one revision, and those that it ignores, with their reasons.

    `unused` are the ignored rules that found nothing. `unknown` says that its SQL cannot be told
    without a run, so that nothing was linted.
    """

    revision: Revision
    findings: tuple[Finding, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    unknown: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads, in the form FILE: RULE: MESSAGE."""
        file = self.revision.file
        lines = []
        for each in self.findings:
            lines.append(f"{file}: {each.rule}: {each.message}")
            lines += [f"  {each.statement}"] if each.statement else []
        lines += [f"{file}: ignored: {rule}: {reason}" for rule, reason in self.ignored]
        lines += [f"{file}: {rule} is ignored, and finds nothing" for rule in self.unused]
        if self.unknown:
            lines.append(f"{file}: not linted: what it runs cannot be told without running it")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "revision": self.revision.id,
            "file": self.revision.file,
            "findings": [asdict(each) for each in self.findings],
            "ignored": dict(self.ignored),
            "unused": list(self.unused),
            "linted": not self.unknown,
        }


@dataclass(frozen=True)
class Linted:
    """The findings of revisions; `by` is what has the rules."""

    revisions: tuple[LintedRevision, ...]
    by: str

    @property
    def number(self) -> int:
        """Return the number of findings."""
        return sum(len(each.findings) for each in self.revisions)

    def sentence(self) -> str:
        """Return the result in one line."""
        revisions = report.plural(len(self.revisions), "revision")
        number = report.plural(self.number, "finding") if self.number else "nothing found"
        ignored = sum(len(each.ignored) for each in self.revisions)
        more = f", {ignored} ignored" if ignored else ""
        return f"{number} in {revisions}{more}, by {self.by}"

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [line for each in self.revisions for line in each.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"by": self.by, "revisions": [each.as_json() for each in self.revisions]}


def lint(scripts: Scripts, steps: Sequence[MigrationStep], *, major: int) -> Linted:
    """Lint the SQL of each step, one revision at a time.

    `major` is that of the server. Raises BadConfiguration for an ignored rule without a reason.
    """
    program = squawk.find()
    by = "squawk" if program else "the built-in rules"
    return Linted(tuple(_linted(scripts, step, program, major) for step in steps), by)


def _linted(
    scripts: Scripts, step: MigrationStep, program: str | None, major: int
) -> LintedRevision:
    revision = step.revision
    reasons = ignores.read(scripts.root / revision.file, revision.file)
    if step.sql is None:
        return LintedRevision(revision, unknown=True)
    if program:
        found = squawk.findings(program, step.sql, root=scripts.root, major=major)
    else:
        found = rules.findings(step.sql)
    names = {each.rule for each in found}
    return LintedRevision(
        revision,
        tuple(each for each in found if each.rule not in reasons),
        tuple((rule, reason) for rule, reason in reasons.items() if rule in names),
        tuple(rule for rule in reasons if rule not in names),
    )
