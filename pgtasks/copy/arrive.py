"""The project's files for a copy that has arrived: sql/arrive/*.sql, run before it is swapped in.

They run in the side database, after the proof, in one transaction, with the rights of the load: the
code of the source that they may call, as triggers do, has no others. An error ends the copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgtasks.errors import Refused
from pgtasks.host import sources
from pgtasks.server.psql import changes, program, session
from pgtasks.server.psql.changes import Rows
from pgtasks.server.psql.program import Program
from pgtasks.server.psql.source import Source
from pgtasks.server.quoting import identifier
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Arrival:
    """The files that run on a copy."""

    program: Program

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the files."""
        return tuple(source.shown for source in self.program.sources)


@dataclass(frozen=True)
class Arrived:
    """The rows that the files changed, None if the server does not count them."""

    names: tuple[str, ...]
    tables: tuple[Rows, ...] | None

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        changed = None if self.tables is None else [asdict(each) for each in self.tables]
        return {"files": list(self.names), "tables": changed}

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield f"ran {', '.join(self.names)} on the copy, which is no longer equal to the source"
        for each in self.tables or ():
            yield f"  {each.table}: {each}"


def found(folder: Path, root: Path) -> Arrival | None:
    """Return the files of a folder, None without one; raises Refused for one that may not run."""
    try:
        paths = sources.listed(folder, ".sql")
    except OSError as exc:
        raise Refused(f"{folder}: {exc.strerror or exc}") from None
    if not paths:
        return None
    shown = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths]
    whole = program.checked(tuple(map(Source, shown, paths)))
    if whole.touches:
        raise Refused(f"{whole.touches} reads or writes a file of this machine")
    if whole.enders:
        place, line, words = whole.enders[0]
        raise Refused(f"{place}:{line}: {words} would end the transaction of sql/arrive")
    return Arrival(whole)


def run(arrival: Arrival, target: Target) -> Arrived:
    """Run the files in the side database `target`, as its role, raising Failed."""
    begin = "SET LOCAL statement_timeout = 0;"
    if target.role:
        begin += f" SET LOCAL ROLE {identifier(target.role)};"
    settings = session.Settings(
        transaction=True,
        flags=("--no-align", "--tuples-only"),
        begin=begin,
        questions=changes.QUESTIONS,
        undone="; nothing of it stays",
    )
    with tempfile.TemporaryFile() as out:  # results are not what the task prints
        ran = session.execute(target, arrival.program, settings, stdout=out)
    if not ran.kept:
        raise Refused(f"{', '.join(arrival.names)}: a statement ended the transaction")
    return Arrived(arrival.names, changes.read(ran.answers, "sql/arrive"))
