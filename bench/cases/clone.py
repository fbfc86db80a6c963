"""Clones: taken and gone back to, beside CREATE DATABASE ... TEMPLATE by hand."""

from __future__ import annotations

from bench.contest import Bench, Contender
from bench.rows import Row, compared
from bench.workspace import Workspace

NAME = "clone"
TAKE, BACK = "`inv clone.take`", "`inv clone.back`"
GIVE_UP = "`inv clone.back --give-up`"
CREATEDB = "`createdb -T -S file_copy`"


def run(bench: Bench) -> list[Row]:
    """Return rows of each task beside createdb."""
    bench.space.load(bench.scale)
    samples = bench.contest(NAME, list(_contenders(bench.space, bench.scale)))
    return [
        compared(NAME, what, (ours, samples[ours]), (CREATEDB, samples[CREATEDB]))
        for what, ours in (
            ("take a clone", TAKE),
            ("go back to a clone", BACK),
            ("go back to a clone and give it up", GIVE_UP),
        )
    ]


def _contenders(space: Workspace, scale: str) -> tuple[Contender, ...]:
    def dropped() -> None:
        space.drop("stock")
        space.forget(scale)
        if space.server.value(f"SELECT count(*) FROM pg_database WHERE datname LIKE '{scale}__c%'"):
            space.inv("clone.drop", "one", "--yes", "--env", scale)
        space.server.quiet()

    def taken() -> None:
        dropped()
        space.inv("clone.take", "one", "--env", scale)
        space.server.quiet()

    way = ["createdb", "-T", scale]
    if int(space.server.version.split(".")[0]) >= 15:  # older ones know no other way
        way += ["-S", "file_copy"]
    return (
        Contender(CREATEDB, lambda: space.stock([*way, "stock"]), dropped),
        Contender(TAKE, lambda: space.inv("clone.take", "one", "--env", scale), dropped),
        Contender(BACK, lambda: space.inv("clone.back", "one", "--env", scale), taken),
        Contender(
            GIVE_UP, lambda: space.inv("clone.back", "one", "--give-up", "--env", scale), taken
        ),
    )
