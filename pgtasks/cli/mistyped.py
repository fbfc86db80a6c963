"""Suggest the nearest task, flag or command for one that is mistyped, in one line.

Invoke says "No idea what 'db.bakcup' is!". It loads tasks.py before it parses the tasks of the
command line, so that this module can replace the errors of its parser. It depends on
Program.parse_tasks, parse_cleanup, collection and core, and ParserContext.help_for, which are
public, and on ParseMachine.handle, complete_flag and see_positional_arg.
"""

from __future__ import annotations

import difflib
import functools
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from invoke.parser import ParseError, ParserContext
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from pgtasks.cli import context, early, group, topic
from pgtasks.errors import Failed
from pgtasks.report import typed

# the flag for a value without one: `inv db.restore 20260131T020003Z-5f1c`
_MEANT = {
    "db.backup": "env",
    "db.check": "env",
    "db.restore": "backup",
    "db.run": "file",
    "db.undo": "to",
    "backup.verify": "backup",
    "backup.list": "env",
    "env.show": "env",
    "env.check": "env",
    "migrate.new": "message",
    "migrate.up": "to",
    "migrate.down": "to",
    "seed.load": "set",
    "setup": "env",
}
_TEXTS = ("file", "message")  # flags whose value may look like a task: seed.sql
# Invoke's words; an argument is shown by Argument.__repr__
_ARGUMENT = re.compile(r"<Argument: ([\w-]+)[^>]*>")
_WITHOUT_VALUE = re.compile(rf"{_ARGUMENT.pattern} needed value")
_POSITIONALS = re.compile(r"did not receive required positional arguments: (.*)")
_A_FLAG = re.compile(r"--[A-Za-z][\w-]*(=.*)?", re.DOTALL)
_UNKNOWN = re.compile(r"No idea what '(.*)' is!", re.DOTALL)


def teach() -> None:
    """Make Invoke's program suggest the nearest words, and support `help`.

    From then on Ctrl-C has our message and exit code outside of a task too.
    """
    for name in ("parse_tasks", "parse_cleanup", "update_config", "execute"):
        method = getattr(Program, name)
        if not hasattr(method, "__wrapped__"):
            setattr(Program, name, _in_our_words(method))
    if not hasattr(ParseMachine.complete_flag, "__wrapped__"):
        ParseMachine.complete_flag = _with_value(ParseMachine.complete_flag)
    if not hasattr(ParseMachine.see_positional_arg, "__wrapped__"):
        ParseMachine.see_positional_arg = _no_flags(ParseMachine.see_positional_arg)
    if not hasattr(ParseMachine.handle, "__wrapped__"):
        ParseMachine.handle = _once(ParseMachine.handle)
    if not hasattr(ParserContext.help_for, "__wrapped__"):
        ParserContext.help_for = _with_kind(ParserContext.help_for)


