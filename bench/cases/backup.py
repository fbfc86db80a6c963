"""`inv db.backup`, with and without its proof, against pg_dump as typed and at its best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.contest import Bench, Contender, parted
from bench.measure import Sample, tree_size
from bench.rows import Row, alone, compared, extra, size
from bench.workspace import Workspace

NAME = "backup"
OURS, UNPROVEN = "`inv db.backup`", "`inv db.backup --no-proof`"
TYPED, BEST = "`pg_dump -Fc`", "`pg_dump -Fd -j2 -Z1`"
PARTS = (
    ("start, checks", "backup.begun"),
    ("dump and proof", "backup.dumped"),
    ("checksums, manifest, sync", "backup.written"),
    ("end", ""),
)


def run(bench: Bench) -> list[Row]:
    """Return the times, our parts of them, then the sizes."""
    bench.space.load(bench.scale)
    found = bench.contest(NAME, _contenders(bench.space, bench.scale))
    pairs = [(OURS, TYPED), (OURS, BEST), (UNPROVEN, TYPED), (UNPROVEN, BEST)]
    ours = (OURS, found[OURS])
    return [
        *(compared(NAME, "backup", (a, found[a]), (b, found[b])) for a, b in pairs),
        compared(NAME, "what the proof costs", ours, (UNPROVEN, found[UNPROVEN])),
        *(alone(NAME, f"of it: {part}", ours, pick=extra(part)) for part, _ in PARTS),
        *(
            compared(NAME, "size of the backup", ours, (b, found[b]), pick=size, unit="bytes")
            for b in (TYPED, BEST)
        ),
    ]


def _contenders(space: Workspace, scale: str) -> list[Contender]:
    own, file, folder = space.backups(scale), space.dumps / "typed", space.dumps / "best"

    def proven() -> Sample:
        return parted(_sized(space.stepped("db.backup"), own), PARTS)

    def unproven() -> Sample:
        return space.inv("db.backup", "--no-proof")

    def typed() -> Sample:
        return _sized(space.stock(["pg_dump", "-Fc", "-f", file, scale]), file)

    def best() -> Sample:
        return _sized(space.stock(["pg_dump", "-Fd", "-j2", "-Z1", "-f", folder, scale]), folder)

    return [
        Contender(OURS, proven, lambda: space.clear(own)),
        Contender(UNPROVEN, unproven, lambda: space.clear(own)),
        Contender(TYPED, typed, lambda: space.clear(file)),
        Contender(BEST, best, lambda: space.clear(folder)),
    ]


def _sized(sample: Sample, path: Path) -> Sample:
    return replace(sample, size=tree_size(path))
