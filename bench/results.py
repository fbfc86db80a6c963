"""The result of one run: a table for people, a document for programs, the README's block."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine, rows
from bench.contest import Samples
from bench.rows import Row
from bench.workspace import ROOT

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """What one run found: facts of the machine, rows, and the samples that they come from."""

    scale: str
    reps: int
    facts: Mapping[str, Any]
    rows: Sequence[Row]
    samples: Mapping[str, Samples] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": FORMAT,
            "scale": self.scale,
            "reps": self.reps,
            "machine": dict(self.facts),
            "rows": [row.as_json() for row in self.rows],
            "samples": {
                case: {name: [one.as_json() for one in found] for name, found in samples.items()}
                for case, samples in self.samples.items()
            },
        }


def ended(facts: Mapping[str, Any], samples: Mapping[str, Samples]) -> dict[str, Any]:
    """Return the facts with what the machine was busy with besides."""
    all_of_them = [one for named in samples.values() for found in named.values() for one in found]
    whole = sum(one.seconds for one in all_of_them) * facts["cores"]
    share = sum(one.others for one in all_of_them) / whole if whole else 0.0
    after = round(os.getloadavg()[0], 2)
    return {**facts, "load_after": after, "others": f"{share:.0%}"}


def text(result: Result) -> str:
    """Return the table and the line about the machine."""
    head = f"Sample application at `{result.scale}`, {result.reps} repetitions in turns."
    return f"{head}\n\n{rows.table(result.rows)}\n\n{machine.line(result.facts)}"


def write(path: Path, result: Result) -> None:
    """Write the document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path) -> Result:
    """Read the document, without its samples."""
    data = json.loads(path.read_text("utf-8"))
    found = [Row.from_json(row) for row in data["rows"]]
    return Result(data["scale"], data["reps"], data["machine"], found)


def block(path: Path) -> str:
    """Return the table of a document between the markers that a README holds it by."""
    begin, end = markers(path)
    return f"{begin}\n{text(read(path))}\n{end}"


def brief_block(path: Path) -> str:
    """Return the short table of a document between the markers that the README holds it by."""
    name = path.resolve().relative_to(ROOT)
    return f"<!-- {name}: in short -->\n{rows.brief(read(path).rows)}\n<!-- end of {name} -->"


def markers(path: Path) -> tuple[str, str]:
    """Return the lines before and after the table of a document in a README."""
    whole = path.resolve()
    name = whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole.name
    return f"<!-- {name}: printed by bench/run.py --table -->", f"<!-- end of {name} -->"
