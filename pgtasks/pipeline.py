"""Pipelines: processes joined by pipes, every exit status checked, none left behind."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from pgtasks.errors import Failed
from pgtasks.host import Command, Host, Sink, Source

_TAIL = 40  # lines of stderr that are kept of each stage
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL; pg_dump cancels its queries in between


class Pipeline:
    """A running pipeline; leaving its block ends what still runs.

    `on_line` gets each line of stderr as it comes (from a thread of its own).
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
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tails: list[collections.deque[str]] = []
        self._threads: list[threading.Thread] = []
        self._on_line = on_line
        try:
            self._start(host, stdin, stdout)
        except BaseException:
            self.kill()
            raise

    def _start(self, host: Host, stdin: Source, stdout: Sink) -> None:
        upstream = stdin
        for number, command in enumerate(self.commands):
            last = number == len(self.commands) - 1
            process = host.start(
                command, stdin=upstream, stdout=stdout if last else subprocess.PIPE
            )
            if self._processes and self._processes[-1].stdout:
                # the writer must see a dead reader as a broken pipe, so only the reader holds it
                self._processes[-1].stdout.close()
            self._processes.append(process)
            self._drain(process)
            upstream = process.stdout

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        thread = threading.Thread(target=self._read, args=(process, tail), daemon=True)
        self._tails.append(tail)
        self._threads.append(thread)
        thread.start()

    def _read(self, process: subprocess.Popen[bytes], tail: collections.deque[str]) -> None:
        assert process.stderr is not None
        for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            tail.append(line)
            if self._on_line:
                self._on_line(line)

    def running(self) -> bool:
        """Return whether any stage still runs."""
        return any(process.poll() is None for process in self._processes)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for every stage, at most `seconds`; return whether all have ended."""
        try:
            for process in self._processes:
                process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self) -> list[str]:
        """Wait for all stages and return the last lines of stderr, raising Failed for a bad exit.

        The first stage that failed by itself is blamed: one that died of a broken pipe only
        mirrors the failure of its reader.
        """
        self.wait()
        for thread in self._threads:
            thread.join()
        codes = [process.returncode for process in self._processes]
        failed = [number for number, code in enumerate(codes) if code != 0]
        if failed:
            own = [number for number in failed if codes[number] != -signal.SIGPIPE]
            raise self._failure((own or failed)[0])
        return [line for tail in self._tails for line in tail]

    def _failure(self, number: int) -> Failed:
        code = self._processes[number].returncode
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        tail = self._tails[number]
        return Failed(f"{self.commands[number]} failed: {how}", hint="\n".join(tail))

    def kill(self) -> None:
        """End every stage that still runs: SIGTERM first, SIGKILL for what does not listen."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                if process.poll() is None:
                    _signal_group(process.pid, sign)
            if self.wait(_GRACE):
                break
        for process in self._processes:
            for stream in (process.stdout, process.stderr):
                if stream and not stream.closed and not self._read_by_thread(stream):
                    stream.close()

    def _read_by_thread(self, stream: object) -> bool:
        return any(process.stderr is stream for process in self._processes)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            if process.stderr:
                process.stderr.close()


def _signal_group(pid: int, sign: signal.Signals) -> None:
    try:
        os.killpg(pid, sign)
    except ProcessLookupError:
        pass  # it ended between the look and the signal


def run(
    host: Host, commands: Sequence[Command], *, stdin: Source = None, stdout: Sink = None
) -> list[str]:
    """Run a pipeline to its end and return its last lines of stderr, raising Failed."""
    with Pipeline(host, commands, stdin=stdin, stdout=stdout) as pipeline:
        return pipeline.check()
