"""Apply trigger files whenever one is saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pgtasks.host import sources
from pgtasks.schema.trigger.files import FOLDERS
from pgtasks.settings.project import Project

INTERVAL = 0.3  # seconds between two looks at the files

State = dict[str, tuple[int, int]]  # time and size of each file


def watch(project: Project, apply: Callable[[], None]) -> None:
    """Call `apply` at once, and again after each change of a file, until Ctrl-C."""
    seen: State | None = None
    while True:
        now = _state(project)
        if now != seen:
            seen = now  # what changes meanwhile is seen at the next look
            apply()
        time.sleep(INTERVAL)


def _state(project: Project) -> State:
    state: State = {}
    for folder in FOLDERS:
        for path in _sources(project.folder("sql") / folder):
            try:
                facts = path.stat()
            except OSError:  # between two saves of an editor
                continue
            state[str(path)] = facts.st_mtime_ns, facts.st_size
    return state


def _sources(folder: Path) -> list[Path]:
    try:
        return sources.listed(folder, ".sql")
    except OSError:  # applying the files says so
        return []
