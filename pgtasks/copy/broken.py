"""Rows that break a check constraint of their table or domain: name the constraint and a way on.

The source holds such rows where a function of the constraint was replaced since, or where a mask
gives a value that the constraint does not take.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgtasks.copy.plan import CopyPlan
from pgtasks.database import checks
from pgtasks.errors import Failed
from pgtasks.report import typed
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified


@contextmanager
def explained(plan: CopyPlan, archive: Sequence[Entry]) -> Iterator[None]:
    """Add the way on to an error of rows that break a constraint of the schema in the archive."""
    try:
        yield
    except Failed as exc:
        broken = _broken(exc, archive)
        if type(exc) is not Failed or not broken:
            raise
        raise Failed(f"{exc.message}; {_way(plan, broken)}", hint=exc.hint) from None


def _broken(exc: Failed, archive: Sequence[Entry]) -> list[checks.Check]:
    """Return the constraint, or those of a table in which a function has failed."""
    table, _, words = exc.message.partition(": ")
    found = checks.broken(f"ERROR:  {words}", archive)
    if found or "function" not in f"{words} {exc.hint}":
        return found
    return [
        check
        for check in checks.read(archive)
        if table == f"table {qualified(check.schema, check.table)}"
    ]


def _way(plan: CopyPlan, broken: Sequence[checks.Check]) -> str:
    if plan.masking.masked or not plan.options.scope.complete:
        # a backup would bring what a mask hides, or more than the part
        names = ", ".join(str(check) for check in broken)
        return f"one that is NOT VALID in the source is not checked on the way: {names}"
    flags = [f"--leave-out {shlex.quote(str(check))}" for check in broken]
    save = typed.task("db.backup", environment=plan.named.environment)
    load = typed.task("db.restore", "--backup PATH", *flags, environment=plan.target.environment)
    return f"{save} and then {load} bring the rows without that"
