"""`inv help TASK` prints the help of a task, as `inv --help TASK` does, and runs nothing.

For Invoke alone, `help db.restore` would be two tasks to run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

HELP = "help"
_BODY = "pgtasks_builtin_help"  # the module of our own task; a project's own `help` is left alone
_WITH_VALUE = ("--env",)  # its flags that take a value


def before(program: Any) -> None:
    """Turn `help [FLAGS] TASK`, and `TASK --help`, into the help of that task, before parsing.

    Required flags and values of the task are not needed for its help.
    """
    words = list(program.core.unparsed)
    if words[1:2] in (["--help"], ["-h"]) and _is_task(program, words[0]):
        program.args.help.value = words[0]  # of a task with positionals, Invoke wants these first
        program.core.unparsed = []
        return
    if not words or not _is_help(program, words[0]):
        return
    if topic := next(_positionals(words[1:]), ""):
        program.args.help.value = topic
        program.core.unparsed = []


def after(program: Any) -> None:
    """Make `help` print the help of the task after or before it, and run none."""
    names = [context.name for context in program.tasks]
    number = next((n for n, name in enumerate(names) if _is_help(program, name)), None)
    if number is None or program.args.help.value:
        return
    others = (name for name in names[number:] + names[:number] if not _is_help(program, name))
    if topic := next(others, ""):
        program.args.help.value = topic


def _is_task(program: Any, name: str) -> bool:
    try:
        return bool(program.collection[name])
    except (KeyError, ValueError):  # a group without a task of its own
        return False


def _is_help(program: Any, name: str) -> bool:
    if name.rpartition(".")[2] != HELP:  # with the name of a branch, if our tree is one
        return False
    try:
        return bool(program.collection[name].body.__module__ == _BODY)
    except KeyError:
        return False


def _positionals(words: Sequence[str]) -> Iterator[str]:
    # not the task's own flags: Invoke removes their help when it lists them
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            yield word
        elif word in _WITH_VALUE:
            next(rest, "")
