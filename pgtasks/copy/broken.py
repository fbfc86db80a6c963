"""Rows that cannot be loaded: name the check constraint that they break, and a way on.

The source holds such rows where a function of the constraint or of a generated column was replaced
since, or where a mask gives a value that the constraint does not take.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgtasks.copy.plan import CopyPlan
from pgtasks.database import checks
from pgtasks.errors import Failed
from pgtasks.report import typed
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified

# the context of an error of the session that loads
_AT_A_ROW = re.compile(r"\bCOPY .*, line \d+", re.DOTALL)
# what another table would meet as well
_OF_THE_SERVER = re.compile(
    r"(?:psql on the host: )?(?:ERROR:\s+)?(?:could not |out of |canceling |deadlock )"
)


@contextmanager
def explained(plan: CopyPlan, archive: Sequence[Entry], *, second: bool = False) -> Iterator[None]:
    """Add the way on to an error of rows that cannot be loaded into the schema in the archive.

    They are those of the second database of the plan, or of the first one.
    """
    try:
        yield
    except Failed as exc:
        # no flag leaves rows out that the target keeps
        table = _table(exc, archive) if plan.itself == second else ""
        way = _way(plan, exc, archive, table) if type(exc) is Failed else ""
        if not way:
            raise
        raise Failed(f"{exc.message}; {way}", hint=exc.hint) from None


def _way(plan: CopyPlan, exc: Failed, archive: Sequence[Entry], table: str) -> str:
    without = f"--exclude-data {shlex.quote(table)} leaves its rows out" if table else ""
    if not (broken := _broken(exc, archive)):
        return without
    if plan.masking.masked or not plan.options.scope.complete:
        # a backup would bring what a mask hides, or more than the part
        names = ", ".join(str(check) for check in broken)
        checked = f"one that is NOT VALID in the source is not checked on the way: {names}"
        return "; ".join(filter(None, (checked, without)))
    flags = [f"--leave-out {shlex.quote(str(check))}" for check in broken]
    save = typed.task("db.backup", environment=plan.named.environment)
    load = typed.task("db.restore", "--backup PATH", *flags, environment=plan.target.environment)
    return f"{save} and then {load} bring the rows without that"


def _table(exc: Failed, archive: Sequence[Entry]) -> str:
    """Return the table of which a row was refused, empty for an error of another kind."""
    name, words = _named(exc, archive)
    return "" if _OF_THE_SERVER.match(words) or not _AT_A_ROW.search(exc.hint) else name


def _named(exc: Failed, archive: Sequence[Entry]) -> tuple[str, str]:
    """Return the table that an error begins with, and what follows."""
    for entry in archive if exc.message.startswith("table ") else ():
        name = qualified(entry.namespace, entry.tag)
        start = f"table {name}: "
        if entry.desc == "TABLE" and exc.message.startswith(start):
            return name, exc.message.removeprefix(start)
    return "", exc.message


def _broken(exc: Failed, archive: Sequence[Entry]) -> list[checks.Check]:
    """Return the constraint, or those of a table in which a function has failed."""
    table, words = _named(exc, archive)
    found = checks.broken(f"ERROR:  {words}", archive)
    if found or "function" not in f"{words} {exc.hint}":
        return found
    return [
        check for check in checks.read(archive) if table == qualified(check.schema, check.table)
    ]
