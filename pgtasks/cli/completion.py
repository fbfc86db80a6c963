"""Complete the values of flags on TAB: environments, and IDs of backups on this machine.

Invoke completes tasks and flags; where a value belongs, its scripts would offer tasks or files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Exit, program

from pgtasks.cli import context
from pgtasks.errors import PgtasksError

if TYPE_CHECKING:
    from pgtasks.settings.project import Project

_ENVIRONMENTS = ("env", "source", "target", "left", "right")
_BACKUPS = ("backup", "id", "against")
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")


def teach() -> None:
    """Make Invoke's --complete print values too."""
    if not hasattr(program.complete, "__wrapped__"):
        program.complete = _with_values(program.complete)


def _with_values(complete: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(complete)
    def wrapped(*, core: Any, parser: Any, **more: Any) -> Any:
        words = core.remainder.split()
        try:
            values = _values(words, parser.contexts)
        except PgtasksError:  # a fault in the settings: the task itself tells
            values = None
        if values is None:
            return complete(core=core, parser=parser, **more)
        for value in values:
            print(value)
        raise Exit

    return wrapped


def _values(words: Sequence[str], tasks: Any) -> list[str] | None:
    """Return what may stand at the end of a command line, None if that is no value of ours."""
    name = next((word for word in reversed(words) if word in tasks), None)
    if name is None:
        return None
    behind = list(words[len(words) - list(reversed(words)).index(name) :])
    kind = _kind(tasks[name], behind)
    if kind == "environment":
        return _project().environments()
    if kind == "backup":
        return ["latest", *_backups(_project(), behind)]
    return None


def _project() -> Project:
    from pgtasks.settings import project

    file = context.tasks_file()
    return project.load(file.parent if file else project.find_root(Path.cwd()))


def _kind(task: Any, behind: Sequence[str]) -> str:
    """Return the kind of value that the words behind a task end with, or are to be followed by."""
    flag = next((task.flags[word] for word in reversed(behind[-2:]) if word in task.flags), None)
    if flag is not None:
        named = flag.name if flag.takes_value else ""
    elif len(behind) < 2 and not any(word.startswith("-") for word in behind):
        named = next((each.name for each in task.positional_args), "")
    else:
        named = ""
    if named in _ENVIRONMENTS or (task.name, named) == ("env.use", "name"):
        return "environment"
    return "backup" if named in _BACKUPS else ""


def _backups(project: Project, behind: Sequence[str]) -> list[str]:
    """Return the IDs of the environment's backups on this machine, the newest first."""
    from pgtasks.settings import selection

    given = dict(pairwise(behind)).get("--env")
    name = project.known(given) if given else selection.choose(project, guarded=False).environment
    found = project.folder("backups").glob(f"{name}/*/*")
    return sorted((each.name for each in found if _ID.fullmatch(each.name)), reverse=True)
