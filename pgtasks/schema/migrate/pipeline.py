"""The parts of migrate.up and migrate.down: backup, revisions, statistics, one line for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pgtasks import report
from pgtasks.errors import Interrupted, PgtasksError, Refused
from pgtasks.report import Console, typed
from pgtasks.report.interruption import telling
from pgtasks.schema.migrate import touched
from pgtasks.schema.migrate.attempts import Attempts, Patience
from pgtasks.schema.migrate.lint import lint
from pgtasks.schema.migrate.perform import Migrated, with_sql
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import State
from pgtasks.schema.step import Step, skipped
from pgtasks.server import connection
from pgtasks.server.identity import Identity
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from pgtasks.backup.store.backup import Backup


@dataclass(frozen=True)
class PipelineOptions:
    """The destination in Alembic's syntax, what comes first, how to wait for locks."""

    to: str
    backup: bool = True
    lint: bool = True
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Moved:
    """The result of a pipeline; the line of each step was printed when it ended."""

    migrated: Migrated
    steps: tuple[Step, ...] = ()
    backup: str = ""

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return self.migrated.lines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            **self.migrated.as_json(),
            "backup": self.backup or None,
            "steps": [each.as_json() for each in self.steps],
        }


class Pipeline:
    """The steps on one database, planned, agreed to by the caller, then performed."""

    def __init__(
        self,
        project: Project,
        scripts: Scripts,
        target: Target,
        identity: Identity,
        options: PipelineOptions,
        *,
        console: Console,
    ) -> None:
        self.project, self.options, self.console = project, options, console
        self.scripts, self.target, self.identity = scripts, target, identity
        self.attempts = Attempts(scripts, target, identity, options.patience, console)
        self.steps: list[Step] = []
        self.backup: Backup | None = None

    @property
    def place(self) -> tuple[Scripts, Target, Identity]:
        """Return what the functions of migrations need."""
        return self.scripts, self.target, self.identity

    def backs_up(self, revisions: MigrationPlan, protection: str) -> bool:
        """Return whether a run begins with a backup, raising Refused for --no-backup if it must.

        `protection` is the reason why it must, if it must.
        """
        needed = bool(revisions.steps) and not self.identity.empty
        if needed and protection and not self.options.backup:
            raise Refused(f"--no-backup: {protection}, it is migrated after a backup alone")
        return needed and self.options.backup

    def run(self, name: str, work: Callable[[], Step]) -> None:
        """Do a step, and print its line."""
        began = time.monotonic()
        done = replace(work(), name=name, seconds=time.monotonic() - began)
        self.console.say(done.line())
        self.steps.append(done)

    def lint(self, revisions: MigrationPlan) -> None:
        """Print what the linter objects to; the revisions run in Alembic's --sql mode for it."""
        if revisions.steps and self.options.lint:
            self.run("lint", lambda: self._lint(revisions))

    def _lint(self, revisions: MigrationPlan) -> Step:
        steps = with_sql(*self.place, revisions).steps
        with connection.session(self.target, read_only=True, purpose="migrate") as conn:
            major = conn.server_version // 10000
        linted = lint(self.scripts, steps, major=major)
        for line in linted.lines():
            self.console.say(f"lint: {line}")
        return Step("", "done", linted.sentence(), details=linted.as_json())

    def back_up(self, task: str, revisions: MigrationPlan, reached: Reached) -> Step:
        """Back up the database, labelled with the revisions before and after the run."""
        if not self.backs_up(revisions, ""):
            why = "--no-backup" if revisions.steps else "no revision is pending"
            return skipped("", "the database is empty" if self.identity.empty else why)
        from pgtasks.backup import first  # a run with nothing to do is done sooner without it

        folder, note = self.project.folder("backups"), revisions.label(task)
        self.backup = first.taken(reached, folder, note=note, console=self.console)
        size = report.size(self.backup.manifest.size)
        return Step("", "done", f"{self.backup.id}, {size}", details={"id": self.backup.id})

    def move(self, revisions: MigrationPlan) -> Step:
        """Run the revisions."""
        if not revisions.steps:
            return Step("", "unchanged", revisions.state.sentence())
        after = self.attempts.run(revisions).state
        number = report.plural(len(self.attempts.applied), "revision")
        verb = "applied" if revisions.direction == "up" else "taken back"
        return Step("", "done", f"{number} {verb}; {after.sentence()}")

    def analyze(self) -> Step:
        """Gather the statistics of the tables that the revisions changed."""
        names = touched.tables(self.attempts.statements)
        tables = touched.analyze(self.target, names) if names else []
        if not tables:
            return skipped("", "no table needs it")
        return Step("", "done", ", ".join(tables), details={"tables": tables})

    def result(
        self, revisions: MigrationPlan, state: State, began: float, notes: Sequence[str] = ()
    ) -> Moved:
        """Return the result of a run that began at a time of the monotonic clock."""
        before, seconds = revisions.state.current, time.monotonic() - began
        applied = tuple(self.attempts.applied)
        migrated = Migrated(revisions.direction, before, state, applied, seconds, tuple(notes))
        return Moved(migrated, tuple(self.steps), self.backup.id if self.backup else "")

    @contextmanager
    def explaining(self, revisions: MigrationPlan) -> Iterator[None]:
        """Add to an error in a block what was done, and what was not."""
        try:
            with telling(self._left, adds=True):
                yield
        except Interrupted:
            raise
        except PgtasksError as exc:
            self._explain(exc, revisions)
            raise

    def _left(self) -> str:
        """Return what an interrupted run had done."""
        done = ", ".join(each.name for each in self.steps if each.result == "done")
        words = f"steps that are done: {done or 'none'}"
        if not self.backup:
            return words
        way = typed.task("db.restore", f"--backup {self.backup.id}")
        return f"{words}; the state before is in backup {self.backup.id}: {way}"

    def _explain(self, exc: PgtasksError, revisions: MigrationPlan) -> None:
        """Add to an error what was done, what was not, and the backup that belongs to it."""
        done = [each.revision.id for each in self.attempts.applied]
        left = [each.revision.id for each in revisions.steps if each.revision.id not in done]
        verb = "applied" if revisions.direction == "up" else "taken back"
        lines = [exc.hint] if exc.hint else []
        if revisions.steps:
            lines.append(f"{verb}: {', '.join(done) or 'none'}")
            lines.append(f"not {verb}: {', '.join(left) or 'none'}")
        if self.backup:
            way = typed.task("db.restore", f"--backup {self.backup.id}")
            lines.append(f"the state before is in backup {self.backup.id}: {way}")
        facts = {"applied": done, "not_applied": left}
        backup = {"backup": self.backup.id if self.backup else None}
        exc.hint, exc.details = "\n".join(lines), {**exc.details, **facts, **backup}
