"""Run SQL files with psql, in one transaction, ending at the first error."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.errors import Failed, Refused
from pgtasks.server.psql import program, session
from pgtasks.server.psql.program import Program
from pgtasks.server.psql.source import Source
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Script:
    """Files that run in order, in one transaction or each statement in its own."""

    program: Program
    transaction: bool = True

    @property
    def _what(self) -> str:
        files = sum(1 for source in self.program.sources if source.path)
        texts = len(self.program.sources) - files
        parts = [report.plural(files, "file")] if files else []
        return " and ".join([*parts, *["the text of --sql"] * texts])

    def lines(self) -> list[str]:
        """Return the plan."""
        around = "in one transaction" if self.transaction else "each statement for itself"
        sources = self.program.sources
        sizes = (f"  {source.shown} ({report.size(source.size)})" for source in sources)
        return [f"would run {self._what}, {around}:", *sizes]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "files": [source.shown for source in self.program.sources],
            "transaction": self.transaction,
        }


def checked(
    names: Sequence[str], *, sql: str = "", transaction: bool = True, touch_files: bool = False
) -> Script:
    """Return the script of these files, raising Refused if one may not run.

    `sql` is text that runs after the files. They may read and write local files only with
    `touch_files`: a file in tasks/ is a program, and one at home may be a secret.
    """
    sources = tuple(Source(name, Path(name)) for name in names)
    if sql:
        sources += (Source("--sql", text=sql.encode("utf-8", "surrogateescape")),)
    if not sources:
        raise Refused("nothing to run, name files (--file FILE) or a text (--sql SQL)")
    whole = program.checked(sources)
    if whole.touches and not touch_files:
        raise Refused(
            f"{whole.touches} reads or writes a file of this machine: --touch-files lets it"
        )
    return Script(whole, transaction)


def run(target: Target, script: Script) -> str:
    """Run the files, with results on stdout, and command tags of --sql; notices on stderr.

    Returns a sentence with the result. Raises Failed with file and line of the first error, and if
    a file has rolled back the transaction. Everything is rolled back then, unless the files run
    without a transaction or end it themselves, which the error says.
    """
    began = time.monotonic()
    # a file of many statements would print as many lines
    typed = script.program.sources[-1].path is None
    settings = session.Settings(script.transaction, tells=typed)
    ran = session.execute(target, script.program, settings, stdout=_stdout(), on_line=report.say)
    duration = report.duration(time.monotonic() - began)
    return f"ran {script._what}{_ended(script, ran)}, {duration}"


def _ended(script: Script, ran: session.Ran) -> str:
    """Return how the transaction ended, raising Failed if a part was rolled back."""
    enders, lenient = script.program.enders, script.program.lenient
    failed = f"{ran.failed} failed, as {lenient or 'a file'} turns ON_ERROR_STOP off"
    if ran.kept:
        if ran.failed:
            raise Failed(f"{failed}: what else the files hold is committed")
        return ", committed"
    if not script.transaction:
        if ran.open:
            raise Failed("a transaction was open at the end and is rolled back: COMMIT is missing")
        if ran.failed:
            raise Failed(f"{failed}: what else the files hold has run, each statement for itself")
        return ""
    which = ", ".join(f"{place}:{line} ({words})" for place, line, words in enders[:3])
    which = which or "a statement"
    if any(words == "PREPARE" for _, _, words in enders):
        raise Failed(
            f"{which} ended the transaction that the files run in: what ran before PREPARE "
            "TRANSACTION is not committed and keeps its locks until COMMIT PREPARED or ROLLBACK "
            "PREPARED (pg_prepared_xacts names it), what ran behind it stays"
        )
    if any(words in ("ROLLBACK", "ABORT") for _, _, words in enders) or not enders:
        raise Failed(
            f"{which} ended the transaction that the files run in: what it held may be rolled back,"
            " what ran behind it stays"
        )
    if ran.failed:
        raise Failed(f"{failed}; {which} ended the transaction, what ran behind it stays")
    return f"; {which} ended the transaction, what ran behind it was each statement for itself"


def _stdout() -> int | None:
    """Return the file for results, None if the shell has closed stdout."""
    if sys.stdout is None:
        return None
    sys.stdout.flush()  # keep the order of the output
    return sys.stdout.fileno()
