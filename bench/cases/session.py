"""A block of the service, against SQLAlchemy's own session: what opening and closing one takes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, compared, extra
from bench.workspace import TINY, Workspace

NAME = "session"
OURS, THEIRS = "pgtasks", "sqlalchemy"
# what is in a block, how often, what it is called
BLOCKS = (("empty", 20_000, "a block without a statement"), ("one", 4_000, "a block with one"))
# the environments name it for the application
_ROLE = "DO 'BEGIN IF to_regrole(''clinic_app'') IS NULL THEN CREATE ROLE clinic_app; END IF; END'"


def run(bench: Bench) -> list[Row]:
    """Return a row for each kind of block: CPU seconds of the client."""
    bench.space.load(TINY)
    bench.space.server.execute(_ROLE)
    return [_row(bench, bench.space, block) for block in BLOCKS]


def _row(bench: Bench, space: Workspace, block: tuple[str, int, str]) -> Row:
    kind, number, what = block

    def blocks(contender: str) -> Sample:
        words = (contender, kind, str(number))
        sample = space.python("bench.sessions", *words, PGTASKS_ENV=TINY)
        return replace(sample, extra=json.loads(sample.output))

    contenders = [Contender(name, partial(blocks, name)) for name in (OURS, THEIRS)]
    found = bench.contest(f"{NAME} {kind}", contenders)
    pair = (OURS, found[OURS]), (THEIRS, found[THEIRS])
    return compared(NAME, what, *pair, pick=extra("block"), unit="us")
