"""Choose the seed sets to load, and list all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.report.interruption import telling
from pgtasks.schema.seed import record
from pgtasks.schema.seed.load import Loaded, Seeded, load
from pgtasks.schema.seed.record import Record
from pgtasks.schema.seed.sets import SeedSet, chosen, known
from pgtasks.server import connection
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class SeedPlan:
    """The sets to load, in order, each with a scale that it has."""

    sets: tuple[SeedSet, ...]
    scale: str

    def lines(self) -> list[str]:
        """Return the lines for --dry."""
        return [f"would load {each.name}{self._at(each)} from {each.shown}" for each in self.sets]

    def sentence(self) -> str:
        """Return the names of the sets: `core, clinic at scale small (2)`."""
        return ", ".join(f"{each.name}{self._at(each)}" for each in self.sets)

    def _at(self, seed: SeedSet) -> str:
        return f" at scale {self.scale} ({seed.scales[self.scale]})" if seed.scales else ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "scale": self.scale,
            "sets": [{"set": each.name, "file": each.shown} for each in self.sets],
        }

    def load(self, target: Target, *, say: Callable[[str], None], again: bool = False) -> Seeded:
        """Load all sets in order. Sets that were loaded before an error stay.

        Each set has its own transaction, so that a failure of a large set keeps the small ones. A
        set that was loaded before is left alone, unless it is repeatable and its file has changed,
        or `again`. The caller holds the lock.
        """
        with connection.session(target, read_only=True, purpose="seed.load") as conn:
            recorded = record.read(conn, target.database)
        done: list[Loaded] = []
        with telling(lambda: self._left(target, recorded, done), adds=True):
            for each in self.sets:
                state = "loaded" if again else self._state(each, recorded)
                if state != "loaded":
                    at = record.scale_of(each, self.scale)
                    done.append(Loaded(each.name, at, (), 0.0, state))
                    continue
                say(f"loading {each.name}{self._at(each)}")
                done.append(load(target, each, self.scale))
        return Seeded(tuple(done))

    def _left(self, target: Target, before: Record, done: Sequence[Loaded]) -> str:
        """Return which sets an interrupted run has loaded, by their transactions' own record."""
        with connection.session(target, read_only=True, purpose="seed.load") as conn:
            now = record.read(conn, target.database)
        loaded = [each.name for each in done if each.state == "loaded"]
        for each in self.sets[len(done) :]:
            key = (each.name, record.scale_of(each, self.scale))
            loaded += [each.name] if now.get(key) == each.digest != before.get(key) else []
        return f"loaded by this run: {', '.join(loaded) or 'no set'}"

    def _state(self, seed: SeedSet, recorded: Record) -> str:
        """Return what the load of a set results in."""
        digest = recorded.get((seed.name, record.scale_of(seed, self.scale)))
        if digest == seed.digest:
            return "unchanged"
        return "loaded" if digest is None or seed.repeatable else "changed"


def plan(
    project: Project, target: Target, names: Sequence[str], *, scale: str, protection: str
) -> SeedPlan:
    """Return the plan for the named sets, or for the environment's `seeds`.

    Raises Refused for an unknown set or scale, for a set that may not be loaded there, and if
    neither names a set.
    """
    sets = known(project)
    wanted = list(names) or list(target.seeds)
    if not wanted:
        raise Refused(
            f"environment {target.environment!r} names no seeds, name a set with --set: "
            f"{', '.join(sets) or 'there are none'}"
        )
    selected = chosen(sets, wanted, environment=target.environment, protection=protection)
    for each in selected:
        each.scale(scale)
    return SeedPlan(tuple(selected), scale)


@dataclass(frozen=True)
class SeedList:
    """All sets, and those that an environment names."""

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
                "yes" if each.repeatable else "",
                " ".join(each.needs),
                " ".join(f"{name}={number}" for name, number in each.scales.items()) or "-",
                each.shown,
            )
            for each in self.sets
        ]
        return report.table(
            ("set", "named", "environments", "repeatable", "needs", "scales", "file"), rows
        ).splitlines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "sets": [
                {
                    "set": each.name,
                    "named": each.name in self.named,
                    "environments": each.environments,
                    "repeatable": each.repeatable,
                    "needs": list(each.needs),
                    "scales": dict(each.scales),
                    "file": each.shown,
                }
                for each in self.sets
            ]
        }


def listing(project: Project, target: Target) -> SeedList:
    """Return the project's seed sets, without a connection."""
    return SeedList(tuple(known(project).values()), target.seeds)
