"""Create, load and prove the side database of a copy; begin anew if the source was altered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pgtasks import report
from pgtasks.copy import delta, load, prove, survey, template
from pgtasks.copy.arrive import Arrived
from pgtasks.copy.arrive import run as run_arrival
from pgtasks.copy.delta import NotAlike
from pgtasks.copy.load import Revise
from pgtasks.copy.loaded import Loaded
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.prove import Proven
from pgtasks.database import drop, intact, lay, loader, side
from pgtasks.database.side import TemplateInUse
from pgtasks.errors import Failed, NotProven, Unreachable
from pgtasks.host.local import HERE
from pgtasks.report import Console, Say
from pgtasks.report.boundaries import boundary
from pgtasks.server.dump import describe, standby
from pgtasks.server.dump.watch import Retry
from pgtasks.server.lock import Lock
from pgtasks.server.proof.reader import TableChanged, TableLocked
from pgtasks.server.proof.toc import Entry

_ATTEMPTS = 10
_ALTERED = (Retry, TableChanged, TableLocked)  # while it was read


Loader = Callable[[CopyPlan, Path, Revise, Console], Loaded]


@dataclass(frozen=True)
class Built:
    """A side database that is equal to the source."""

    plan: CopyPlan
    loaded: Loaded
    proven: Proven
    arrived: Arrived | None = None


def arrive(built: Built, lock: Lock, console: Console) -> Built:
    """Run the project's own files on the side database, which was proven before."""
    plan, arrival = built.plan, built.plan.options.arrival
    if arrival is None:
        return built
    with _logged_in(plan, lock, console.say) as entered:
        role = entered.loading.role or entered.load.owner
        arrived = run_arrival(arrival, replace(entered.loading, role=role))
    for line in arrived.lines():
        console.say(line)
    return replace(built, arrived=arrived)


def build(plan: CopyPlan, lock: Lock, console: Console) -> Built:
    """Build the side database and prove it."""
    if plan.way != "rows":
        by_file = _by_template if plan.way == "template" else _by_delta
        try:
            return by_file(plan, lock, console)
        except (*_ALTERED, TemplateInUse, NotAlike, NotProven) as exc:
            is_different = isinstance(exc, NotProven)
            why = "the result differed from the source" if is_different else str(exc)
            console.say(f"{why}: all rows are copied")
            drop.drop(lock.connection, plan.target, plan.side)
    return _by_rows(replace(plan, way="rows"), lock, console)


def _by_template(plan: CopyPlan, lock: Lock, console: Console) -> Built:
    """Let the server copy its files, and compare the result with the source as it was before."""
    loaded = template.copy(plan, lock, console)
    console.say(f"the server copied its files in {report.duration(loaded.seconds['files'])}")
    return _proven(plan, lock, loaded, lambda: loaded.archive, console)


def _by_delta(plan: CopyPlan, lock: Lock, console: Console) -> Built:
    """Let the server copy the files of the target, and copy the tables that differ."""
    began = time.monotonic()
    _prepare(plan, lock, console.say, copied=plan.target.database)
    took = round(time.monotonic() - began, 3)
    console.say(f"the server copied the files of the target in {report.duration(took)}")

    def loader(entered: CopyPlan, path: Path, revise: Revise, console: Console) -> Loaded:
        return delta.load_delta(
            *(entered, path, revise, console),
            scratch=lambda archive: _anew(plan, lock, path, archive),
        )

    return _loaded(plan, lock, loader, console, {"files": took})


