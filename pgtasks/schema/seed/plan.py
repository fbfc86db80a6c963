"""Which seed sets are loaded where, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.schema.seed.load import Loaded, Outcome, load
from pgtasks.schema.seed.sets import SeedSet, chosen, known
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Plan:
    """The sets to load, in order, each at a scale that it has."""

    sets: tuple[SeedSet, ...]
    scale: str

    def lines(self) -> list[str]:
        """Return what a person reads under --dry."""
        return [f"would load {each.name}{self._at(each)} from {each.shown}" for each in self.sets]

    def _at(self, seed: SeedSet) -> str:
        return f" at scale {self.scale} ({seed.scales[self.scale]})" if seed.scales else ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "scale": self.scale,
            "sets": [{"set": each.name, "file": each.shown} for each in self.sets],
        }

    def load(self, target: Target, *, say: Callable[[str], None]) -> Outcome:
        """Load all sets in order; the caller holds the lock. What was loaded before a fault stays.

        Each set is a transaction of its own, so that a large one does not redo the small ones.
        """
        done: list[Loaded] = []
        for each in self.sets:
            say(f"loading {each.name}{self._at(each)}")
            done.append(load(target, each, self.scale))
        return Outcome(tuple(done))


def plan(
    project: Project, target: Target, names: Sequence[str], *, scale: str, protection: str
) -> Plan:
    """Return what to load: the sets named, else those of the environment's `seeds`.

    Raises Refused for an unknown set or scale, for a set that may not go there, and where neither
    names any.
    """
    sets = known(project)
    wanted = list(names) or list(target.seeds)
    if not wanted:
        raise Refused(
            f"environment {target.environment!r} names no seeds, name a set with --set: "
            f"{', '.join(sets) or 'there are none'}"
        )
    found = chosen(sets, wanted, environment=target.environment, protection=protection)
    for each in found:
        each.scale(scale)
    return Plan(tuple(found), scale)


@dataclass(frozen=True)
class Listing:
    """The sets there are, and which of them an environment names."""

    sets: tuple[SeedSet, ...]
    named: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.sets:
            return ["no seed sets"]
        rows = [
            (
                each.name,
                "yes" if each.name in self.named else "",
                each.environments,
                " ".join(f"{name}={number}" for name, number in each.scales.items()) or "-",
                each.shown,
            )
            for each in self.sets
        ]
        return report.table(("set", "named", "environments", "scales", "file"), rows).splitlines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "sets": [
                {
                    "set": each.name,
                    "named": each.name in self.named,
                    "environments": each.environments,
                    "scales": dict(each.scales),
                    "file": each.shown,
                }
                for each in self.sets
            ]
        }


def listing(project: Project, target: Target) -> Listing:
    """Return the project's seed sets; nothing is connected to."""
    return Listing(tuple(known(project).values()), target.seeds)
