"""Read the command line before Invoke does: the -f file, and whether JSON is wanted.

Invoke reads a -f file between the task tree and its executor, and prints a traceback for a file
that it cannot read. So the tree checks the file first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_FLAGS = ("-f", "--config")
_SUFFIXES = (".yaml", ".yml", ".json", ".py")
_WITH_VALUE = ("-c", "--collection", "-r", "--search-root", "-T", "--command-timeout")


def runtime_file(argv: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the -f file of an `inv` command line, else that of INVOKE_RUNTIME_CONFIG.

    After the name of a task, -f may be a flag of the task: there only a settings file counts.
    """
    path, behind_task, words = None, False, iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if word == "--":
            break
        if flag in _FLAGS:
            value = value if equals else next(words, "")
            if value and (not behind_task or Path(value).suffix in _SUFFIXES):
                path = value
        elif word in _WITH_VALUE and not behind_task:
            next(words, "")
        elif not word.startswith("-"):
            behind_task = True
    return path or environ.get("INVOKE_RUNTIME_CONFIG")


def wants_json(argv: Sequence[str]) -> bool:
    """Return whether the command line has the flag --json for a task."""
    return "--json" in argv


def behind_dashes(argv: Sequence[str]) -> list[str]:
    """Return the words after `--`, which Invoke does not pass to tasks."""
    words = list(argv)
    return words[words.index("--") + 1 :] if "--" in words else []
