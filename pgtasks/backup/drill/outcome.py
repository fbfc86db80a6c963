"""The plan and the result of a drill, for a person and for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.drill.amcheck import Checked
from pgtasks.backup.drill.assertions import Asserted
from pgtasks.backup.restore.prove import Proven
from pgtasks.backup.store.backup import Backup
from pgtasks.errors import NotProven


@dataclass(frozen=True)
class DrillPlan:
    """What a drill will do."""

    backup: Backup
    place: str
    assertions: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        made = self.backup.manifest
        names = ", ".join(self.assertions) or "none: there is no file in sql/drill"
        return [
            f"backup   {made.id} of {made.environment}/{made.database}, {self.backup.place}",
            f"restore  into a disposable database on {self.place}, and compare it with the proof",
            f"assert   {names}",
            "check    with pg_amcheck, if it is there",
            "drop     the database; the result is recorded beside the backup",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "backup": self.backup.id,
            "place": self.place,
            "assertions": list(self.assertions),
            "dry": True,
        }


@dataclass(frozen=True)
class Drilled:
    """The result of a drill; `recovery` are the seconds from the first byte to the proven database.

    `unproven` is what the restore left out here, and what its proof does not cover; of that,
    `notes` were not said yet.
    """

    backup: Backup
    place: str
    proven: Proven
    unproven: tuple[str, ...]
    notes: tuple[str, ...]
    asserted: tuple[Asserted, ...]
    checked: Checked
    recovery: float
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Return why the drill failed, one line each."""
        failed = [each.fact() for each in self.asserted if not each.holds]
        return [*failed, *([self.checked.fact()] if self.checked.found else [])]

    @property
    def compared(self) -> bool:
        """Return whether there was a proof to compare with."""
        return self.proven.comparison is not None

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"not proven: {line}" for line in self.notes]
        for each in self.asserted:
            lines += [] if each.holds else each.lines()
        lines += self.checked.lines() if self.checked.found or not self.checked.ran else []
        return [*lines, self.summary()]

    def summary(self) -> str:
        """Return the result in one line."""
        verb = "failed" if self.faults else "passed" if self.compared else "proved nothing"
        facts = [
            self.proven.sentence().removeprefix("not proven: "),
            self._assertions(),
            *([self.checked.fact()] if self.checked.ran else []),
            f"a restore takes {report.duration(self.recovery)}",
        ]
        return f"drill of {self.backup.id} {verb}: {', '.join(facts)}"

    def _assertions(self) -> str:
        number = len(self.asserted)
        counted = report.plural(number, "assertion") if number else "no assertions"
        if failed := sum(not each.holds for each in self.asserted):
            return f"{failed} of {counted} failed"
        return f"{counted} {'holds' if number == 1 else 'hold'}" if number else counted

    def check(self) -> None:
        """Raise NotProven if an assertion or pg_amcheck found something, or nothing was proven."""
        if self.faults:
            raise NotProven(
                f"the drill of {self.backup.id} failed: {'; '.join(self.faults)}",
                details=self.as_json(),
            )
        if not self.compared:
            raise NotProven(
                f"backup {self.backup.id} was taken without a proof: its restore ran, and there "
                "is nothing to compare it with",
                details=self.as_json(),
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain data, with the first rows of each finding."""
        asserted = [each.as_json() for each in self.asserted]
        return {**self.recorded(), "assertions": asserted}

    def recorded(self) -> dict[str, Any]:
        """Return what the journal keeps: no row of the database."""
        made = self.backup.manifest
        return {
            "backup": made.id,
            "environment": made.environment,
            "database": made.database,
            "place": self.place,
            "passed": self.compared and not self.faults,
            "proven": self.compared,
            "sentence": self.proven.sentence(),
            "unproven": list(self.unproven),
            "assertions": [
                {"file": each.name, "findings": each.findings} for each in self.asserted
            ],
            "failures": self.faults,
            "amcheck": self.checked.as_json(),
            "recovery_seconds": round(self.recovery, 3),
            "seconds": round(self.seconds, 3),
        }
