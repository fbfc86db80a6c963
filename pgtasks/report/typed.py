"""Commands in messages, with the flags that they need here, so that they can be copied.

The task tree may be in another file than tasks.py, in a folder that is not above the working
directory, or be a branch of another tree. The environment of a run may not be the default one. A
printed command has the flags for the same tree and environment.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgtasks.report import commandline

_tree: Path | None = None  # the file of the task tree
_environment = ""  # of the open run, if commands must name it
_branch = ""  # of another tree that includes ours


def set_tree(file: Path) -> None:
    """Set the file of the task tree."""
    global _tree
    _tree = file


@contextmanager
def within(task: str, environment: str) -> Iterator[None]:
    """Set the environment of a run of `task` for commands, empty if they need not name it."""
    global _environment, _branch
    before = _environment, _branch
    _environment, _branch = environment, _branch_of(task)
    try:
        yield
    finally:
        _environment, _branch = before


def _branch_of(task: str) -> str:
    word = next((word for word in sys.argv[1:] if word.endswith(f".{task}")), "")
    return word.removesuffix(task)


def task(name: str, *words: str, environment: str = "") -> str:
    """Return `inv TASK` with flags, by default for the environment of the open run.

    `words` are not quoted; one of them may contain several flags.
    """
    chosen = environment or _environment
    env = ["--env", shlex.quote(chosen)] if chosen else []
    return inv(f"{_branch}{name}", *env, *words)


def inv(*words: str) -> str:
    """Return `inv` with the flags for this task tree, then `words`, which are not quoted."""
    return " ".join(["inv", *map(shlex.quote, _core()), *filter(None, words)])


def _core() -> list[str]:
    file = commandline.runtime_file(sys.argv[1:], {}) if _tree else None
    return [*(_leading(_tree) if _tree else []), *(["-f", file] if file else [])]


def _leading(tree: Path) -> list[str]:
    """Return -r and -c if Invoke would not find the tree without them."""
    package = tree.stem == "__init__"
    root, name = (tree.parent.parent, tree.parent.name) if package else (tree.parent, tree.stem)
    root_words = [] if _nearest(name) == tree else ["-r", str(root)]
    return [*root_words, *(["-c", name] if name != "tasks" else [])]


def _nearest(name: str) -> Path | None:
    """Return the file that Invoke finds for a tree's name, at or above the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        for file in (folder / f"{name}.py", folder / name / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None
