"""The way to a database, from its settings to what its role may do there: verify.connection.

The steps of the connection are those of `db.check --verbose`, and what is found at its end is what
`db.check` finds about the server, the database, its stamp, the role and the tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.health import connection, database, finding
from pgtasks.health.connection import ConnectionStep, Diagnosis
from pgtasks.health.finding import Finding
from pgtasks.server.reach import Reached
from pgtasks.settings.environment import DEFAULT, Environment
from pgtasks.settings.selection import Choice
from pgtasks.settings.target import Target
from pgtasks.settings.views import EnvironmentShown, shown

# what the end of the way is about; the rest of db.check is about backups and leftovers
_SUBJECTS = (
    *("server", "connections", "database", "stamp", "role", "owner", "reading", "tools", "psql"),
)
_SETTINGS = ("host", "port", "database", "user")
_LEFT_OUT = ("settings.", "backup.", "mask.", "pool.", "security.")  # of the table with -v


@dataclass(frozen=True)
class Way:
    """The steps as far as they went, and what was found at the end of the way.

    `settings` is the table of settings, with `-v` alone.
    """

    environment: str
    steps: tuple[ConnectionStep, ...]
    findings: tuple[Finding, ...] = ()
    settings: EnvironmentShown | None = None

    def lines(self) -> list[str]:
        """Return what a person reads."""
        table = [*self.settings.lines(), ""] if self.settings else []
        return [*table, *Diagnosis(self._all()).lines()]

    def _all(self) -> tuple[ConnectionStep, ...]:
        return (*self.steps, *map(_step, self.findings))

    def summary(self) -> str:
        """Return one line: how far the way leads."""
        failed = Diagnosis(self._all()).failed
        return f"{failed.name}: {failed.text}" if failed else self.steps[-1].text

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        document = {
            "environment": self.environment,
            **Diagnosis(self.steps).as_json(),
            "findings": [vars(each) for each in self.findings],
        }
        return {**document, "settings": self.settings.as_json()} if self.settings else document

    def check(self) -> None:
        """Raise Unreachable if a step failed, Failed if something at the end is a fault.

        Raises Refused for a fault of the stamp, as the guard does in any other task.
        """
        if failed := Diagnosis(self.steps).failed:
            raise connection.unreachable(failed, self.as_json())
        faults, kind = finding.faults(self.findings)
        for fault in faults:
            raise kind(f"{fault.subject}: {fault.text}", details=self.as_json())


@dataclass(frozen=True)
class Start:
    """Where a way begins: the settings of an environment, and what chose it."""

    choice: Choice
    environment: Environment
    target: Target
    root: Path
    verbose: bool = False

    def step(self) -> ConnectionStep:
        """Return the first step: which settings lead to the database, and where they come from."""
        environment, layers = self.environment, []
        for name in _SETTINGS:
            layer = environment.layer(name)
            layers += [layer] if layer != DEFAULT else []
        layers += [environment.place] if environment.place not in ("", DEFAULT) else []
        where = ", ".join(dict.fromkeys(layers)) or "the defaults alone"
        text = f"{environment.name} ({self.choice.reason}): {self.target}, from {where}"
        return ConnectionStep("settings", True, text)

    def table(self) -> EnvironmentShown | None:
        """Return the settings of the connection, if the user wants to see them."""
        if not self.verbose:
            return None
        every = shown(self.environment, self.target, self.choice.reason)
        values = tuple(each for each in every.values if not each[0].startswith(_LEFT_OUT))
        return EnvironmentShown(
            *(every.environment, every.reason, every.protected, every.target, values)
        )


def walk(start: Start, reach: Callable[[], Reached], backups: Path) -> Way:
    """Take all steps; `reach` connects as a task that reads does, once each step has been taken."""
    steps = (
        start.step(),
        *connection.steps(start.target, start.environment, start.root),
    )
    name, table = start.environment.name, start.table()
    if Diagnosis(steps).failed:
        return Way(name, steps, settings=table)
    readiness = database.examine(reach(), backups)
    return Way(name, steps, tuple(_at_end(readiness.findings())), table)


def _step(found: Finding) -> ConnectionStep:
    """Return a finding as the steps are shown."""
    is_note = found.state == "note"
    return ConnectionStep(found.subject, found.state != "fault", found.text, note=is_note)


def _at_end(findings: Sequence[Finding]) -> Iterator[Finding]:
    return (each for each in findings if each.subject in _SUBJECTS)
