"""The edge to Invoke: tasks with standard flags, errors as one line and an exit code.

What a file in `tasks/` imports. Nothing heavy is imported here: `inv --list` loads it.
"""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import invoke

from pgtasks import several
from pgtasks.errors import Interrupted, PgtasksError, Refused

if TYPE_CHECKING:
    from pgtasks.project import Project
    from pgtasks.run import Run

# One wording for the flags that many tasks share.
SHARED_HELP = {
    "env": "the environment to work on (default: see env.status)",
    "json": "print one JSON document on stdout",
    "dry": "print the plan and change nothing",
    "confirm": "the database's name, typed here instead of at the prompt",
    "yes": "answer y to the question of a task that has no undo (unprotected targets only)",
    "jobs": "processes that work at once (default: the environment's jobs)",
    "backup": "ID, latest, or a path (default: the newest complete one)",
}
_ENV_OF_SEVERAL = (
    "the environment to work on, or several: a,b or 'prod-*' (default: see env.status)"
)

_tasks_file: Path | None = None
_libpq: Mapping[str, str] = {}


def set_file(file: Path) -> None:
    """Say which file the task tree comes from; the project is the folder that it lies in."""
    global _tasks_file
    _tasks_file = file


def tasks_file() -> Path | None:
    """Return the file that the task tree comes from, None where no tree was assembled."""
    return _tasks_file


class ShortTask(invoke.Task):  # type: ignore[misc]
    """A task some of whose flags have a short form too: `short={"message": "m"}`."""

    def __init__(self, *args: Any, short: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.short = short

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """Return what Invoke makes a flag from, its short name added."""
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        opts["names"] += [self.short[name]] if name in self.short else []
        return opts


def task(*args: Any, help: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Declare a task: Invoke's own decorator with long flags only and the shared help texts.

    Short flags are given by hand (`short={"message": "m"}`): Invoke's own choice of letters
    changes with every new flag and shadows `inv`'s (-e, -f, -d ...). `several=True` is for a task
    with `env` and `json`: where --env names several environments, it runs for each of them.
    """
    if args and callable(args[0]) and not options and help is None:
        return _declared(args[0], {}, {})

    def declare(body: Callable[..., Any]) -> Any:
        return _declared(body, dict(help or {}), options)

    return declare


def _declared(body: Callable[..., Any], help: dict[str, str], options: dict[str, Any]) -> Any:
    # the first paragraph is what a list shows: the example is for --help
    body.__doc__ = (body.__doc__ or "").replace(" Example: ", "\n\nExample: ")
    names = body.__code__.co_varnames[
        1 : body.__code__.co_argcount + body.__code__.co_kwonlyargcount
    ]
    texts = {name: SHARED_HELP[name] for name in names if name in SHARED_HELP}
    if options.pop("several", False):
        body = several.accepted(body)
        texts |= several.HELP
    elif "env" in names:
        body = several.refused(body)
    if "short" in options:
        options["klass"] = ShortTask
    return invoke.task(help={**texts, **help}, auto_shortflags=False, **options)(body)


def project_of(c: Any) -> Project:
    """Return the project that a task's context belongs to, its settings read afresh.

    From here on the process has no PG* variables: a project's own task that never asks keeps them.
    """
    global _libpq
    from pgtasks import libpq, project

    _libpq = {**_libpq, **libpq.detach_variables(os.environ)}
    runtime = getattr(c.config, "_runtime_path", None)
    root = _tasks_file.parent if _tasks_file else project.find_root(Path.cwd())
    return project.load(root, runtime=Path(runtime) if runtime else None, libpq=_libpq)


@contextmanager
def run(c: Any, name: str, **options: Any) -> Iterator[Run]:
    """Open the run of a task: `with run(c, "db.backup", env=env, json=json) as r:`."""
    from pgtasks.run import run as open_run

    options["dry"] = options.get("dry") or bool(c.config.run.dry)
    with open_run(project_of(c), name, **options) as current:
        yield current


def guarded(body: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a task's body: library errors become one line and an exit code."""

    @functools.wraps(body)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from pgtasks import report

        if isinstance(sys.stdout, io.TextIOWrapper):
            # a name that the terminal's encoding does not have is no reason to end in a traceback
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            _refuse_empty(kwargs)
            with _signals():
                return body(*args, **kwargs)
        except PgtasksError as exc:
            raise exit_of(exc, json=bool(kwargs.get("json"))) from exc
        except KeyboardInterrupt:
            raise exit_of(Interrupted("interrupted"), json=bool(kwargs.get("json"))) from None
        except BrokenPipeError:
            # the reader of our output went away, as with `| head`
            for stream in (sys.stdout, sys.stderr):
                report.silence(stream)
            raise invoke.Exit(code=1) from None

    # Invoke runs equal calls once, and takes tasks of one name and equal code for the same
    # (Task.__eq__): without this `inv env.status server.status` is env.status alone
    own = f"{body.__module__}.{body.__qualname__}"
    wrapped.__code__ = wrapped.__code__.replace(co_name=own)  # type: ignore[attr-defined]
    wrapped.__pgtasks__ = True  # type: ignore[attr-defined]
    return wrapped


def _refuse_empty(flags: Mapping[str, Any]) -> None:
    """Refuse an empty value of a repeatable flag: an unset variable of a script, say."""
    for name, value in flags.items():
        if isinstance(value, list) and "" in value:
            raise Refused(f"--{name.strip('_').replace('_', '-')} '' names nothing")


def exit_of(exc: PgtasksError, *, json: bool = False) -> invoke.Exit:
    """Return what makes Invoke print the error and end with its exit code."""
    from pgtasks import report

    if json:
        failure = report.failure(exc.message, exc.exit_code, exc.hint)
        report.document({**failure, **exc.details})
    error = report.colored(f"error: {report.printable(exc.message)}", "error:", report.RED)
    hint = (f"  {report.shown(line)}" for line in exc.hint.split("\n") if exc.hint)
    return invoke.Exit("\n".join([*hint, error]), code=exc.exit_code)


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: in order, with everything undone."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = [
            (sign, signal.signal(sign, interrupt)) for sign in (signal.SIGTERM, signal.SIGHUP)
        ]
    except ValueError:  # not the main thread: an application runs the task
        before = []
    try:
        yield
    finally:
        for sign, handler in before:
            signal.signal(sign, handler)
