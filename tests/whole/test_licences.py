"""What the wheel installs binds nobody more than the LGPL does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

_STRONG = re.compile(
    r"\b(A?GPL|SSPL|EUPL|OSL|CPAL)|\bGNU (Affero )?General Public|\bAffero|\bCommercial", re.I
)


def required(name: str, seen: set[str]) -> Iterator[Distribution]:
    """Yield what a distribution requires, directly or not, each once."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name.lower() not in seen:
            seen.add(requirement.name.lower())
            yield distribution(requirement.name)
            yield from required(requirement.name, seen)


def licences(package: Distribution) -> list[str]:
    """Return the alternatives that a distribution is offered under."""
    metadata = package.metadata
    classified = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    written = metadata.get("License-Expression") or metadata.get("License") or ""
    # a licence that is written out whole names itself in its first line
    words = written.strip().partition("\n")[0] or " AND ".join(classified)
    return [alternative for alternative in re.split(r"\bOR\b", words) if alternative.strip()]


def strong(alternatives: list[str]) -> bool:
    """Whether each of them is unknown, or asks of users what the LGPL does not."""
    return all(_STRONG.search(alternative) for alternative in alternatives)


def test_no_requirement_has_a_licence_stronger_than_the_lgpl() -> None:
    found = {package.metadata["Name"]: licences(package) for package in required("pgtasks", set())}

    assert {"invoke", "paramiko", "postgast", "protobuf", "SQLAlchemy"} <= found.keys()
    assert {name: offered for name, offered in found.items() if strong(offered)} == {}


def test_such_a_licence_is_told_apart() -> None:
    assert strong(["GPL-3.0-or-later"])
    assert strong(["GNU General Public License v3 or later (GPLv3+)"])
    assert strong(["AGPL-3.0-only", " GPL-2.0 WITH Classpath-exception-2.0"])
    assert strong([])
    assert not strong(["LGPL-2.1", "MIT"])
    assert not strong(["GPL-2.0-only ", " MIT"])
    assert not strong(["GNU Library or Lesser General Public License (LGPL)"])
