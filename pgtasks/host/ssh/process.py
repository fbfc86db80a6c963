"""A command on the host, which behaves like a local child process."""

from __future__ import annotations

import io
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.host.base import Command, Sink, Source, signal_name
from pgtasks.host.ssh import scripts
from pgtasks.host.ssh.transport import within
from pgtasks.host.worker import Worker, limited

if TYPE_CHECKING:
    from pgtasks.host.ssh.link import Link

CHUNK = 1 << 18
# of a message: paramiko cuts more into messages, and copies all the rest for each of them
_MESSAGE = (1 << 15) - 64
LOST = 255  # exit code of a command whose end is not known
_GONE = (OSError, EOFError)  # what paramiko raises on a closed connection
_BANNER = 1 << 20  # bytes that a login shell may print before our command begins
_WORDS = 1 << 16  # last bytes of stderr that are kept
_SHOWN = 500  # characters of a login shell's message instead of a command
_LOOK = 0.1  # seconds
_GRACE = 5.0  # seconds that a process left by the command may keep its stdout open
_QUEUE = 30.0  # seconds that data of a channel may wait behind that of others
_SAYING = 2.0  # seconds in which the loss of a connection is detected


class RemoteProcess:
    """A command on the host; stdin and stdout are local files, or pipes.

    `returncode` is that of a local process, or LOST if the end of the command is not known or not
    all of its output has arrived: that is a failure, whatever the command itself reported.
    """

    def __init__(self, link: Link, command: Command, *, stdin: Source, stdout: Sink) -> None:
        self.link, self.command = link, command
        self.mark = secrets.token_hex(8)
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = None
        self._begun = False
        self._late = threading.Event()
        self._banner = b""
        self._fault: OSError | None = None
        self._killed = False
        self._whole = False
        self._quiet_since = float("inf")
        self._ended_at: float | None = None
        sink = self._sink(stdout)
        source = None if stdin is None else _copy(stdin)
        try:
            self._channel = link.session()
            with within(self._channel, self._limit):
                self._channel.exec_command(scripts.begin(link.login.sudo_user))
                self._channel.sendall(scripts.command(command, self.mark, link.room))
        except BaseException as exc:
            for handle in (sink, source):
                if handle is not None:
                    os.close(handle)
            if self.stdout is not None:
                self.stdout.close()
            if isinstance(exc, PgtasksError) or not isinstance(exc, Exception):
                raise
            raise Unreachable(f"{link}: {link.why_lost(_SAYING) or exc}") from None
        self.stderr: IO[bytes] | None = io.BufferedReader(_Stderr(self))  # type: ignore[type-var]
        self._reader = self._started(self._read, sink)
        if source is not None:
            self._started(self._write, source)
        else:
            with suppress(*_GONE):  # connection lost: the exit code shows it
                self._channel.shutdown_write()

    def _sink(self, stdout: Sink) -> int | None:
        if stdout is None:
            return None
        if stdout != subprocess.PIPE:
            return _copy(stdout)
        reader, writer = os.pipe()
        self.stdout = os.fdopen(reader, "rb")
        return writer

    def _started(self, work: Callable[[int | None], None], handle: int | None) -> Worker:
        worker = Worker(work, handle)
        worker.start()
        return worker

    def _read(self, sink: int | None) -> None:
        """Copy the output of the command after the mark into the sink."""
        try:
            data = self._begin()
            while self._begun and (data or (data := self._channel.recv(CHUNK))):
                self._quiet_since = float("inf")
                if not self._passed_on(data, sink):
                    return
                self._quiet_since, data = time.monotonic(), b""
            self._whole = self._whole or bool(self._channel.eof_received)
        except _GONE:
            pass  # connection lost: output is missing
        finally:
            if sink is not None:
                os.close(sink)

    def _passed_on(self, data: bytes, sink: int | None) -> bool:
        """Write into the sink; if that fails, as with a full disk, end the command."""
        try:
            if sink is not None:
                write(sink, data)
        except OSError as exc:
            self._fault = exc
            unread = isinstance(exc, ConnectionError)  # the reader of a pipe or socket closed it
            self.link.lifeline.signal(self.mark, signal.SIGPIPE if unread else signal.SIGTERM)
            self._channel.close()
            return False
        return True

    def _begin(self) -> bytes:
        """Read up to the mark and return the bytes after it."""
        marker = f"\n{self.mark}\n".encode()
        received = b""
        with self._bounded_beginning():
            while len(received) < _BANNER and (more := self._channel.recv(CHUNK)):
                received += more
                _, separator, rest = received.partition(marker)
                if separator:
                    self._begun, self._quiet_since = True, time.monotonic()
                    return rest
        self._banner = received[-_WORDS:]
        self._channel.close()
        return b""

    @contextmanager
    def _bounded_beginning(self) -> Iterator[None]:
        """Close the channel if a block takes too long, because a host may send without end."""
        with limited(self._limit, self._channel.close) as self._late:
            yield

    @property
    def _limit(self) -> float:
        """Return the timeout for the start of a command, whose output may wait behind data."""
        return self.link.login.channel_timeout + _QUEUE

    def _write(self, source: int | None) -> None:
        """Send the source to the command's stdin."""
        assert source is not None
        ready = select.poll()
        ready.register(source, select.POLLIN)
        try:
            while not self._channel.closed:
                # in slices, so that a silent writer does not keep us from noticing the end
                if not ready.poll(_LOOK * 1000):
                    continue
                data = os.read(source, _MESSAGE)
                if not data:
                    self._channel.shutdown_write()
                    return
                self._channel.sendall(data)
        except _GONE:
            pass  # the command no longer reads; its exit code says why
        finally:
            os.close(source)  # so that the writer gets a broken pipe

    def words(self) -> bytes:
        """Wait for the end of stderr and return its last bytes."""
        assert self.stderr is not None
        received = b""
        while more := self.stderr.read(_WORDS):
            received = (received + more)[-_WORDS:]
        return received

    def poll(self) -> int | None:
        """Return the exit code, None while the command runs or output is missing."""
        if self.returncode is None and self._channel.status_event.is_set():
            self._ended_at = self._ended_at or time.monotonic()
            if self._held_open():
                self._whole = True
                self._channel.close()
            if self._reader.wait(0):
                self.returncode = self._verdict()
                self._channel.close()
        return self.returncode

    def _held_open(self) -> bool:
        """Return whether a process left by the command keeps its stdout open.

        That is so if a keepalive arrived long after the command's end and its last output.
        Otherwise, on a slow connection, the rest of the output may still arrive.
        """
        if self._reader.wait(0) or self._channel.closed or self._ended_at is None:
            return False
        return self.link.lifeline.answered - max(self._ended_at, self._quiet_since) > _GRACE

    def _verdict(self) -> int:
        """Return the exit code, LOST if it is unknown or output is missing."""
        signalled = self.link.transport.signals.get(self._channel.chanid)
        status = self._channel.exit_status
        if signalled is not None or status >= 0:
            self.link.lifeline.ended(self.mark)
        if isinstance(self._fault, ConnectionError):
            return -signal.SIGPIPE
        if signalled:
            return -signalled
        if self._killed and status < 0:
            return -signal.SIGKILL
        if status < 0 or self._fault or not (self._begun and self._whole):
            return status if status > 0 else LOST
        return status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code, raising subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._channel.status_event.wait(_LOOK if deadline is None else _left(deadline))
            if self._channel.status_event.is_set():
                self._reader.wait(_LOOK if deadline is None else _left(deadline))
            code = self.poll()
            if code is not None:
                return code
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(self.command.argv, timeout or 0)

    def close(self) -> None:
        """Stop reading from the command; the watchdog ends what is left of it."""
        self.end(signal.SIGTERM)
        self._channel.close()

    def end(self, sign: signal.Signals) -> None:
        """Send a signal to the command and its children, even if it is about to begin."""
        if self.returncode is not None:
            return
        sent = self.link.lifeline.signal(self.mark, sign)
        if sign == signal.SIGKILL or not sent:
            self._killed = True
            self._channel.close()

    def failure(self, hint: str) -> PgtasksError:
        """Return the error for a failed command."""
        code, where = self.returncode, self.link
        if self._fault and not isinstance(self._fault, ConnectionError):
            return Failed(f"cannot write what {self.command} sends: {self._fault.strerror}")
        if (code == LOST and self._channel.exit_status <= 0) or code == scripts.OVER:
            if lost := where.why_lost(_SAYING):
                return Unreachable(f"{where}: {lost}, {self.command} was ended there")
            if self._begun and code == LOST:
                words = f"{where}: the channel was closed before {self.command} was done"
                return Unreachable(words, hint=hint)
        if not self._begun:
            if self._late.is_set():
                limit = f"{self._limit:g} s (channel_timeout)"
                return Unreachable(f"{where}: no command starts there within {limit}")
            words = " ".join((self._banner.decode(errors="replace") + hint).split())
            return Unreachable(
                f"{where}: no command starts there: {words[-_SHOWN:] or 'no word why'}"
            )
        assert code is not None
        how = f"exit code {code}" if code >= 0 else f"signal {signal_name(-code)}"
        return Failed(f"{self.command} failed: {how}", hint=hint)


class _Stderr(io.RawIOBase):
    """The stderr of the command, without that of the login shell before it."""

    def __init__(self, process: RemoteProcess) -> None:
        self._process, self._before = process, b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        channel = self._process._channel
        marker = f"\n{self._process.mark}\n".encode()
        while not self._begun:
            more = channel.recv_stderr(CHUNK)
            self._before = (self._before + more)[-_BANNER:]
            _, separator, rest = self._before.partition(marker)
            if separator or not more:
                # the shell started no command, and said why
                self._begun, self._before = True, rest if separator else self._before
        if self._before:
            data, self._before = self._before[:size], self._before[size:]
            return data
        return channel.recv_stderr(size)


def _copy(file: IO[bytes] | int) -> int:
    """Return a copy of a handle, because the caller may close the file at any time."""
    return os.dup(file if isinstance(file, int) else file.fileno())


def write(handle: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _left(deadline: float) -> float:
    return max(0.0, min(_LOOK, deadline - time.monotonic()))
