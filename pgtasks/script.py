"""SQL files, run by psql: errors are fatal, one transaction around all of them."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report, tools
from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable
from pgtasks.host import HERE, Command
from pgtasks.pipeline import Pipeline
from pgtasks.shell import psql
from pgtasks.target import Target
from pgtasks.tools import Toolset

_PLACE = re.compile(r"^psql:(?P<place>.+:\d+): (?P<words>.+)$")
_CONNECT = re.compile(rb"\s*\\c(?:onnect)?(?:\s|$)")
_LOST = 2  # psql(1), "Exit Status": the connection went bad


@dataclass(frozen=True)
class Script:
    """Files that run in order, in one transaction or each statement for itself."""

    files: tuple[Path, ...]
    transaction: bool = True

    def lines(self) -> list[str]:
        """Return the plan."""
        around = "in one transaction" if self.transaction else "each statement for itself"
        sizes = (f"  {path} ({report.size(path.stat().st_size)})" for path in self.files)
        return [f"would run {report.plural(len(self.files), 'file')}, {around}:", *sizes]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"files": [str(path) for path in self.files], "transaction": self.transaction}


def checked(names: Sequence[str], *, transaction: bool = True) -> Script:
    """Return the script of these files, raising Refused where one cannot run as it stands."""
    if not names:
        raise Refused("no file to run, name one or more: --file FILE")
    files = tuple(Path(name) for name in names)
    for path in files:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise Refused(f"file {str(path)!r} {what}")
        _refuse_leading_away(path)
    return Script(files, transaction)


def _refuse_leading_away(path: Path) -> None:
    """Refuse a \\connect: what follows it would run elsewhere, past the guard."""
    try:
        with path.open("rb") as lines:
            number = next((n for n, line in enumerate(lines, 1) if _CONNECT.match(line)), None)
    except OSError as exc:
        raise Refused(f"file {str(path)!r}: {exc.strerror}") from None
    if number is not None:
        raise Refused(
            f"{path}:{number}: \\connect leads away from the database that was checked: remove it "
            "(pg_dump writes one with --create)"
        )


def command(toolset: Toolset, target: Target, passfile: str, script: Script) -> Command:
    """Return what runs the files in order and stops at the first error."""
    argv = [toolset.tool("psql"), "--no-psqlrc", "--no-password", "--quiet"]
    argv += ["--set=ON_ERROR_STOP=1", *(("--single-transaction",) if script.transaction else ())]
    argv += [f"--file={path}" for path in script.files]
    return Command(tuple(argv), tools.environment(target.here(), passfile), stop=signal.SIGINT)


def run(target: Target, script: Script) -> str:
    """Run the files: results on stdout, notices and errors on stderr as they come.

    Returns the sentence that says what was done. Raises Failed with file and line of the first
    error. Nothing of the files stays then, unless they run without a transaction or hold a COMMIT
    of their own.
    """
    toolset = psql(target)
    sink = _stdout()
    began = time.monotonic()
    with HERE.passfile(target) as passfile:
        made = command(toolset, target, passfile, script)
        with Pipeline(HERE, [made], stdout=sink, on_line=report.say) as pipeline:
            try:
                pipeline.check()
            except Failed as exc:
                raise _explained(exc, pipeline.codes[0]) from None
    committed = ", committed" if script.transaction else ""
    took = report.duration(time.monotonic() - began)
    return f"ran {report.plural(len(script.files), 'file')}{committed}, {took}"


def _stdout() -> int | None:
    """Return what psql writes results to, None where the shell has closed it."""
    if sys.stdout is None:
        return None
    sys.stdout.flush()  # what was said before stays before
    return sys.stdout.fileno()


def _explained(exc: Failed, code: int | None) -> PgtasksError:
    """Return the failure with file and line; all that psql said is on stderr already."""
    said = exc.hint.splitlines()
    if code == _LOST:
        return Unreachable(said[-1] if said else "psql lost the connection")
    # psql stops at the first error, so its place is the last one that it names; the word before
    # the message (ERROR, FEHLER) is in the server's language
    places = list(filter(None, map(_PLACE.match, said)))
    if not places:
        return Failed(exc.message)
    return Failed(f"{places[-1]['place']}: {' '.join(places[-1]['words'].split())}")
