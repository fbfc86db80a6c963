"""Open the run of a task: its environment and its target; close it with a line in the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pgtasks import report
from pgtasks.cli.run import Run
from pgtasks.errors import BadConfiguration, PgtasksError, Refused, Unreachable
from pgtasks.host import baseline, journal
from pgtasks.report import account, typed
from pgtasks.settings import fields
from pgtasks.settings.blocks import Settings
from pgtasks.settings.environment import Environment, Value, resolve
from pgtasks.settings.project import Project
from pgtasks.settings.selection import choose, must_be_named
from pgtasks.settings.target import Target, from_environment


@contextmanager
def opened(
    project: Project,
    task: str,
    *,
    env: str | None = None,
    json: bool = False,
    dry: bool = False,
    journaled: bool = False,
    flags: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """Open a run: choose the environment, print the target line; at the end, write to the journal.

    `flags` are settings of the command line, None for a flag that is not given.
    """
    choice = choose(project, env)
    settings = {key: _flag(key, value) for key, value in (flags or {}).items() if value is not None}
    environment = resolve(project, choice.environment, flags=settings)
    target = _named(from_environment(environment), project)
    report.say(report.printable(target.line()))
    current = Run(task, project, choice, environment, target, json, dry, journaled and not dry)
    began = time.monotonic()
    name = environment.name if must_be_named(project, environment) else ""
    try:
        with typed.within(task, name), _pointing(current):
            yield current
    except BaseException as exc:
        error = current.explained(exc) if isinstance(exc, PgtasksError) else exc
        current.result = _result(error)
        if error is exc:
            raise
        raise error from None
    finally:
        current.close()
        if current.journaled:
            _compare(project, resolve(project, environment.name) if settings else environment)
            _write_journal(current, time.monotonic() - began)


# messages of libpq about a connection that was not made
_NOT_REACHED = ("connection to server", "could not translate host name")


@contextmanager
def _pointing(current: Run) -> Iterator[None]:
    """Add a hint to an error of a connection that has none: the task that tests it step by step."""
    try:
        yield
    except Unreachable as exc:
        not_reached = any(words in exc.message for words in _NOT_REACHED)
        denied = "password authentication failed" in exc.message
        elsewhere = denied or current.task != "db.check"
        shown = current.task == "verify.connection"  # which has its own way out
        if not_reached and elsewhere and not shown and not exc.hint and "inv " not in exc.message:
            steps = f"{typed.task('verify.connection')} checks the connection step by step"
            exc.hint = "\n".join([*(_password_source(current) if denied else ()), steps])
        raise


def _password_source(current: Run) -> list[str]:
    """Return a line with the source of the refused password, if it is known."""
    from pgtasks.host import password

    target = current.target
    if target.password is not current.environment.password:  # that of the reader
        return []
    source = password.source(target, current.environment)
    # a password without a source was typed
    return [f"the password is {source}"] if source.startswith("from ") else []


def _named(target: Target, project: Project) -> Target:
    if not target.embedded:
        return target
    from pgtasks.server import embedded

    return embedded.named(target, project.root)


def _result(exc: BaseException) -> str:
    """Return the result of a failed run for the journal."""
    if isinstance(exc, PgtasksError):
        return exc.message
    return "interrupted" if isinstance(exc, KeyboardInterrupt) else exc.__class__.__name__


def _flag(key: str, value: Any) -> Value:
    """Return the setting of a flag with its type, raising Refused for a bad one."""
    try:
        return Value(fields.check(fields.of(Settings)[key], value, f"--{key}"), f"--{key}")
    except BadConfiguration as exc:
        raise Refused(exc.message) from None


def _compare(project: Project, environment: Environment) -> None:
    """Write an entry for settings that differ from those of the last run."""
    try:
        baseline.note(project, environment, "tasks")
    except OSError as exc:
        report.say(f"warning: the settings were not compared with the last run's: {_fault(exc)}")


def _write_journal(current: Run, seconds: float) -> None:
    entry = journal.Entry(
        when=journal.now(),
        who=account.who(),
        task=current.task,
        environment=current.environment.name,
        database=current.target.database,
        result=current.result,
        seconds=round(seconds, 3),
        details=current.details,
    )
    try:
        journal.append(current.project.folder("backups"), entry)
    except OSError as exc:
        report.say(f"warning: the journal was not written: {_fault(exc)}")


def _fault(exc: OSError) -> str:
    return f"{exc.strerror}: {str(exc.filename)!r}" if exc.filename else str(exc.strerror)
