"""The decorator for tasks, with standard flags.

The files in `tasks/` import this. It imports nothing heavy, because `inv --list` loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import invoke
from invoke.parser import Argument

from pgtasks.cli import context, group
from pgtasks.errors import Refused

if TYPE_CHECKING:
    from pgtasks.cli.run import Run

# The help of flags that many tasks share.
SHARED_HELP = {
    "env": "the environment to work on (default: see env.status)",
    "json": "print one JSON document on stdout",
    "dry": "print the plan and change nothing",
    "confirm": "name of the database, instead of typing it at the prompt",
    "yes": "answer yes if a task has no undo (unprotected targets only)",
    "jobs": "number of parallel processes (default: jobs of the environment)",
    "backup": "ID, latest, or a path (default: the newest complete one)",
}


class Positional(Argument):  # type: ignore[misc]
    """A positional argument that may be omitted if a flag is given: its value is empty then.

    Invoke has required ones alone, which it recognizes by their value None.
    """

    def __init__(self, positional: Argument, flag: Argument) -> None:
        super().__init__(names=positional.names, help=positional.help, positional=True)
        self._flag = flag

    @property
    def instead(self) -> str:
        """Return the flag that makes it optional."""
        return f"--{self._flag.name.replace('_', '-')}"

    @property
    def value(self) -> str | None:
        """Return what was typed; None if it is missing."""
        missing = "" if self._flag.value else None
        return self._value if self._value is not None else missing

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word)


class FlagTask(invoke.Task):  # type: ignore[misc]
    """A task with short forms of some flags, and with positionals that a flag makes optional.

    `short={"message": "m"}`, `unless={"name": "branch"}`.
    """

    def __init__(
        self,
        *args: Any,
        short: Mapping[str, str] | None = None,
        unless: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.short, self.unless = short or {}, unless or {}

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """Return Invoke's options of a flag, with its short name."""
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        opts["names"] += [self.short[name]] if name in self.short else []
        return opts

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return Invoke's arguments, with the positionals that may be omitted."""
        arguments = super().get_arguments(ignore_unknown_help)
        flags = {argument.name: argument for argument in arguments}
        return [
            Positional(each, flags[self.unless[each.name]]) if each.name in self.unless else each
            for each in arguments
        ]


def task(*args: Any, help: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Declare a task, with long flags only and the shared help texts.

    Short flags are explicit (`short={"message": "m"}`): those that Invoke chooses change with every
    new flag and shadow `inv`'s own (-e, -f, -d ...). A positional may be omitted with a flag
    (`unless={"name": "branch"}`). `several=True` is for a task with `env` and
    `json`: if --env names several environments, it runs for each of them. `together=True` is for
    one that looks at all of them itself, by default at every one.
    """
    if args and callable(args[0]) and not options and help is None:
        return _declared(args[0], {}, {})

    def declare(body: Callable[..., Any]) -> Any:
        return _declared(body, dict(help or {}), options)

    return declare


def _declared(body: Callable[..., Any], help: dict[str, str], options: dict[str, Any]) -> Any:
    # a list shows the first paragraph; the example is for --help
    body.__doc__ = (body.__doc__ or "").replace(" Example: ", "\n\nExample: ")
    names = body.__code__.co_varnames[
        1 : body.__code__.co_argcount + body.__code__.co_kwonlyargcount
    ]
    texts = {name: SHARED_HELP[name] for name in names if name in SHARED_HELP}
    if options.pop("several", False):
        body = group.for_each_environment(body)
        texts |= group.HELP
    elif options.pop("together", False):
        body = group.for_all_together(body)
        texts |= group.TOGETHER
    elif "env" in names:
        body = group.for_one_environment(body)
    if {"short", "unless"} & options.keys():
        options["klass"] = FlagTask
    return invoke.task(help={**texts, **help}, auto_shortflags=False, **options)(body)


@contextmanager
def run(c: Any, **options: Any) -> Iterator[Run]:
    """Open the run of a task: `with run(c, env=env, json=json) as r:`.

    Its name is that of the task in the tree. `inv --dry` refuses a run that is journaled, or
    `writes` without a journal, if it has no `dry`.
    """
    from pgtasks.cli.opening import opened

    name, project = context.task(), context.project_of(c)
    writes = options.pop("writes", False) or options.get("journaled", False)
    if c.config.run.dry:  # inv --dry TASK
        if writes and "dry" not in options:
            raise Refused(f"{name} cannot tell its plan, it takes no --dry: nothing was done")
        options["dry"] = True
    with opened(project, name, **options) as current:
        yield current
