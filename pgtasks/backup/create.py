"""Make a backup: one snapshot, the dump and its proof, checked, written down, renamed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks import report, tools
from pgtasks.backup import attempt, dump, partial, store
from pgtasks.backup.attempt import Again, Attempt, Dumped
from pgtasks.backup.job import PLAIN, Job, Options, prepared
from pgtasks.backup.store import Backup
from pgtasks.backup.writing import reconciled, write
from pgtasks.errors import Failed
from pgtasks.host import Host
from pgtasks.pipeline import Pipeline
from pgtasks.steps import reach
from pgtasks.target import Target

__all__ = ["Options", "create", "plan"]

# An attempt that fails before data is written costs little, and a writer that truncates all the
# time hits the moment between snapshot and lock more often than not.
_EARLY, _LATE = 10, 3
_BREATH = 0.03  # seconds before the next one, times the number of those before


Say = Callable[[str], None]


def plan(target: Target, *, folder: Path, host: Host, options: Options = PLAIN) -> Sequence[str]:
    """Return what `create` would do, line by line; reads the server, writes nothing."""
    job = prepared(target, host, options)
    path = store.home(folder, target.environment, target.database) / "ID"
    argv = job.plan(path).argv("SNAPSHOT")
    proof = "taken in the dump's own snapshot" if options.proof else "none"
    return [
        f"source   {target}, {report.size(job.source.bytes)}, PostgreSQL {job.source.major}",
        f"tools    pg_dump {job.toolset}, {job.jobs} jobs, compression {job.compression}",
        f"folder   {path}",
        f"run      {' '.join(argv)}",
        f"run      {' '.join(job.globals({}).argv)}",
        f"proof    {proof}",
    ]


def create(
    target: Target,
    *,
    folder: Path,
    host: Host,
    options: Options = PLAIN,
    say: Say | None = None,
    quiet: bool = False,
) -> Backup:
    """Make a backup below `folder` and return it, finished and durable.

    The guard and the lock are the caller's. `say` gets what happens on the way (a new snapshot,
    what was left out); `quiet` shows no progress. Raises Refused (unreadable tables, a pattern
    that matches nothing), Failed, Unreachable, VersionMismatch; nothing is left then.
    """
    began = time.monotonic()
    say = say or _silent
    for left in partial.sweep(folder):
        say(f"removed {left.name!r}, an interrupted backup")
    job = prepared(target, host, options)
    if job.jobs < target.jobs:
        say(
            f"{job.source.tables:,} tables, and the server has room for {job.source.locks:,} locks:"
            f" one process dumps, not {target.jobs} (see max_locks_per_transaction)"
        )
    id = partial.new_id()
    home = store.home(folder, target.environment, target.database)
    with partial.making(home, id) as path, host.passfile(target) as passfile:
        reach("backup.begun")
        env = tools.environment(target, passfile, read_only=True)
        with _globals(job, env, path) as finish_globals:
            dumped = _dumped(job, env, path, say, quiet=quiet)
            warnings = [*dumped.warnings, *finish_globals()]
        dumped = reconciled(job, dumped, path)
        reach("backup.dumped")
        for warning in warnings:
            say(f"warning: {warning}")
        write(job, replace(dumped, warnings=tuple(warnings)), path, id, began)
        reach("backup.written")
        final = partial.finish(path, id)
        reach("backup.renamed")
    return store.load(final)


def _silent(line: str) -> None:
    """Say nothing."""


@contextmanager
def _globals(job: Job, env: Mapping[str, str], path: Path) -> Iterator[Callable[[], list[str]]]:
    """Save the roles beside the dump; what is yielded waits for that and returns warnings."""
    file = path / store.GLOBALS
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        os.fdopen(handle, "wb") as sink,
        Pipeline(job.host, [job.globals(env)], stdout=sink) as roles,
    ):

        def finish() -> list[str]:
            try:
                roles.check()
            except Failed as exc:
                if job.options.globals_passwords:
                    raise
                file.unlink()
                words = dump.faults(exc.hint.splitlines()).partition("\n")[0]
                return [f"the server's roles are not in this backup: {words or exc.message}"]
            return []

        yield finish


def _dumped(job: Job, env: Mapping[str, str], path: Path, say: Say, *, quiet: bool) -> Dumped:
    """Attempt the dump until one attempt is consistent, raising Failed that names the tables."""
    early, late, again = 0, 0, None
    plan = job.plan(path)
    with report.Progress("backup", sum(job.source.sizes.values()), quiet=quiet) as progress:
        while early <= _EARLY and late <= _LATE:
            trial = Attempt(
                target=job.target,
                host=job.host,
                plan=plan,
                source=job.source,
                env=env,
                with_proof=job.options.proof,
                # locking ahead gives up where somebody waits; the last attempts wait themselves
                lock=late < _LATE and early < _EARLY,
                progress=progress.update,
            )
            try:
                return attempt.run(trial)
            except Again as exc:
                again = exc
            early, late = early + again.early, late + (not again.early)
            say(f"{again.why}: once more with a new snapshot")
            _clear(plan.path)
            plan = job.plan(path, jobs=1) if again.serial else plan
            time.sleep(_BREATH * (early + late))
    assert again is not None
    raise Failed(f"no consistent backup in {early + late} attempts: {again.why}")


def _clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
