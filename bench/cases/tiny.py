"""What a task costs beyond the tools it runs: on a database with next to nothing in it."""

from __future__ import annotations

from bench.contest import Bench, Contender
from bench.measure import Argv
from bench.rows import Row, compared
from bench.workspace import TINY, Workspace

NAME = "tiny"
_PER_REP = 3


def run(bench: Bench) -> list[Row]:
    """Return a row for each task."""
    bench.space.load(TINY)
    return [_row(bench, what, pair) for what, pair in _pairs(bench.space).items()]


def _pairs(space: Workspace) -> dict[str, tuple[Contender, Contender]]:
    dump = space.dumps / "typed.dump"
    restored: list[Argv] = [["createdb", "stock"], ["pg_restore", "-d", "stock", dump]]
    return {
        "backup": (
            Contender("`inv db.backup`", lambda: space.inv("db.backup", "--env", TINY)),
            Contender("`pg_dump -Fc`", lambda: space.stock(["pg_dump", "-Fc", "-f", dump, TINY])),
        ),
        "restore": (
            Contender(
                "`inv db.restore`",
                lambda: space.inv("db.restore", "--env", TINY),
                lambda: space.forget(TINY),
            ),
            Contender(
                "`createdb && pg_restore`",
                lambda: space.stock(*restored),
                lambda: space.drop("stock"),
            ),
        ),
        "check": (
            Contender("`inv db.check`", lambda: space.inv("db.check", "--env", TINY)),
            Contender(
                "`psql -c 'SELECT 1'`", lambda: space.stock(["psql", "-c", "SELECT 1", TINY])
            ),
        ),
    }


def _row(bench: Bench, what: str, pair: tuple[Contender, Contender]) -> Row:
    found = bench.contest(NAME, pair, reps=bench.reps * _PER_REP)
    ours, theirs = ((one.name, found[one.name]) for one in pair)
    return compared(NAME, f"{what} of a nearly empty database", ours, theirs)
