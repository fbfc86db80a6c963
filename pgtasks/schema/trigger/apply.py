"""Apply the files of functions and triggers in one transaction, as far as they differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import Failed
from pgtasks.report.interruption import telling
from pgtasks.schema.trigger import checks, choice, execute, fingerprint, installed, rules
from pgtasks.schema.trigger.expected import Expected, Step
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.verify import Difference, compare, prepare
from pgtasks.server import connection, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Change:
    """A change of one function or trigger: created, replaced or dropped."""

    what: str
    kind: str
    name: str


@dataclass(frozen=True)
class Applied:
    """The changes that the files made, or would make if `planned`."""

    files: tuple[str, ...]
    changes: tuple[Change, ...]
    unchanged: int  # of those that the files describe
    warnings: tuple[str, ...]
    seconds: float
    planned: bool = False

    def count(self, kind: str) -> int:
        """Return the number of changes of one kind."""
        return sum(1 for change in self.changes if change.what == kind)

    def sentence(self) -> str:
        """Return the result in one line."""
        ways = ("created", "replaced", "dropped")
        counts = [f"{self.count(way)} {way}" for way in ways if self.count(way)]
        counts += [f"{self.unchanged} unchanged"]
        files = report.plural(len(self.files), "file")
        if self.planned:
            return f"would apply {files}: {', '.join(counts)}"
        return f"applied {files} in {report.duration(self.seconds)}: {', '.join(counts)}"

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"{each.what:8}  {each.kind:8}  {each.name}" for each in self.changes]
        return [*lines, self.sentence()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "files": list(self.files),
            "changes": [asdict(change) for change in self.changes],
            "unchanged": self.unchanged,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "planned": self.planned,
        }


Definitions = dict[tuple[str, str], str]  # by kind and name


def plan(files: Sequence[SqlFile], target: Target) -> Applied:
    """Return the changes that the files would make, as far as they can be compared.

    It does not apply the files and roll back, because that would lock tables in use.
    """
    session = connection.session(target, read_only=True, purpose="apply", own_path=True)
    with session as conn:
        prepare(conn)
        described = _described(conn, files)
        verification = compare(conn, described)
        checks.check_functions(conn, described)
    if (lacking := verification.without_table()) and not verification.unknown:
        first = lacking[0]
        raise Failed(f"{first.where}: {first.name} cannot be made: {first.note}")
    changes = [
        Change(_way(each), each.kind, each.name)
        for each in verification.findings
        if each.state not in ("INSTALLED", "ORPHAN")
    ]
    unknown = tuple(f"not compared: {statement}" for statement in verification.unknown)
    return Applied(
        files=tuple(file.name for file in files),
        changes=tuple(changes),
        unchanged=verification.count("INSTALLED"),
        warnings=(*verification.warnings, *unknown),
        seconds=0.0,
        planned=True,
    )


def _way(finding: Difference) -> str:
    created = finding.state == "MISSING" and finding.kind != "grant"
    return "created" if created else "replaced"


def apply(files: Sequence[SqlFile], target: Target) -> Applied:
    """Run the statements of the files whose objects differ, in one transaction.

    Statements that cannot be compared, such as DO, always run. If there is nothing to run, no
    table is locked. Raises Failed with file and line; nothing is changed then. The caller holds
    the lock.
    """
    began = time.monotonic()
    before: Definitions = {}
    session = connection.session(target, purpose="apply", own_path=True)
    with telling(lambda: _left(target, before)), session as conn, interrupt.cancelling([conn]):
        prepare(conn)
        described = _described(conn, files)
        steps = choice.needed(conn, described, compare(conn, described).findings)
        before |= installed.definitions(conn) if steps else {}
        changes = _applied(conn, described, steps, before) if steps else []
    touched = sum(1 for change in changes if change.what != "dropped")
    return Applied(
        files=tuple(file.name for file in files),
        changes=tuple(changes),
        # the effect of a DO block is not known
        unchanged=max(0, described.number - touched),
        warnings=tuple(described.warnings),
        seconds=time.monotonic() - began,
    )


def _described(conn: Connection, files: Sequence[SqlFile]) -> Expected:
    """Parse the files, raising Refused for a statement that ends the transaction."""
    described = rules.described(conn, files)
    execute.refuse_control((step.statement for step in described.steps), kind="trigger")
    return described


def _left(target: Target, before: Definitions) -> str:
    """Return what an interrupted run has left, by the definitions that are there now.

    `before` is empty if it had not begun.
    """
    if not before:
        return "no function or trigger was changed"
    with connection.session(target, read_only=True, purpose="apply", own_path=True) as conn:
        prepare(conn)
        same = installed.definitions(conn) == before
    return "no function or trigger was changed" if same else "functions and triggers were changed"


def _applied(
    conn: Connection, described: Expected, steps: list[Step], before: Definitions
) -> list[Change]:
    """Run the steps in one transaction and return what that changed."""
    checks.check_functions(conn, described)
    conn.autocommit = False
    described.warnings += execute.in_turn(conn, (step.statement for step in steps), prepare)
    if any(not step.objects for step in steps):
        steps += _run_again(conn, described, done=steps)
    objects = {each for step in steps for each in step.objects}
    described.warnings += checks.check_bodies(conn, described, objects)
    fingerprint.leave(conn, described, objects)
    after = installed.definitions(conn)
    with translated():
        conn.commit()
    return _changes(before, after)


def _run_again(conn: Connection, described: Expected, *, done: list[Step]) -> list[Step]:
    """Run the steps that were left out, if a statement such as DROP ... CASCADE made them needed.

    What was done already is not done again: DO blocks may be written to run once.
    """
    needed = choice.needed(conn, described, compare(conn, described).findings)
    left = [step for step in needed if step not in done]
    described.warnings += execute.in_turn(conn, (step.statement for step in left), prepare)
    return left


def _changes(before: Definitions, after: Definitions) -> list[Change]:
    """Return the differences between two reads of the catalog."""
    changes = []
    for kind, name in sorted(before.keys() | after.keys()):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old != new:
            action = "created" if old is None else "dropped" if new is None else "replaced"
            changes.append(Change(action, kind, name))
    return changes
