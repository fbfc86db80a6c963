"""`inv db.restore`, with all that it checks, against createdb and pg_restore."""

from __future__ import annotations

from bench.contest import Bench, Contender, parted
from bench.measure import Argv, Sample
from bench.rows import Row, alone, compared, extra
from bench.workspace import Workspace

NAME = "restore"
OURS = "`inv db.restore`"
TYPED = "`createdb && pg_restore -j2`"
ANALYZED = "the same `&& vacuumdb -Z -j2`"
PARTS = (
    ("start", "verify.begun"),
    ("checksums", "verify.done"),
    ("checks, what would be lost", "restore.checked"),
    ("load", "restore.loaded"),
    ("statistics", "proof.begun"),
    ("proof", "restore.proven"),
    ("swap", "restore.swapped"),
    ("end", ""),
)


def run(bench: Bench) -> list[Row]:
    """Return the times, and our parts of them."""
    bench.space.load(bench.scale)
    bench.space.backed_up(bench.scale)
    found = bench.contest(NAME, _contenders(bench.space, bench.scale))
    ours = (OURS, found[OURS])
    return [
        *(compared(NAME, "restore", ours, (b, found[b])) for b in (TYPED, ANALYZED)),
        *(alone(NAME, f"of it: {part}", ours, pick=extra(part)) for part, _ in PARTS),
    ]


def _contenders(space: Workspace, scale: str) -> list[Contender]:
    argvs = stock(space, scale)
    analyzed = (*argvs, ["vacuumdb", "--analyze-only", "-q", "-j2", "stock"])

    def ours() -> Sample:
        return parted(space.stepped("db.restore"), PARTS)

    return [
        Contender(OURS, ours, lambda: space.forget(scale)),
        Contender(TYPED, lambda: space.stock(*argvs), lambda: space.drop("stock")),
        Contender(ANALYZED, lambda: space.stock(*analyzed), lambda: space.drop("stock")),
    ]


def stock(space: Workspace, scale: str) -> tuple[Argv, Argv]:
    """Return what users type to restore a dump into a new database called `stock`."""
    return ["createdb", "stock"], ["pg_restore", "-j2", "-d", "stock", space.dumped(scale)]
