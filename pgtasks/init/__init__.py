"""Adopt an existing project: `python -m pgtasks init` reads what is there and adds what is missing.

Nothing that exists is changed, and no secret is written anywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pgtasks import private, report
from pgtasks.errors import Refused
from pgtasks.init.plan import BACKUPS_IGNORED, Plan, plan
from pgtasks.init.survey import survey

__all__ = ["init"]


def init(root: Path, *, write: bool = False) -> None:
    """Show what is missing, and write it where `write` or an answer on the terminal says so."""
    made = plan(survey(root))
    for line in made.lines():
        report.data(line)
    if made.files and not write and not _agreed():
        report.data("nothing was written")
        return
    _write(made, root)
    for line in made.next_steps():
        report.data(line)


def _agreed() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused("nothing was written: no terminal to ask on, add --write")
    return report.ask("write these files? [y/N] ").lower() in ("y", "yes")


def _write(made: Plan, root: Path) -> None:
    for name, text in made.files.items():
        path = root / name
        if name == BACKUPS_IGNORED:
            private.folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise Refused(f"{name!r} appeared meanwhile, it was left as it is") from None
