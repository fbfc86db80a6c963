"""Set up a project: `python -m pgtasks init` reads its files and adds the missing ones.

It changes no existing file, and writes no secret.

survey  read the files of an existing project
urls    assign its URLs to environments
plan    the missing files and their text
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pgtasks import report
from pgtasks.cli.init.plan import BACKUPS_IGNORED, InitPlan, plan
from pgtasks.cli.init.survey import survey
from pgtasks.errors import Failed, Interrupted, Refused
from pgtasks.host import private
from pgtasks.report import CONSOLE

__all__ = ["init"]


def init(root: Path, *, write: bool = False) -> None:
    """Show the missing files, and write them if `write` is set or a person agrees."""
    made = plan(survey(root))
    # with --write the files are written even if the reader of the plan closes its end
    _show(made.lines(), needed=not write)
    if made.files and not write and not _agreed():
        report.data("nothing was written")
        return
    _write(made, root)
    if made.files:
        report.say(f"wrote {report.plural(len(made.files), 'file')}, and changed none")
    _show(made.next_steps(), needed=False)


def _show(lines: Sequence[str], *, needed: bool) -> None:
    try:
        for line in lines:
            report.data(line)
    except BrokenPipeError:  # as with `| head`
        report.silence(sys.stdout)
        if needed:
            raise Failed("nothing was written: the plan was not read to its end") from None


def _agreed() -> bool:
    CONSOLE.require("nothing was written: no terminal to ask on, add --write")
    return CONSOLE.confirm("write these files?")


def _write(made: InitPlan, root: Path) -> None:
    written: list[str] = []
    for name, text in made.files.items():
        try:
            _write_file(root / name, text, own=name == BACKUPS_IGNORED)
        except FileExistsError:
            so_far = _so_far(written)
            raise Refused(f"{name!r} was created meanwhile, it was not changed; {so_far}") from None
        except OSError as exc:
            raise Failed(f"{name!r}: {exc.strerror or exc}; {_so_far(written)}") from None
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted, {_so_far(written)}") from None
        written.append(name)


def _write_file(path: Path, text: str, *, own: bool) -> None:
    if own:
        private.folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except BaseException:
            path.unlink()  # an incomplete file would count as an existing one
            raise


def _so_far(written: Sequence[str]) -> str:
    return f"written before: {', '.join(written)}" if written else "nothing was written"
