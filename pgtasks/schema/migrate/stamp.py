"""Write the version table without running a migration, as `alembic stamp` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.report.interruption import telling
from pgtasks.schema.migrate import state
from pgtasks.schema.migrate.envpy import EnvPy, bare
from pgtasks.schema.migrate.plan import check_unmoved, recorded
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision, State
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Stamped:
    """The version table before and after. `skipped` are revisions that count as applied now.

    `undone` are revisions that count as pending now, `done` says whether it is written.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    skipped: tuple[Revision, ...] = ()
    undone: tuple[Revision, ...] = ()
    empty: bool = False
    done: bool = False

    @property
    def changes(self) -> bool:
        """Whether the version table changes."""
        return self.before != self.after

    def announcement(self) -> list[str]:
        """Return what the new version does, and what it does not."""
        lines = [f"counts as applied, and does not run: {each}" for each in self.skipped]
        lines += [f"counts as pending, and is not undone: {each}" for each in self.undone]
        if self.empty and self.after:
            lines.append(
                "warning: the database is empty, and the version table makes no tables: "
                f"{typed.task('migrate.up')} does"
            )
        return lines

    def lines(self) -> list[str]:
        """Return what a person reads."""
        verb = "wrote" if self.done else "would write"
        if not self.changes:
            return [f"nothing to do: the database is at {_named(self.after)}"]
        lines = [] if self.done else self.announcement()
        change = f"{_named(self.before)} -> {_named(self.after)}"
        return [*lines, f"{verb} the version table alone, no migration runs: {change}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "from": list(self.before),
            "to": list(self.after),
            "skipped": [revision.id for revision in self.skipped],
            "undone": [revision.id for revision in self.undone],
            "done": self.done,
        }


def _named(revisions: Sequence[str]) -> str:
    return ", ".join(revisions) or "no revision"


def plan(
    scripts: Scripts, target: Target, identity: Identity, to: str, *, purge: bool = False
) -> Stamped:
    """Return what a new version would change, without running code of the project."""
    with bare(scripts) as (_, directory):
        current = tuple(recorded(target, directory))
        before = state.compare(current, directory, scripts)
        if before.unknown and not purge:
            raise Refused(
                f"the database is at {', '.join(before.unknown)}, which no file here has: are "
                "these files older than the database? --purge forgets its revisions first"
            )
        after = _after(directory, to, () if purge else current)
        now = state.compare(after, directory, scripts)
        return replace(_change(before, now, directory, scripts), empty=identity.empty)


def _after(directory: ScriptDirectory, to: str, current: Sequence[str]) -> tuple[str, ...]:
    """Return the revisions that Alembic's own steps lead to."""
    heads = set(current)
    try:
        for step in directory._stamp_revs(to, tuple(current)):
            heads -= set(step.from_revisions)
            heads |= set(step.to_revisions)
    except CommandError as exc:
        words = " ".join(str(exc).split())
        several = f": {state.several_heads()}" if "heads" in words else ""
        raise Refused(f"no revision {to!r}: {words}{several}") from exc
    return tuple(sorted(heads))


def _change(before: State, now: State, directory: ScriptDirectory, scripts: Scripts) -> Stamped:
    pending, still = ({each.id for each in position.pending} for position in (before, now))
    revisions = [state.revision(script, scripts) for script in directory.walk_revisions()]
    return Stamped(
        before.current,
        now.current,
        skipped=tuple(each for each in reversed(revisions) if each.id in pending - still),
        undone=tuple(each for each in revisions if each.id in still - pending),
    )


def stamp(
    scripts: Scripts,
    target: Target,
    identity: Identity,
    to: str,
    planned: Stamped,
    *,
    purge: bool = False,
) -> Stamped:
    """Write the version table; the caller has passed the guard and holds the lock."""
    envpy = EnvPy(scripts, target, identity)
    with envpy.opened() as (config, directory):
        work = partial(_steps, directory, to, planned, purge)
        with (
            telling(lambda: _left(target, directory)),
            envpy.run(config, directory, work, purge=purge, destination_rev=to),
        ):
            pass
    return replace(planned, done=True)


def _left(target: Target, directory: ScriptDirectory) -> str:
    """Return what the version table has after a signal, without running code of the project."""
    return f"the version table has {', '.join(recorded(target, directory)) or 'no revision'}"


def _steps(
    directory: ScriptDirectory,
    to: str,
    planned: Stamped,
    purge: bool,
    heads: Any,
    context: MigrationContext,
) -> Iterable[Any]:
    # with `purge` Alembic has emptied the version table in this transaction
    if not purge:
        check_unmoved(heads, planned.before)
    return directory._stamp_revs(to, tuple(heads))
