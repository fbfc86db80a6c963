"""Run one task for several environments at once, each in its own `inv` process.

Signals, connections, output and journal of the runs are thus separate, and a failure of one stops
no other. These runs cannot ask questions: a task that needs an answer is refused.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pgtasks import report
from pgtasks.cli.group_result import GroupResult, RunResult
from pgtasks.errors import Interrupted, Refused
from pgtasks.host.base import Command
from pgtasks.host.child import for_own_runs, handed_over
from pgtasks.host.local import HERE

AT_ONCE = 4
_MOST = 64
_LOOK = 0.05  # seconds between checks whether a run has ended
_GRACE = 20.0  # seconds between SIGTERM and SIGKILL, for a run to end its processes and sessions
_PIPE = 1 << 20  # bytes: the largest pipe (pipe(7), pipe-max-size)


@dataclass(frozen=True)
class Call:
    """The command line of a task, repeated for each environment.

    `tasks_file` is the file of the task tree; `words` are the task's flags without --env.
    """

    task: str
    tasks_file: Path
    words: tuple[str, ...]
    json: bool
    runtime: str | None = None  # Invoke's -f file
    dry: bool = False  # Invoke's own --dry
    env: Mapping[str, str] | None = None  # variables beside those of this process

    def command(self, environment: str) -> Command:
        """Return the command for one environment."""
        file = self.tasks_file
        package = file.stem == "__init__"
        root, name = (file.parent.parent, file.parent.name) if package else (file.parent, file.stem)
        core = [f"--search-root={root}", f"--collection={name}"]
        core += [f"--config={self.runtime}"] if self.runtime else []
        core += ["--dry"] if self.dry else []
        task = [self.task, *self.words, f"--env={environment}", *(["--json"] if self.json else [])]
        return Command((*_program(), *core, *task))


def _program() -> tuple[str, ...]:
    """Return the command that starts Invoke, the script of this process if possible."""
    script = Path(sys.argv[0])
    if script.name in ("inv", "invoke") and script.is_file():
        return sys.executable, str(script)
    return sys.executable, "-m", "invoke"


def flags(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the flags for these values of a task, without those that are defaults."""
    words: list[str] = []
    for name, value in values.items():
        flag = name.strip("_").replace("_", "-")
        if value is None or value == defaults.get(name):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}={item}" for item in value]
        else:
            words.append(f"--{flag}={value}")
    return tuple(words)


def at_once(value: object) -> int:
    """Return the number of --hosts-at-once, raising Refused for an invalid one."""
    text = str(AT_ONCE if value is None else value)
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= _MOST):
        raise Refused(f"--hosts-at-once: {text!r}, expected a number from 1 to {_MOST}")
    return int(text)


def run(environments: Sequence[str], call: Call, *, at_once: int) -> GroupResult:
    """Run a task for each environment, `at_once` at a time, and report each run.

    After Ctrl-C it ends the current runs, starts no other, and returns the results so far. Call it
    from the main thread, see `host`.
    """
    waiting, running = collections.deque(environments), list[_Child]()
    ended: dict[str, RunResult] = {}
    width = max(map(len, environments))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_Child(waiting[0], call))
                waiting.popleft()
            _collect(running, ended, width)
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        pass  # the results show it
    finally:
        _end(running)
        _collect(running, ended, width)
    return GroupResult([ended.get(name) or _not_begun(name) for name in environments])


def _not_begun(environment: str) -> RunResult:
    return RunResult(environment, Interrupted.exit_code, 0.0, error="not begun")


def _collect(running: list[_Child], ended: dict[str, RunResult], width: int) -> None:
    """Pass on the output of the runs, and report and collect those that have ended."""
    for child in list(running):
        over = child.ended()
        child.pump()
        if over:
            outcome = ended[child.environment] = child.outcome()
            running.remove(child)
            report.say(outcome.line(width))


def _end(children: Sequence[_Child]) -> None:
    """Terminate the remaining runs, and kill them after a second Ctrl-C or a timeout."""
    try:
        for child in children:
            child.end(signal.SIGTERM)
        if children:
            number = report.plural(len(children), "run")
            report.say(f"ending {number}; Ctrl-C once more kills them")
        deadline = time.monotonic() + _GRACE
        while not all(child.ended() for child in children) and time.monotonic() < deadline:
            for child in children:
                child.pump()
            time.sleep(_LOOK)
    finally:
        for child in children:
            child.end(signal.SIGKILL)
        for child in children:
            child.process.wait()


class _Child:
    """The run of one environment; stderr is passed on, stdout and the error are stored.

    No thread reads from it, because a child gets the parent-death signal once for each thread of
    its parent.
    """

    def __init__(self, environment: str, call: Call) -> None:
        self.environment = environment
        self._began = time.monotonic()
        self._last = ""
        self._kept = {"error": "", "summary": ""}
        self._stopped = False
        plain, secret = for_own_runs(call.env or {})
        command = replace(call.command(environment), env=plain)
        variables = handed_over(secret)
        try:
            self.process = HERE.start(command, stdin=variables, stdout=subprocess.PIPE)
        finally:
            if variables:
                variables.close()
        self._output, self._talk = _Pipe(self.process.stdout), _Pipe(self.process.stderr)

    def ended(self) -> bool:
        """Return whether the run has ended."""
        return self.process.poll() is not None

    def end(self, sign: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.ended():
            self._stopped = True
            self.process.end(sign)

    def pump(self) -> None:
        """Read its output so far."""
        self._output.read()
        self._talk.read()
        *whole, rest = self._talk.held.split(b"\n")
        self._talk.held = rest
        for line in whole:
            self._hear(line.decode("utf-8", "backslashreplace").rstrip("\r"))

    def _hear(self, line: str) -> None:
        kind, colon, rest = line.partition(": ")
        if colon and kind in self._kept:
            self._kept[kind] = rest  # for the line at its end
            return
        self._last = line or self._last
        own = kind == self.environment  # the target line
        report.say(report.printable(line if own else f"{self.environment}: {line}"))

    def outcome(self) -> RunResult:
        """Return its result, once it has ended and all output is read."""
        for pipe in (self._output, self._talk):
            pipe.close()
        output = self._output.held.decode("utf-8", "backslashreplace").rstrip()
        code, error = self.process.returncode, self._kept["error"] or self._last
        if code < 0:  # before its task began, or without cleanup
            error = f"ended by {signal.Signals(-code).name}"
            code = Interrupted.exit_code if self._stopped else 1
        return RunResult(
            *(self.environment, code, time.monotonic() - self._began, output),
            error=error if code else "",
            brief=self._kept["summary"],
        )


class _Pipe:
    """The output of a pipe, read without blocking, because a grandchild may keep it open."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self.held = b""
        os.set_blocking(stream.fileno(), False)

    def read(self) -> None:
        """Read the available bytes, which are all if the writer has ended."""
        try:
            self.held += os.read(self._stream.fileno(), _PIPE)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the pipe."""
        self._stream.close()
