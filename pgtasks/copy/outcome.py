"""The result of a copy, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.copy.build import Built
from pgtasks.database.forget import Trimmed
from pgtasks.database.swap import Swapped
from pgtasks.report import typed

_SHOWN = 20  # tables of which a part was taken


@dataclass(frozen=True)
class Copied:
    """The result of a copy; `way_back` says how grants that it has left out come back."""

    built: Built
    swapped: Swapped
    trimmed: Trimmed
    disabled: tuple[str, ...]  # subscriptions, as pg_dump saves them
    seconds: float
    trigger_differences: tuple[str, ...] = ()
    way_back: tuple[str, ...] = ()

    @property
    def without_grants(self) -> bool:
        """Whether the copy has not got the grants of the source."""
        return self.built.plan.rights.mapped

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan, loaded = self.built.plan, self.built.loaded
        origin = f"{plan.named.environment}/{plan.named.database}"
        swapped = report.duration(self.swapped.seconds)
        before = " before sql/arrive" if self.built.arrived else ""
        steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in loaded.seconds.items())
        lines = [
            f"copied {origin} to {plan.target.environment}/{plan.target.database}:"
            f" {self.built.proven.sentence()}{before}, swapped in {swapped}",
            f"in {report.duration(self.seconds)}: {steps}",
        ]
        lines += [f"took {each}" for each in loaded.shares[:_SHOWN]]
        if len(loaded.shares) > _SHOWN:
            more = report.plural(len(loaded.shares) - _SHOWN, "more table")
            lines.append(f"and a part of {more}: --json lists all")
        if loaded.slowest:
            slowest = (f"{name} {seconds:.1f} s" for name, seconds in loaded.slowest)
            lines.append(f"slowest tables: {', '.join(slowest)}")
        if self.swapped.kept:
            undo = typed.task("db.undo")
            lines.append(f"the old one is kept as {self.swapped.kept!r}: {undo} takes it back")
        else:
            lines.append("nothing was replaced, so that there is nothing to undo")
        if self.built.arrived:
            lines += self.built.arrived.lines()
        for name in self.disabled:
            lines.append(f"subscription {name!r} is disabled, as pg_dump saves it")
        return [*lines, *self.trigger_differences, *self.way_back, *self.trimmed.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        loaded, proven = self.built.loaded, self.built.proven
        return {
            **self.built.plan.as_json(),
            "proven": proven.comparison is not None,
            "tables": loaded.tables,
            "rows_copied": loaded.rows,
            "sentence": proven.sentence(),
            "unproven": list(proven.notes),
            "owner": self.built.plan.facts.owner,
            "system": self.built.plan.system,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            "steps": loaded.seconds,
            "taken": [
                {
                    "table": each.total.table,
                    "rows": each.rows,
                    "of": each.total.rows,
                    "exact": each.total.exact,
                }
                for each in loaded.shares
            ],
            "slowest": dict(loaded.slowest),
            "arrived": self.built.arrived.as_json() if self.built.arrived else None,
            **self.trimmed.as_json(),
            "disabled_subscriptions": list(self.disabled),
            "trigger_differences": list(self.trigger_differences),
            "seconds": round(self.seconds, 3),
        }
