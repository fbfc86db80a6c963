"""The output of backup.report: how well the environments are backed up, in one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pgtasks import report
from pgtasks.backup import standing
from pgtasks.backup.prune import loss
from pgtasks.backup.standing import Standing
from pgtasks.backup.store import remote
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.views import age
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.server.reach import Reached
from pgtasks.settings import selection
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target, from_environment

_HEADINGS = (
    *("environment", "last backup", "last proven", "proven by"),
    *("a restore takes", "proven within", "result"),
)
OK, UNRULED, UNKNOWN = "ok", "no rule", "unknown"


@dataclass(frozen=True)
class Audited:
    """One environment; `fault` is why not all of its backups could be seen.

    `within` is its setting backup.proven_within, empty without one.
    """

    environment: str
    database: str = ""
    standing: Standing = field(default_factory=Standing)
    within: str = ""
    fault: PgtasksError | None = None

    @property
    def result(self) -> str:
        """Return whether the newest proven backup is as young as the setting wants."""
        if not self.within:
            return UNKNOWN if self.fault else UNRULED
        proven = self.standing.proven
        if proven is not None and age(proven) <= (report.span(self.within) or 0):
            return OK
        if self.fault:
            return UNKNOWN  # on the host there may be a younger one
        if self.standing.last is None:
            return "no backup"
        return "never proven" if proven is None else "too old"

    @property
    def passes(self) -> bool:
        """Return whether nothing known speaks against the environment."""
        return self.result in (OK, UNRULED, UNKNOWN)

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        last, proven, took = self.standing.last, self.standing.proven, self.standing.recovery
        return (
            self.environment,
            _age(last),
            _age(proven),
            (proven and proven.checks.proven_by) or "-",
            "-" if took is None else report.duration(took),
            self.within or "-",
            self.result,
        )

    def lines(self, *, raised: bool = False) -> Iterator[str]:
        """Yield what the table has no room for; `raised` if the fault is that of the task."""
        if self.fault is not None and not raised:
            yield f"{self.environment}: not all is known: {self.fault.message}"
        if self.standing.failed:
            why = f"{self.standing.failed}: {self.standing.failure}"
            yield f"{self.environment}: the last drill failed, {why}"
        if future := self.standing.future:
            yield f"{self.environment}: {future.id} is dated in the future and does not count"
        if lossy := self.standing.lossy:
            yield f"{self.environment}: {loss.warning(lossy)}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.environment,
            "database": self.database,
            **self.standing.as_json(),
            "proven_within": self.within or None,
            "result": self.result,
            "error": self.fault.message if self.fault else None,
        }


@dataclass(frozen=True)
class Audit:
    """All environments that were asked for."""

    audited: Sequence[Audited]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        rows = [each.row() for each in self.audited]
        whole = ("environment", "result")
        table = report.table(_HEADINGS, rows, whole=whole, gives=("proven by", "a restore takes"))
        lines = table.splitlines()
        for each in self.audited:
            lines += each.lines(raised=each is self._raised)
        return lines

    @property
    def _late(self) -> list[Audited]:
        return [each for each in self.audited if not each.passes]

    @property
    def _raised(self) -> Audited | None:
        """Return the one whose fault `check` raises."""
        faulty = (each for each in self.audited if each.fault is not None)
        return None if self._late else next(faulty, None)

    def check(self) -> None:
        """Raise NotProven if an environment has no proven backup that is as young as it should be.

        If only something could not be reached, the error of that is raised.
        """
        if late := [f"{each.environment} ({each.result})" for each in self._late]:
            number = report.plural(len(late), "environment")
            raise NotProven(
                f"{number} without a backup proven within backup.proven_within: {', '.join(late)}",
                details=self.as_json(),
            )
        raised = self._raised
        if raised is not None and raised.fault is not None:
            raise type(raised.fault)(
                f"{raised.environment}: {raised.fault.message}",
                hint=raised.fault.hint,
                details=self.as_json(),
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"environments": [each.as_json() for each in self.audited]}


def audit(project: Project, env: str | None) -> Audit:
    """Look at the backups of the environments that --env names, by default of all."""
    names = selection.expand(project, env) if env is not None else project.environments()
    here = LocalStore(project.folder("backups")).list()
    return Audit([_audited(project, name, here) for name in names])


def _audited(project: Project, name: str, here: Contents) -> Audited:
    try:
        environment = resolve(project, name)
        target = from_environment(environment)
    except PgtasksError as exc:
        return Audited(name, fault=exc)
    there, fault = _there(target)
    own = (name, target.database)
    backups = [*here.of(*own), *there.of(*own)]
    return Audited(
        name,
        target.database,
        standing.of(backups),
        environment.settings.backup.proven_within,
        fault or _unreadable(here, there, own, backups),
    )


def _there(target: Target) -> tuple[Contents, PgtasksError | None]:
    """Return the backups on the target's host, empty with the error if it cannot be reached."""
    if not target.ssh:
        return Contents(), None
    from pgtasks.host.ssh.login import landed

    with ExitStack() as stack:
        try:
            host, target = landed(target)
            stack.callback(host.close)
            store = remote.of(host, target.ssh)
            return store.list() if store else Contents(), None
        except PgtasksError as exc:
            return Contents(), Reached(target).explained(exc)


def _unreadable(
    here: Contents, there: Contents, own: tuple[str, str], backups: Iterable[Backup]
) -> PgtasksError | None:
    """Return the error of the newest unreadable backup, if no readable one is newer."""
    broken = [each for contents in (here, there) for each in contents.broken_of(*own)]
    newest = max(broken, key=lambda each: each.name, default=None)
    if newest is None or any(each.id > newest.name for each in backups):
        return None
    return newest.error


def _age(backup: Backup | None) -> str:
    return report.age(age(backup)) if backup else "-"