def _with_value(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Refuse a repeated flag without a value, which Invoke accepts; remember empty values."""

    @functools.wraps(method)
    def wrapped(machine: Any) -> None:
        method(machine)
        lacks = machine.flag and machine.flag.kind is list and not machine.flag_got_value
        if lacks or getattr(machine, "given_again", None):
            machine.error(f"Flag {machine.flag!r} needed value and was not given one!")
        if machine.flag and machine.flag.raw_value == "" and machine.context.name:
            context.given_empty(machine.context.name, _flag(machine.flag.name))

    return wrapped


def _no_flags(method: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    """Refuse an unknown flag, which Invoke takes for a positional that is still to come.

    Remember an empty one, which some tasks would take for something else.
    """

    @functools.wraps(method)
    def wrapped(machine: Any, value: str) -> None:
        open_ones = [each for each in machine.context.positional_args if each.value is None]
        if value == "" and open_ones:
            context.given_empty(machine.context.name, open_ones[0].name.upper())
        if _A_FLAG.fullmatch(value) and open_ones:
            machine.error(f"No idea what '{value}' is!")
        method(machine, value)

    return wrapped


def _once(method: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    """Refuse a second value of a flag that takes one."""

    @functools.wraps(method)
    def wrapped(machine: Any, token: str) -> None:
        flags = machine.context.flags if machine.context else {}
        flag = flags.get(token)
        if flag is None and (before := getattr(machine, "given_again", None)):
            machine.error(_twice(machine.context.name, before, token))
        has_one = flag and flag.takes_value and flag.kind is not list and flag.raw_value is not None
        method(machine, token)
        machine.given_again = flag if has_one and machine.context.name else None

    return wrapped


def _twice(task: str, flag: Any, value: str) -> str:
    """Return the error for a second value of a flag."""
    name, first = _flag(flag.name), str(flag.raw_value)
    several = ""
    if name == "--env" and value != first and group.takes_several(task):
        several = f", several environments with a comma: {name} {shlex.quote(f'{first},{value}')}"
    return f"{task}: {name} is given twice, with {first!r} and {value!r}: give it once{several}"


def _with_kind(method: Callable[..., tuple[str, str]]) -> Callable[..., tuple[str, str]]:
    """Show in the help that a repeatable flag takes a value, which Invoke omits."""

    @functools.wraps(method)
    def wrapped(context: Any, flag: str) -> tuple[str, str]:
        names, help = method(context, flag)
        return f"{names}=STRING" if context.flags[flag].kind is list else names, help

    return wrapped


def _in_our_words(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def wrapped(program: Any) -> None:
        parses = method.__name__ == "parse_tasks"
        try:
            early.unwatch()
            if parses:
                topic.before(program)
            method(program)
            if parses:
                topic.after(program)
        except KeyboardInterrupt:
            raise early.ended() from None
        except ParseError as exc:
            from pgtasks.cli.edge import exit_of
            from pgtasks.report import commandline

            names = list(program.collection.task_names)
            words = list(program.core.unparsed)
            failure = Failed(_explained(exc, names, words))
            raise exit_of(failure, json=commandline.wants_json(program.argv)) from None

    return wrapped


def _explained(exc: ParseError, names: Sequence[str], words: Sequence[str]) -> str:
    unknown = _UNKNOWN.fullmatch(str(exc))
    if unknown is None:
        return _incomplete(str(exc), exc.context, words)
    word, context = unknown[1], exc.context
    task = context.name if context is not None else None
    if task is None:
        return _too_early(word, names, words) if word.startswith("-") else _no_task(word, names)
    if word.startswith("-"):
        return _no_flag(word, task, context)
    return _no_positional(word, task, context, names, words)


def _incomplete(text: str, context: Any, words: Sequence[str]) -> str:
    """Return the error for a flag without its value, or a task without its positional."""
    task = context.name if context else None
    help = f" ({typed.inv('--help', task)})" if task else ""
    if task and (missing := _POSITIONALS.search(text)):
        names = " ".join(map(str.upper, re.findall(r"'(.+?)'", missing[1])))
        given = map(shlex.quote, words[words.index(task) :] if task in words else [task])
        flags = [getattr(each, "instead", "") for each in context.positional_args]
        ways = " or ".join(filter(None, [names, *flags]))
        if names == "ID" and task.startswith("backup."):
            ways = f"{ways} of {typed.task('backup.list')}"
        return f"{task} needs {ways}: {typed.inv(*given, names)}{help}"
    if flag := _WITHOUT_VALUE.search(text):
        of = f"{task}: " if task else ""
        return f"{of}{_flag(flag[1])} needs a value{help}"
    return _lowered(_ARGUMENT.sub(lambda match: _flag(match[1]), text)) + help


def _flag(name: str) -> str:
    return f"--{name.strip('_').replace('_', '-')}"


def _lowered(text: str) -> str:
    text = " ".join(text.split()).rstrip("!")
    return text[:1].lower() + text[1:]


def _too_early(flag: str, names: Sequence[str], words: Sequence[str]) -> str:
    """Return the error for an unknown flag before the first task."""
    error = f"unknown flag {flag!r} of inv, the flags of a task go after it"
    task = next((word for word in words if word in names), "")
    if not task:
        return f"{error} ({typed.inv('--list')} shows all tasks)"
    rest = list(words)
    rest.remove(task)
    return f"{error}: {typed.inv(task, *map(shlex.quote, rest))}"


def _no_task(word: str, names: Sequence[str]) -> str:
    members = [name for name in names if name.startswith(f"{word}.")]
    if members:
        first = f"did you mean db.{word}, or " if f"db.{word}" in names else "name "
        return f"{word!r} is a group of tasks, {first}one: {', '.join(members)}"
    near = _near_tasks(word, names)
    way_out = f"did you mean {', '.join(near)}" if near else f"{typed.inv('--list')} shows all"
    return f"unknown task {word!r}, {way_out}"


def _near_tasks(word: str, names: Sequence[str]) -> list[str]:
    """Return the tasks with a similar name, or with this name in a collection."""
    name = word.replace(":", ".").replace("_", "-").lower()
    if name in names:
        return [name]
    group, _, last = name.rpartition(".")
    same = [each for each in names if each.rpartition(".")[2] == last]
    begun = [each for each in names if group and len(last) > 2 and each.startswith(name)]
    near = [*begun, *same][:3] or difflib.get_close_matches(name, names, 3, 0.7)
    return near or _by_last_word(name, names)


def _by_last_word(name: str, names: Sequence[str]) -> list[str]:
    last = {each.rpartition(".")[2]: each for each in names}
    near = difflib.get_close_matches(name.rpartition(".")[2], last, 3, 0.75)
    return [last[each] for each in near]


def _groups(names: Sequence[str]) -> set[str]:
    return {name.partition(".")[0] for name in names if "." in name}


def _no_flag(word: str, task: str, context: Any) -> str:
    flag = word.partition("=")[0]
    flags = [each for each in context.flags if each.startswith("--")]
    near = difflib.get_close_matches(flag, flags, 1, 0.75)
    way_out = f"did you mean {near[0]}" if near else f"known: {', '.join(flags)}"
    return f"{task} has no flag {flag!r}, {way_out} ({typed.inv('--help', task)})"


def _no_positional(
    word: str, task: str, context: Any, names: Sequence[str], words: Sequence[str]
) -> str:
    near = _near_tasks(word, names)
    flag = _MEANT.get(task, "")
    group = word.partition(".")[0]
    if group in _groups(names) and "." in word and word not in near and flag not in _TEXTS:
        members = [name for name in names if name.startswith(f"{group}.")]
        return f"unknown task {word!r}, did you mean {', '.join(near or members)}"
    task_meant = word in names or word in near or difflib.get_close_matches(word, names, 1, 0.85)
    if f"--{flag}" in context.flags and not task_meant:
        value = shlex.quote(word)
        if task == "db.run" and len(word.split()) > 1:  # a statement
            flag = "sql"
        env = "" if flag == "env" else _environment(words)
        way = typed.task(task, f"--{flag} {value}", environment=env)
        return f"{task} takes {word!r} by a flag: {way}"
    wanted = " ".join(each.name.upper() for each in context.positional_args)
    if wanted and not task_meant and "." not in word:
        return f"{task} takes {wanted} alone, {word!r} is too many ({typed.inv('--help', task)})"
    way_out = (
        f"did you mean the task {', '.join(near)}" if near else f"see {typed.inv('--help', task)}"
    )
    return f"{task} takes no {word!r}, {way_out}"


def _environment(words: Sequence[str]) -> str:
    """Return the value of --env on a command line, or an empty text."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag == "--env":
            return value if equals else following
    return ""
