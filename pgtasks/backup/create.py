"""Create a backup: the dump and the proof of one snapshot, then the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks import report
from pgtasks.backup.dump.job import PLAIN, DumpOptions, Job, prepared
from pgtasks.backup.dump.write import reconciled, write
from pgtasks.backup.format import names
from pgtasks.backup.prune import facts, loss
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Draft, Store
from pgtasks.errors import Failed, Unreachable
from pgtasks.host import tools
from pgtasks.host.pipeline import Pipeline
from pgtasks.report import CONSOLE, Console
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.server.dump import attempt, layout, pack, pg_dump, standby
from pgtasks.server.dump.attempt import Attempt, Dumped
from pgtasks.server.dump.watch import Retry
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

__all__ = ["DumpOptions", "create", "plan"]

# An attempt that fails before data is written costs little. With a session that truncates tables
# all the time, most attempts fail between snapshot and lock.
_EARLY, _LATE = 10, 3
_BREATH = 0.03  # seconds before the next attempt, times the number of attempts so far


def plan(reached: Reached, *, store: Store, options: DumpOptions = PLAIN) -> Sequence[str]:
    """Return the plan of `create`, line by line; reads the server, writes nothing."""
    target = reached.target
    job = prepared(reached, store, options)
    path = f"{store.home(target.environment, target.database)}/ID"
    plan = job.plan(Path(path), packed=job.packs)
    proof = "taken in the dump's own snapshot" if options.proof else "none"
    streamed = ", its output comes here" if job.streamed else ""
    return [
        f"source   {target}, {report.size(job.source.bytes)}, PostgreSQL {job.source.major}",
        f"tools    pg_dump {job.toolset}, {job.jobs} jobs, compression {plan.compression}",
        f"folder   {store.prefix}{path}",
        f"run      {' '.join(plan.argv('SNAPSHOT'))}{streamed}",
        f"run      {' '.join(job.globals({}).argv)}",
        f"proof    {proof}",
    ]


def create(
    reached: Reached,
    *,
    store: Store,
    options: DumpOptions = PLAIN,
    console: Console = CONSOLE,
) -> Backup:
    """Create a backup in a store and return it when it is complete and durable.

    pg_dump runs on the target's host. The caller has passed the guard and holds the lock. The
    console shows progress and notes (a new snapshot, tables left out). Raises Refused (unreadable
    tables, a pattern that matches nothing), Failed, Unreachable, VersionMismatch, and then leaves
    no files.
    """
    target, began = reached.target, time.monotonic()
    for left in store.sweep():
        console.say(left)
    job = prepared(reached, store, options)
    for note in _notes(job):
        console.say(note)
    before = None if options.partial or options.taken else loss.previous(store, target)
    lossy = facts.stopping(() if options.taken else _own(store, target))
    begun: list[str] = []
    with (
        telling(lambda: _left(store, target, begun)),
        store.draft(target.environment, target.database) as draft,
    ):
        begun.append(draft.id)
        boundary("backup.begun")
        dumped = _filled(reached, job, draft, console)
        boundary("backup.dumped")
        lost = write(job, dumped, draft, began, before)
        boundary("backup.written")
        made = draft.finish()
        boundary("backup.renamed")
    if lost:
        console.say(f"warning: {loss.warning(made)}")
    elif lossy:
        console.say(f"warning: {loss.warning(lossy[0])}")
    return made


def _filled(reached: Reached, job: Job, draft: Draft, console: Console) -> Dumped:
    """Dump into a draft, with the roles of the server and the proof, and say the warnings."""
    target, host, options = reached.target, reached.host, job.options
    with host.passfile(target, also=(target.maintenance,)) as passfile:
        env = tools.environment(reached.there, passfile, read_only=True)
        env["PGOPTIONS"] += connection.of_programs(target)
        with _globals(job, env, draft.path) as finish_globals:
            dumped = _dumped(job, env, draft, console)
            warnings = [*options.said, *dumped.warnings, *finish_globals()]
            if not options.schema_only:
                warnings += standby.left_out(job.source.unlogged)
        dumped = reconciled(job, dumped)
    for warning in warnings[len(options.said) :]:  # an import says its own
        console.say(f"warning: {warning}")
    return replace(dumped, warnings=tuple(warnings))


def _left(store: Store, target: Target, begun: Sequence[str]) -> str:
    """Return what a store has of the backup that was begun."""
    kept = [backup.id for backup in _own(store, target) if backup.id in begun]
    return f"backup {kept[0]} is complete" if kept else "no backup was kept"


def _own(store: Store, target: Target) -> list[Backup]:
    return store.list().of(target.environment, target.database)


def _notes(job: Job) -> Iterator[str]:
    if job.short_of_locks and not job.streamed:
        yield (
            f"{job.source.tables:,} tables, and the server has room for {job.source.locks:,} locks:"
            f" one process dumps, not {job.target.jobs} (see max_locks_per_transaction)"
        )
    if job.many_files and not job.streamed:
        yield (
            f"{layout.MOST_FILES:,} tables and large objects or more: one process dumps into "
            f"one file, not {job.target.jobs} into a folder"
        )
    if job.sealed:
        yield (
            f"warning: no pg_restore on {job.store.host.name} unpacks {job.compression}: "
            "backup.verify and db.restore need one that does"
        )


@contextmanager
def _globals(job: Job, env: Mapping[str, str], path: Path) -> Iterator[Callable[[], list[str]]]:
    """Save the roles beside the dump; the yielded function waits for that and returns warnings."""
    if job.options.taken:  # of a throw-away server, whose roles are not those of the dump
        yield list
        return
    file = path / names.GLOBALS
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
                words = pg_dump.faults(exc.hint.splitlines()).partition("\n")[0]
                return [f"the roles of the server are not in this backup: {words or exc.message}"]
            return []

        yield finish


def _dumped(job: Job, env: Mapping[str, str], draft: Draft, console: Console) -> Dumped:
    """Repeat the dump until it is consistent; raises Failed with the names of the tables."""
    early, late, retry = 0, 0, None
    packed = job.packs and pack.possible(draft.folder)
    plan = job.plan(draft.folder, packed=packed)
    with console.progress("backup", sum(job.source.sizes.values())) as progress:
        while early <= _EARLY and late <= _LATE:
            trial = Attempt(
                target=job.target,
                host=job.host,
                plan=plan,
                source=job.source,
                env=env,
                with_proof=job.options.proof,
                # early attempts give up if a table is locked; the last ones wait for the lock
                lock=late < _LATE and early < _EARLY,
                progress=progress,
            )
            try:
                return attempt.run(trial)
            except Retry as exc:
                retry = exc
            except (Failed, Unreachable) as exc:
                raise standby.explained(exc, job.target, job.source.conflicts) from None
            early, late = early + retry.early, late + (not retry.early)
            console.say(f"{retry.why}: once more with a new snapshot")
            draft.clear(plan.path)
            plan = job.plan(draft.folder, jobs=1) if retry.serial else plan
            time.sleep(_BREATH * (early + late))
    assert retry is not None
    raise Failed(f"no consistent backup in {early + late} attempts: {retry.why}", hint=retry.hint)
