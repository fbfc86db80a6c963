"""Pipelines: processes connected by pipes; every exit status is checked, every process ended."""

from __future__ import annotations

import collections
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.host import signals
from pgtasks.host.base import Command, Host, Process, Sink, Source
from pgtasks.host.worker import Worker
from pgtasks.settings.secret import redact

_TAIL = 40  # last lines of stderr that are kept of each stage
_LINE = 65_536  # bytes of a line of stderr per read
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL; pg_dump cancels its queries in between
# exit code of a writer whose reader has ended; also as a remote shell reports it
BROKEN_PIPE = (-signal.SIGPIPE, 128 + signal.SIGPIPE)
# What PostgreSQL's programs print if no server answers them. FATAL is the answer of a server. psql
# has an exit code for it.
_NO_SERVER = re.compile(
    r"^(?!psql)[a-z_]+: error: (connection to server .* failed: (?!FATAL).*)", re.M
)


class Pipeline:
    """A running pipeline; leaving its block ends the remaining processes.

    `on_line` is called with each line of stderr, in another thread. Start it from the main thread,
    see `host`.
    """

    def __init__(
        self,
        host: Host,
        commands: Sequence[Command],
        *,
        stdin: Source = None,
        stdout: Sink = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.commands = tuple(commands)
        self._stages: list[_Stage] = []
        try:
            self._start(host, stdin, stdout, on_line)
        except BaseException:
            self.close()
            raise

    def _start(
        self, host: Host, stdin: Source, stdout: Sink, on_line: Callable[[str], None] | None
    ) -> None:
        upstream = stdin
        for number, command in enumerate(self.commands):
            last = number == len(self.commands) - 1
            sink = stdout if last else subprocess.PIPE
            with signals.held():  # an exception before it is in the list would lose it
                process = host.start(command, stdin=upstream, stdout=sink)
                self._stages.append(_Stage(command, process, on_line))
            if number:
                # only the reader may have it open, so that the writer gets a broken pipe when the
                # reader ends
                self._stages[-2].close_stdout()
            upstream = process.stdout

    @property
    def codes(self) -> list[int | None]:
        """Return the exit codes of the stages, negative for a signal, None while one runs."""
        return [stage.process.poll() for stage in self._stages]

    def running(self) -> bool:
        """Return whether any stage still runs."""
        return None in self.codes

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for every stage, at most `seconds`; return whether all have ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            for stage in self._stages:
                stage.process.wait(
                    None if deadline is None else max(deadline - time.monotonic(), 0)
                )
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self) -> list[str]:
        """Wait for all stages and return the last lines of stderr, raising for a failed stage.

        The error is that of the first stage that failed by itself; a broken pipe is only the result
        of the reader's failure.
        """
        self.wait()
        for stage in self._stages:
            stage.drained()
        failed = [stage for stage in self._stages if stage.process.returncode != 0]
        if failed:
            own = [stage for stage in failed if stage.process.returncode not in BROKEN_PIPE]
            raise (own or failed)[0].failure()
        return [line for stage in self._stages for line in stage.tail]

    def suspend(self) -> None:
        """Stop the processes until `resume`; `kill` ends them all the same."""
        for stage in self._stages:
            stage.process.end(signal.SIGSTOP)

    def resume(self) -> None:
        """Let stopped processes go on."""
        for stage in self._stages:
            stage.process.end(signal.SIGCONT)

    def kill(self) -> None:
        """End every running stage, first with SIGTERM, then with SIGKILL."""
        impatient: KeyboardInterrupt | None = None
        for gently in (True, False):
            for stage in self._stages:
                stage.end(gently=gently)
            try:
                if self.wait(_GRACE):
                    break
            except KeyboardInterrupt as exc:  # a second Ctrl-C: kill at once, but leave no process
                impatient = exc
        if impatient:
            raise impatient

    def close(self) -> None:
        """End the running stages and close all pipes."""
        try:
            self.kill()
        finally:
            for stage in self._stages:
                stage.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stage:
    """One process of a pipeline; a thread reads its stderr, because a full pipe would block it."""

    def __init__(
        self,
        command: Command,
        process: Process,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self.command, self.process = command, process
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        self._on_line = on_line
        self._fault: Exception | None = None
        self._draining = Worker(self._drain)
        self._draining.start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            while raw := stream.readline(_LINE):
                self._take(raw.decode(errors="replace").rstrip("\r\n"))

    def _take(self, line: str) -> None:
        self.tail.append(line)
        if self._on_line and not self._fault:
            try:
                self._on_line(line)
            except Exception as exc:  # raised later by `drained`; reading continues
                self._fault = exc

    def drained(self) -> None:
        """Wait until stderr is read, raising the exception of `on_line`."""
        # a child of the tool may keep the pipe open, so the wait has a limit
        self._draining.wait(_GRACE)
        if self._fault:
            raise self._fault

    def failure(self) -> PgtasksError:
        """Return the error for a failed stage: Unreachable if no server answered it."""
        failure = self.process.failure(redact("\n".join(self.tail)))
        no_server = _NO_SERVER.search(failure.hint) if isinstance(failure, Failed) else None
        if no_server:
            return Unreachable(f"{self.command} failed: {no_server[1]}", hint=failure.hint)
        return failure

    def end(self, *, gently: bool) -> None:
        """Send a signal to the process and its children, unless it has ended."""
        self.process.end(self.command.stop if gently else signal.SIGKILL)

    def close_stdout(self) -> None:
        """Close the pipe that the next stage reads."""
        if self.process.stdout:
            self.process.stdout.close()

    def close(self) -> None:
        """Close the pipes, after the process has ended."""
        self.close_stdout()
        self._draining.wait(_GRACE)


def run(
    host: Host, commands: Sequence[Command], *, stdin: Source = None, stdout: Sink = None
) -> list[str]:
    """Run a pipeline and return its last lines of stderr, raising Failed."""
    with Pipeline(host, commands, stdin=stdin, stdout=stdout) as pipeline:
        return pipeline.check()
