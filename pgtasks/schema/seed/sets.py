"""Seed sets: SQL files whose head gives their name, environments and scales.

-- seed: clinic                                the name of the set (else the file's own)
-- environments: any | unprotected             where it may be loaded (else unprotected)
-- scales: small=2 medium=20 large=280         the value of :scale for each scale (else none)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.report import typed
from pgtasks.settings.project import Project

_HEAD = re.compile(r"^--\s*(seed|environments|scales):\s*(.*?)\s*$")
ANYWHERE, UNPROTECTED = "any", "unprotected"


@dataclass(frozen=True)
class SeedSet:
    """One set. `environments` is any or unprotected; `scales` has the values of :scale by name."""

    name: str
    path: Path
    shown: str
    environments: str = UNPROTECTED
    scales: Mapping[str, int] = field(default_factory=dict)

    def scale(self, name: str) -> int | None:
        """Return the value of :scale, None for a set without scales; raise Refused if unknown."""
        if not self.scales:
            return None
        if name not in self.scales:
            known = ", ".join(self.scales)
            raise Refused(f"seed set {self.name!r} has no scale {name!r}, known: {known}")
        return self.scales[name]


def known(project: Project) -> dict[str, SeedSet]:
    """Return the project's seed sets by name, raising BadConfiguration for an invalid head."""
    sets: dict[str, SeedSet] = {}
    for path in sorted((project.folder("sql") / "seeds").glob("*.sql")):
        shown = str(path.relative_to(project.root) if path.is_relative_to(project.root) else path)
        made = parse(path.read_text(encoding="utf-8-sig", errors="replace"), path, shown)
        if made.name in sets:
            raise BadConfiguration(
                f"{shown}: seed {made.name!r} is in {sets[made.name].shown} too, rename one"
            )
        sets[made.name] = made
    return sets


def parse(text: str, path: Path, shown: str) -> SeedSet:
    """Return the set that the head of a file describes, its first comment lines."""
    fields: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("--"):
            break
        head = _HEAD.match(line)
        if head:
            _check(head[1], head[2], f"{shown}:{number}")
            fields[head[1]] = head[2]
    return SeedSet(
        fields.get("seed", path.stem),
        path,
        shown,
        fields.get("environments", UNPROTECTED),
        {name: int(number) for name, number in _scales(fields.get("scales", ""))},
    )


def _scales(text: str) -> list[tuple[str, str]]:
    return re.findall(r"(\w+)=(\d+)(?!\S)", text)


def _check(key: str, value: str, where: str) -> None:
    if not value:
        raise BadConfiguration(f"{where}: {key}: expected a value")
    if key == "environments" and value not in (ANYWHERE, UNPROTECTED):
        raise BadConfiguration(
            f"{where}: environments: {value!r}, expected {ANYWHERE} or {UNPROTECTED}"
        )
    if key == "scales" and len(_scales(value)) != len(value.split()):
        raise BadConfiguration(f"{where}: scales: {value!r}, expected NAME=NUMBER ...")


def chosen(
    sets: Mapping[str, SeedSet], wanted: Sequence[str], *, environment: str, protection: str
) -> list[SeedSet]:
    """Return the named sets in their order, raising Refused for one that may not be loaded.

    `protection` says why the target counts as protected; it is empty if it does not.
    """
    for name in wanted:
        if name not in sets:
            raise Refused(f"unknown seed set {name!r}, known: {', '.join(sets) or 'none'}")
        if protection and sets[name].environments == UNPROTECTED:
            raise Refused(
                f"seed set {name!r} is for unprotected environments alone and {protection}: "
                f"{_way_out(environment, protection)}"
            )
    return [sets[name] for name in dict.fromkeys(wanted)]


def _way_out(environment: str, protection: str) -> str:
    if "no stamp" in protection:
        return f"run {typed.task('env.stamp')} if it is yours to fill"
    return f"load it elsewhere than into {environment!r}; --confirm does not change this"