def _by_rows(plan: CopyPlan, lock: Lock, console: Console) -> Built:
    """Copy the rows; begin anew if the source was altered meanwhile."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _attempt(plan, lock, console)
        except _ALTERED as exc:
            why, hint = str(exc), exc.hint or ""
            if attempt < _ATTEMPTS:
                console.say(f"{why}: once more")
                drop.drop(lock.connection, plan.target, plan.side)
        except (Failed, Unreachable) as exc:
            raise standby.explained(exc, plan.source, plan.origin.conflicts, "copy") from None
    raise Failed(f"the source was altered during each of {_ATTEMPTS} attempts: {why}", hint=hint)


def _attempt(plan: CopyPlan, lock: Lock, console: Console) -> Built:
    _prepare(plan, lock, console.say)
    return _loaded(plan, lock, load.load, console, {})


def _loaded(
    plan: CopyPlan, lock: Lock, loader: Loader, console: Console, earlier: Mapping[str, float]
) -> Built:
    """Load the side database and prove it; `earlier` are the seconds of earlier steps."""
    conn = lock.connection
    before = intact.look(conn, plan.side)
    with load.archive_file() as path:
        with _logged_in(plan, lock, console.say, reads_all=plan.way == "delta") as entered:
            loaded = loader(
                entered, path, lambda source: survey.revise(plan, conn, source), console
            )
        loaded = replace(loaded, seconds={**earlier, **loaded.seconds})
        took = report.duration(sum(loaded.seconds.values()))
        console.say(f"loaded in {took}: {report.plural(loaded.rows or 0, 'row')}")
        built = _proven(
            plan, lock, loaded, lambda: _anew(plan, lock, path, loaded.archive), console
        )
    for change in intact.put_back(conn, before) if before else ():
        console.say(f"  put back: {change}, which the load had changed")
    return built


def _proven(
    plan: CopyPlan,
    lock: Lock,
    loaded: Loaded,
    scratch: Callable[[], Sequence[Entry]],
    console: Console,
) -> Built:
    """Compare the side database with the source, if that is wanted."""
    if not plan.options.proof:
        return Built(plan, loaded, Proven(None))
    began = time.monotonic()
    proven = _compared(plan, lock, loaded, scratch, console)
    seconds = round(time.monotonic() - began, 3)
    loaded = replace(loaded, seconds={**loaded.seconds, "proof": seconds})
    console.say(f"proven in {report.duration(seconds)}: {proven.sentence()}")
    for note in proven.notes:
        console.say(f"  not proven: {note}")
    return Built(plan, loaded, proven)


def _compared(
    plan: CopyPlan,
    lock: Lock,
    loaded: Loaded,
    scratch: Callable[[], Sequence[Entry]],
    console: Console,
) -> Proven:
    forced = any(b"FORCE ROW LEVEL SECURITY" in entry.definition for entry in loaded.entries)
    with (
        _logged_in(plan, lock, console.say, reads_all=forced) as entered,
        console.progress("prove") as progress,
    ):
        return prove.prove(entered, loaded, scratch, progress=progress)


def _prepare(plan: CopyPlan, lock: Lock, say: Say, *, copied: str = "") -> None:
    """Create the side database, ready for the load, as a copy of another one if it is named."""
    conn = lock.connection
    side.create(*(conn, plan.target, plan.facts, plan.stamp), owner=plan.facts.owner, copied=copied)
    lay.lay(
        *(conn, plan.target, plan.side, plan.facts),
        leave_behind=plan.options.leave_behind,
        purpose="db.copy",
        say=say,
    )


@contextmanager
def _logged_in(
    plan: CopyPlan, lock: Lock, say: Say, *, reads_all: bool = False
) -> Iterator[CopyPlan]:
    """Give the load its own login, if it must not have a superuser's connection."""
    if not plan.rights.held:
        yield plan
        return
    login = loader.login_or_refuse(
        *(lock.connection, plan.target, plan.side, plan.run, plan.rights.role),
        say=say,
        reads_all=reads_all,
    )
    with login as entered:
        yield replace(plan, login=entered)


def _anew(plan: CopyPlan, lock: Lock, path: Path, archive: Sequence[Entry]) -> list[Entry]:
    """Load the schema into an empty database and return how pg_dump prints it."""
    scratch = replace(plan, run=side.new_run_id(lock.connection, plan.target))
    try:
        _prepare(scratch, lock, _silent)
        with _logged_in(scratch, lock, report.say) as entered:
            load.load_schema(entered, path, archive)
            boundary("copy.anew")
            return describe.described(
                entered.proving, HERE, plan.tools, encoding=plan.facts.encoding
            )
    finally:
        clear(scratch, lock)


def _silent(line: str) -> None:
    """Print nothing."""


def clear(plan: CopyPlan, lock: Lock) -> None:
    """Drop the side database of a failed run."""
    drop.clear(lock.connection, plan.target, plan.side)
