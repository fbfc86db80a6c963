"""Turn the errors of a task into one line and an exit code for Invoke."""

from __future__ import annotations

import functools
import io
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import invoke

from pgtasks.cli import context
from pgtasks.errors import Failed, Interrupted, PgtasksError, Refused
from pgtasks.report import commandline, typed

BUILTIN = "pgtasks_builtin"  # the modules of the built-in tasks
# flags whose value may be empty, and those whose own errors say more
_TEXTS = tuple(
    f"--{name}"
    for name in ("note", "message", "why", "sql", "env", "jobs", "backup", "confirm", "scale")
)


def guarded(body: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap the body of a task, so that errors become one line and an exit code.

    `name` is the task's full name in the tree, and that of its run.
    """

    builtin = body.__module__.startswith(BUILTIN)

    @functools.wraps(body)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from pgtasks import report

        if isinstance(sys.stdout, io.TextIOWrapper):
            # characters that the terminal's encoding lacks must not end in a traceback
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            _refuse_empty(kwargs, context.empty_arguments(name) if builtin else ())
            with context.running(name), _signals():
                return body(*args, **kwargs)
        except PgtasksError as exc:
            raise exit_of(exc, json=bool(kwargs.get("json"))) from exc
        except KeyboardInterrupt:
            raise exit_of(Interrupted("interrupted"), json=bool(kwargs.get("json"))) from None
        except BrokenPipeError:
            # the reader of our output has closed it, as with `| head`
            for stream in (sys.stdout, sys.stderr):
                report.silence(stream)
            raise invoke.Exit(code=1) from None

    # Invoke runs equal calls once, and tasks with the same name and code are equal (Task.__eq__):
    # without this `inv env.status server.status` would only run env.status
    own = f"{body.__module__}.{body.__qualname__}"
    wrapped.__code__ = wrapped.__code__.replace(co_name=own)  # type: ignore[attr-defined]
    wrapped.__pgtasks__ = name  # type: ignore[attr-defined]
    return wrapped


def pass_over_closed_pipes() -> None:
    """Let Invoke's own output end without a traceback where its reader has closed it."""
    before = sys.excepthook

    def end(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        from pgtasks import report

        if not issubclass(kind, BrokenPipeError):
            before(kind, exc, trace)
            return
        for stream in (sys.stdout, sys.stderr):
            report.silence(stream)

    sys.excepthook = end


def _refuse_empty(flags: Mapping[str, Any], empty: Sequence[str]) -> None:
    """Refuse an empty value, such as an unset variable of a script, that would count as no flag.

    `--into "$NAME"` must not replace the database itself. `empty` are the arguments typed so.
    """
    lists = [name for name, value in flags.items() if isinstance(value, list) and "" in value]
    shown = [f"--{name.strip('_').replace('_', '-')}" for name in lists]
    for argument in (*shown, *(each for each in empty if each not in _TEXTS)):
        choice = ", or leave it out" if argument.startswith("--") else ""
        raise Refused(f"{argument} is empty: give it a value{choice}")


def exit_of(exc: PgtasksError, *, json: bool = False) -> invoke.Exit:
    """Return the exception that makes Invoke print the error and end with its exit code."""
    from pgtasks import report

    if json:
        text = "\n".join(filter(None, [exc.hint, exc.block]))
        failure = report.failure(exc.message, exc.exit_code, text)
        with suppress(Failed, BrokenPipeError):  # stdout cannot be written, stderr has the error
            report.document({**failure, **exc.details})
    _discard_unwritten()
    error = report.painted(f"error: {report.printable(exc.message)}", sys.stderr)
    hint = (f"  {report.shown(line)}" for line in exc.hint.split("\n") if exc.hint)
    block = map(report.shown, exc.block.splitlines())
    return invoke.Exit("\n".join([*hint, *block, error]), code=exc.exit_code)


def _discard_unwritten() -> None:
    """Discard output that a full disk does not take, because Python writes it again at its end."""
    from pgtasks import report

    try:
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
    except OSError:
        report.silence(sys.stdout)


@contextmanager
def _signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end a run as Ctrl-C does, with all cleanup.

    SIGHUP stays ignored where it is: `nohup` lets a run outlive its terminal.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ending = (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)
    try:
        before = [(sign, signal.signal(sign, interrupt)) for sign in ending]
    except ValueError:  # not the main thread: an application runs the task
        before = []
    try:
        yield
    finally:
        for sign, handler in before:
            signal.signal(sign, handler)


def refuse_words(argv: Sequence[str], task: str) -> None:
    """Refuse words after `--`, because flags for psql would be ignored silently."""
    words = commandline.behind_dashes(argv)
    if not words:
        return
    sql = words[1] if words[0] in ("-c", "--command") and len(words) == 2 else "SELECT ..."
    raise Refused(
        f"{task} takes no flags of psql, found {shlex.join(words)!r}: pipe SQL into it, or "
        + typed.task("db.run", "--sql", shlex.quote(sql))
    )
