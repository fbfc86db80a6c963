"""The resident memory of `inv`'s own process at two sizes: it should not grow with the data."""

from __future__ import annotations

from bench.contest import Bench, Contender
from bench.rows import Row, compared, peak
from bench.workspace import TINY, Workspace

NAME = "memory"
SMALL = "small"


def run(bench: Bench) -> list[Row]:
    """Return a row each for backup and restore."""
    space = bench.space
    sizes = (bench.scale, TINY if bench.scale == SMALL else SMALL)
    for environment in sizes:
        space.load(environment)
        space.backed_up(environment)
    return [_row(bench, task, sizes) for task in ("db.backup", "db.restore")]


def _row(bench: Bench, task: str, sizes: tuple[str, str]) -> Row:
    big, small = (_contender(bench.space, task, environment) for environment in sizes)
    found = bench.contest(NAME, [big, small])
    pair = (f"at {sizes[0]}", found[big.name]), (f"at {sizes[1]}", found[small.name])
    return compared(NAME, f"peak memory of `inv {task}`", *pair, pick=peak, unit="bytes")


def _contender(space: Workspace, task: str, environment: str) -> Contender:
    def prepare() -> None:
        space.forget(environment)

    return Contender(
        f"`inv {task}` at {environment}", lambda: space.inv(task, "--env", environment), prepare
    )
