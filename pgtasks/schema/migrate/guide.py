"""Guide a person from a new revision file to the database: show, edit, lint, ask."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from pgtasks.errors import PgtasksError, Refused
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.report import Console
from pgtasks.report.interruption import telling, unanswered
from pgtasks.schema.migrate import offline
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.files import Written
from pgtasks.schema.migrate.lint import lint
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server import connection
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target

Place = tuple[Scripts, Target, Identity]


def guide(
    written: Written, scripts: Scripts, place: Callable[[], Place], *, console: Console
) -> bool:
    """Show the file, let it be edited, lint it; return whether it is to be applied.

    The file stays, whatever the answers are. `place` reaches the database, which an empty file does
    not need.
    """
    with telling(lambda: f"{written.revision.file} is written"), unanswered():
        return _guided(written, scripts, place, console)


def _guided(
    written: Written, scripts: Scripts, place: Callable[[], Place], console: Console
) -> bool:
    path = scripts.root / written.revision.file
    for line in written.lines():
        console.say(line)
    console.say(path.read_text(encoding="utf-8", errors="replace").rstrip())
    if console.confirm("edit it?"):
        edit(path)
    try:
        reached = place()
    except PgtasksError as exc:
        console.say(f"neither linted nor applied: {exc.message}")
        return False
    for line in _linted(*reached):
        console.say(line)
    return console.confirm(f"apply it to {reached[1]}?")


def edit(path: Path) -> None:
    """Open a file in the person's editor, raising Refused if that fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    argv = (*shlex.split(editor), str(path))
    if code := HERE.interact(Command(argv)):
        raise Refused(f"{editor} ended with exit code {code}: {path} is as it left it")


def _linted(scripts: Scripts, target: Target, identity: Identity) -> list[str]:
    """Return the findings of the linter, or why there are none; an edited file may be broken."""
    try:
        steps = offline.unreleased(EnvPy(scripts, target, identity, read_only=True), None)
        with connection.session(target, read_only=True, purpose="migrate") as conn:
            major = conn.server_version // 10000
        linted = lint(scripts, steps, major=major)
    except PgtasksError as exc:
        return [f"not linted: {exc.message}"]
    return [*(f"lint: {line}" for line in linted.lines()), f"lint: {linted.sentence()}"]
