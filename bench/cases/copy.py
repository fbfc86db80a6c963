"""`inv db.copy` from one server to another, against what people type and against pgcopydb."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from bench import sets
from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, alone, compared, extra, peak
from bench.server import running
from bench.workspace import Workspace

NAME = "copy"
TARGET, HERE = "copied", "copied_here"
OURS = "`inv db.copy prod dev`"
BARE = "`inv db.copy prod dev --no-proof --no-analyze`"
ANALYZED = "`inv db.copy prod dev --no-proof`"
PIPE = "`pg_dump \\| psql`"
FOLDER = "`pg_dump -Fd -j2 -Z0 && pg_restore -j2`"
PGCOPYDB = "`pgcopydb clone`"
DELTA = "`inv db.copy prod dev --delta`"
TEMPLATE = "`inv db.copy prod dev` on one server"
CREATEDB = "`createdb -T -S file_copy`"
_CHANGED = {  # about 5 % of the bytes, of `many` 5 % of the tables
    "clinic": ["UPDATE clinic.appointments SET updated_at = now()"],
    "pgbench": ["UPDATE pgbench_tellers SET tbalance = tbalance + 1"],
    "many": [f"UPDATE t{i} SET at = now()" for i in range(1, 16)],
}
_CORES = len(os.sched_getaffinity(0))


def run(bench: Bench) -> list[Row]:
    """Return the rows of each set."""
    with running(bench.space.server.bin) as (target, _):
        space = replace(bench.space, target=target)
        for server in (space.server, target):
            sets.roles(server)
        space.environment(TARGET, target)
        space.environment(HERE, space.server)
        for name in (TARGET, HERE):
            space.inv("db.create", "--env", name)
        names = [name for name in sets.names(bench.scale) if bench.sets.search(name)]
        return [row for name in names for row in _rows(bench, space, name)]


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
        *_by_files(bench, space, name),
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
        _quiet(space)

    def forget() -> None:
        _forget(space, TARGET)

    def ours(*flags: str) -> Sample:
        return limited(_copy(space, name, TARGET, "--rows", *flags))

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


def _by_files(bench: Bench, space: Workspace, name: str) -> list[Row]:
    """Return the rows of the ways that copy files: of the source, and of the target."""

    def changed() -> None:
        _forget(space, TARGET)
        space.server.execute(*_CHANGED[name], database=name)
        _quiet(space)

    def stock() -> None:
        space.drop("stock")
        _quiet(space)

    createdb = f"createdb -T {name} -S file_copy stock"
    pipe = f"createdb -T template0 stock && pg_dump {name} | psql -qX -v ON_ERROR_STOP=1 stock"
    samples = bench.contest(
        f"{NAME} {name} by files",
        [
            Contender(OURS, lambda: _copy(space, name, TARGET, "--rows"), changed),
            Contender(DELTA, lambda: _copy(space, name, TARGET, "--delta"), changed),
            Contender(TEMPLATE, lambda: _copy(space, name, HERE), lambda: _forget(space, HERE)),
            Contender(PIPE, lambda: space.shell(pipe), stock),
            Contender(CREATEDB, lambda: space.shell(createdb), stock),
        ],
    )
    pairs = [(DELTA, OURS), (TEMPLATE, PIPE), (TEMPLATE, CREATEDB)]
    return [
        compared(NAME, f"copy of {name}", (ours, samples[ours]), (theirs, samples[theirs]))
        for ours, theirs in pairs
    ]


def _copy(space: Workspace, source: str, target: str, *flags: str) -> Sample:
    return space.inv("db.copy", source, target, "--as-superuser", "--confirm", target, *flags)


def _forget(space: Workspace, environment: str) -> None:
    space.inv("db.forget", "--yes", "--env", environment)
    _quiet(space)


def limited(sample: Sample) -> Sample:
    """Add how many times as long it took as its CPU seconds take on all cores."""
    limit = (sample.client + sample.server) / _CORES
    return replace(sample, extra={**sample.extra, "limit": sample.seconds / limit})


def _quiet(space: Workspace) -> None:
    for server in (space.server, space.target):
        if server:
            server.quiet()
