"""Seed sets: SQL and Python files whose head gives their name, environments and scales.

-- seed: clinic                                the name of the set (else the file's own)
-- environments: any | unprotected             where it may be loaded (else unprotected)
-- scales: small=2 medium=20 large=280         the value of :scale for each scale (else none)
-- needs: core                                 the sets that are loaded before it
-- repeatable: yes                             it may be loaded again once it has changed (else no)

In Python the lines begin with #.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.host import sources
from pgtasks.report import typed
from pgtasks.settings.project import Project

_HEAD = re.compile(r"^(?:--|#)\s*(seed|environments|scales|needs|repeatable):\s*(.*?)\s*$")
_KINDS = (".sql", ".py")
_DIGITS = 16
ANYWHERE, UNPROTECTED = "any", "unprotected"


@dataclass(frozen=True)
class SeedSet:
    """One set. `environments` is any or unprotected; `scales` has the values of :scale by name.

    `needs` are the sets that are loaded before it. `digest` is that of its file.
    """

    name: str
    path: Path
    shown: str
    environments: str = UNPROTECTED
    scales: Mapping[str, int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    repeatable: bool = False
    digest: str = ""

    @property
    def python(self) -> bool:
        """Whether it is Python rather than SQL."""
        return self.path.suffix == ".py"

    def scale(self, name: str) -> int | None:
        """Return the value of :scale, None for a set without scales; raise Refused if unknown."""
        if not self.scales:
            return None
        if name not in self.scales:  # of a set that it needs, too
            known = ", ".join(self.scales)
            raise Refused(f"seed set {self.name!r} has no scale {name!r}, known: {known}")
        return self.scales[name]


def known(project: Project) -> dict[str, SeedSet]:
    """Return the project's seed sets by name, raising BadConfiguration for an invalid head."""
    sets: dict[str, SeedSet] = {}
    folder = project.folder("sql") / "seeds"
    try:
        paths = sources.listed(folder, *_KINDS)
    except OSError as exc:
        raise BadConfiguration(f"{folder}: {exc.strerror or exc}") from None
    for path in paths:
        shown = str(path.relative_to(project.root) if path.is_relative_to(project.root) else path)
        try:
            text = sources.text(path, errors="replace")
        except OSError as exc:
            raise BadConfiguration(f"{shown}: {exc.strerror or exc}") from None
        made = parse(text, path, shown)
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
        if line.strip() and not line.startswith(("--", "#")):
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
        tuple(fields.get("needs", "").replace(",", " ").split()),
        fields.get("repeatable") == "yes",
        hashlib.sha256(text.encode()).hexdigest()[:_DIGITS],
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
    if key == "repeatable" and value not in ("yes", "no"):
        raise BadConfiguration(f"{where}: repeatable: {value!r}, expected yes or no")
    if key == "scales" and len(_scales(value)) != len(value.split()):
        raise BadConfiguration(f"{where}: scales: {value!r}, expected NAME=NUMBER ...")


def chosen(
    sets: Mapping[str, SeedSet], wanted: Sequence[str], *, environment: str, protection: str
) -> list[SeedSet]:
    """Return the named sets in their order, each after those that it needs.

    Raises Refused for one that may not be loaded. `protection` says why the target counts as
    protected; it is empty if it does not.
    """
    ordered = list(dict.fromkeys(_with_needs(sets, wanted, ())))
    for name in ordered:
        if name not in sets:
            raise Refused(f"unknown seed set {name!r}, known: {', '.join(sets) or 'none'}")
        if protection and sets[name].environments == UNPROTECTED:
            raise Refused(
                f"seed set {name!r} is for unprotected environments alone and {protection}: "
                f"{_way_out(environment, protection)}"
            )
    return [sets[name] for name in ordered]


def _with_needs(
    sets: Mapping[str, SeedSet], wanted: Sequence[str], above: tuple[str, ...]
) -> Iterator[str]:
    """Yield names, each after those that its set needs; `above` are the sets that need them."""
    for name in wanted:
        if name in above:
            raise BadConfiguration(f"seed sets need each other: {' -> '.join((*above, name))}")
        if name in sets:
            yield from _with_needs(sets, sets[name].needs, (*above, name))
        yield name


def _way_out(environment: str, protection: str) -> str:
    if "no stamp" in protection:
        return f"run {typed.task('env.stamp')} if it is yours to fill"
    return f"load it elsewhere than into {environment!r}; --confirm does not change this"
