"""`inv --list` and TAB completion, against Invoke with a task that does nothing."""

from __future__ import annotations

from bench.contest import Bench, Contender
from bench.rows import Row, compared

NAME = "startup"
TYPED = {
    "`inv --list`": ("--list",),
    'TAB after "db.b"': ("--complete", "--", "inv db.b"),
    'TAB after "db.backup --"': ("--complete", "--", "inv db.backup --"),
}
_PER_REP = 5  # they take milliseconds, and vary by as many


def run(bench: Bench) -> list[Row]:
    """Return a row for each thing typed."""
    return [_row(bench, typed, words) for typed, words in TYPED.items()]


def _row(bench: Bench, typed: str, words: tuple[str, ...]) -> Row:
    space = bench.space
    ours = Contender(f"{typed}, pgtasks", lambda: space.inv(*words))
    theirs = Contender(f"{typed}, bare", lambda: space.inv(*words, cwd=space.bare))
    for one in (ours, theirs):
        one.run()  # byte code is written, files are in the page cache
    found = bench.contest(NAME, [ours, theirs], reps=bench.reps * _PER_REP)
    pair = ("pgtasks", found[ours.name]), ("bare Invoke", found[theirs.name])
    return compared(NAME, typed, *pair, unit="ms")
