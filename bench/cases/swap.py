"""What clients see of a swap, eight of which reconnect without a pause; and undo beside it."""

from __future__ import annotations

import json
from dataclasses import replace

from bench.cases.restore import stock
from bench.clients import Clients
from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, alone, compared, extra
from bench.workspace import Workspace

NAME = "swap"
UNDO, RESTORE = "`inv db.undo`", "`inv db.restore`"
TYPED = "`dropdb --force && createdb && pg_restore -j2`"
SMALL = "small"  # a swap takes what it takes, whatever the size


def run(bench: Bench) -> list[Row]:
    """Return rows of the undo against a second restore, then of what the clients saw."""
    space, scale = bench.space, bench.scale
    for environment in dict.fromkeys([scale, SMALL]):
        space.load(environment)
        space.backed_up(environment)
    found = bench.contest(NAME, _undoing(space, scale))
    undone, typed = (UNDO, found[UNDO]), (TYPED, found[TYPED])
    restored = (RESTORE, bench.contest(NAME, [_restoring(space)])[RESTORE])
    rows = [
        compared(NAME, "take a restore back", undone, typed),
        compared(NAME, "no database for clients meanwhile", undone, typed, pick=extra("gap")),
    ]
    for one in (undone, restored):
        rows += [
            alone(
                NAME, "the swap itself, 8 clients reconnecting", one, pick=extra("swap"), unit="ms"
            ),
            alone(NAME, "longest time without an answer", one, pick=extra("gap"), unit="ms"),
            alone(NAME, "probes that failed", one, pick=extra("failed"), unit="times"),
        ]
    return rows


def _undoing(space: Workspace, scale: str) -> list[Contender]:
    argvs = (["dropdb", "--force", "stock"], *stock(space, scale))

    def kept() -> None:
        if not kept_there:
            space.forget(scale)
            space.inv("db.restore", "--env", scale)
            kept_there.append(True)
        space.server.quiet()

    def typed() -> Sample:
        sample = space.stock(*argvs)
        # what is half loaded is no database to work with
        return replace(sample, extra={"gap": sample.seconds})

    def there() -> None:
        if not space.server.value("SELECT count(*) FROM pg_database WHERE datname = 'stock'"):
            space.stock(*stock(space, scale))
        space.server.quiet()

    kept_there: list[bool] = []
    return [
        Contender(UNDO, lambda: _watched(space, scale, "db.undo"), kept),
        Contender(TYPED, typed, there),
    ]


def _restoring(space: Workspace) -> Contender:
    return Contender(
        RESTORE, lambda: _watched(space, SMALL, "db.restore"), lambda: space.forget(SMALL)
    )


def _watched(space: Workspace, environment: str, task: str) -> Sample:
    """Run a task that swaps while clients look on."""
    with Clients(space.server.url(environment)) as clients:
        sample = space.inv(task, "--env", environment, "--json")
    swapped = json.loads(sample.output)["swap_seconds"]
    seen = {"swap": swapped, "gap": clients.gap, "failed": clients.failed, "probes": clients.probes}
    return replace(sample, extra=seen)
