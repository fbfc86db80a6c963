"""`inv db.copy` from one server to another, against what people type and against pgcopydb."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from bench import sets
from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, alone, compared, extra, peak
from bench.server import Server, running
from bench.workspace import Workspace

NAME = "copy"
TARGET = "copied"
OURS = "`inv db.copy`"
BARE = "`inv db.copy --no-proof --no-analyze`"
ANALYZED = "`inv db.copy --no-proof`"
PIPE = "`pg_dump \\| psql`"
FOLDER = "`pg_dump -Fd -j2 -Z0 && pg_restore -j2`"
PGCOPYDB = "`pgcopydb clone`"
_CORES = len(os.sched_getaffinity(0))


def run(bench: Bench) -> list[Row]:
    """Return the rows of each set."""
    with running(bench.space.server.bin) as (target, _):
        space = replace(bench.space, target=target)
        for server in (space.server, target):
            sets.roles(server)
        space.environment(TARGET, target)
        space.inv("db.create", "--env", TARGET)
        return [row for name in sets.names(bench.scale) for row in _rows(bench, space, name)]


def _rows(bench: Bench, space: Workspace, name: str) -> list[Row]:
    space.environment(name, space.server)
    space.inv("db.create", "--env", name)
    sets.load(space.server, name, bench.scale)
    case = f"{NAME} {name}"
    samples = bench.contest(case, _contenders(space, name))
    others = [each for each in samples if each not in (OURS, BARE, ANALYZED)]
    pairs = [(BARE, other) for other in others] + [(ANALYZED, PGCOPYDB), (OURS, PIPE), (OURS, BARE)]
    rows = [
        compared(NAME, f"copy of {name}", (ours, samples[ours]), (theirs, samples[theirs]))
        for ours, theirs in pairs
        if theirs in samples
    ]
    return [
        *rows,
        alone(
            NAME,
            f"{name}: time of its CPU seconds on all cores",
            (BARE, samples[BARE]),
            pick=extra("limit"),
            unit="times",
        ),
        alone(NAME, f"{name}: peak memory", (OURS, samples[OURS]), pick=peak, unit="bytes"),
    ]


def _contenders(space: Workspace, name: str) -> list[Contender]:
    assert space.target
    target = space.target
    source, place = space.server.url(name), target.url("stock")
    folder, work = space.dumps / "folder", space.dumps / "pgcopydb"
    pipe = f"pg_dump -d '{source}' | psql -qX -v ON_ERROR_STOP=1 -d '{place}'"
    two = (
        f"pg_dump -Fd -j2 -Z0 -f '{folder}' -d '{source}' && pg_restore -j2 -d '{place}' '{folder}'"
    )
    clone = (
        f"pgcopydb clone --dir '{work}' --source '{source}' --target '{place}'"
        " --table-jobs 2 --index-jobs 2 --split-tables-larger-than 200MB"
    )

    def fresh() -> None:
        for made in (folder, work):
            shutil.rmtree(made, ignore_errors=True)
        target.execute("DROP DATABASE IF EXISTS stock WITH (FORCE)")
        target.execute("CREATE DATABASE stock TEMPLATE template0")
        _quiet(space.server, target)

    def forget() -> None:
        space.inv("db.forget", "--yes", "--env", TARGET)
        _quiet(space.server, target)

    def ours(*flags: str) -> Sample:
        return limited(
            space.inv("db.copy", name, TARGET, "--as-superuser", "--confirm", TARGET, *flags)
        )

    contenders = [
        Contender(OURS, ours, forget),
        Contender(ANALYZED, lambda: ours("--no-proof"), forget),
        Contender(BARE, lambda: ours("--no-proof", "--no-analyze"), forget),
        Contender(PIPE, lambda: space.shell(pipe), fresh),
        Contender(FOLDER, lambda: space.shell(two), fresh),
    ]
    if shutil.which("pgcopydb"):
        contenders.append(Contender(PGCOPYDB, lambda: space.shell(clone), fresh))
    return contenders


def limited(sample: Sample) -> Sample:
    """Add how many times as long it took as its CPU seconds take on all cores."""
    limit = (sample.client + sample.server) / _CORES
    return replace(sample, extra={**sample.extra, "limit": sample.seconds / limit})


def _quiet(*servers: Server) -> None:
    for server in servers:
        server.quiet()
