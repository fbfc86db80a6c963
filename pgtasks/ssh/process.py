"""A command that runs on the host: a channel that behaves like a local child process."""

from __future__ import annotations

import io
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.host import Command, Sink, Source
from pgtasks.ssh import wrapper

if TYPE_CHECKING:
    from pgtasks.ssh.link import Link

CHUNK = 1 << 18
_BANNER = 1 << 20  # bytes that a login shell may print before our command begins
_LOOK = 0.1  # seconds
_GRACE = 5.0  # seconds that a process which the command left behind may hold its stdout


class RemoteProcess:
    """A command on the host; stdin and stdout are files of this machine, or pipes to it.

    `returncode` is 255 where the line was lost or a signal ended it: SSH tells them apart, and so
    does `ending`.
    """

    def __init__(self, link: Link, command: Command, *, stdin: Source, stdout: Sink) -> None:
        self.link, self.command = link, command
        self.mark = secrets.token_hex(8)
        self.pid = 0
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = None
        self._fault: OSError | None = None
        self._quiet_since: float | None = None
        self._began = threading.Event()
        self._banner = b""
        sink = self._sink(stdout)
        source = None if stdin is None else _copy(stdin)
        try:
            self._channel = link.session()
            self._channel.exec_command(wrapper.begin(link.login.sudo_user))
            self._channel.sendall(wrapper.command(command, self.mark, link.room))
        except BaseException:
            for handle in (sink, source):
                if handle is not None:
                    os.close(handle)
            raise
        self.stderr: IO[bytes] | None = io.BufferedReader(_Stderr(self))  # type: ignore[type-var]
        self._reader = self._thread(self._read, sink)
        if source is None:
            self._channel.shutdown_write()
        else:
            self._thread(self._write, source)

    def _sink(self, stdout: Sink) -> int | None:
        if stdout is None:
            return None
        if stdout != subprocess.PIPE:
            return _copy(stdout)
        reader, writer = os.pipe()
        self.stdout = os.fdopen(reader, "rb")
        return writer

    def _thread(self, work: Callable[[int | None], None], handle: int | None) -> threading.Thread:
        thread = threading.Thread(target=work, args=(handle,), daemon=True)
        thread.start()
        return thread

    def _read(self, sink: int | None) -> None:
        """Take what the command prints, from the mark on, into the sink."""
        try:
            data = self._begin()
            while data or (data := self._channel.recv(CHUNK)):
                self._quiet_since = None
                if sink is not None:
                    write(sink, data)
                self._quiet_since, data = time.monotonic(), b""
        except BrokenPipeError:
            self._channel.close()  # our reader is gone: so is the command's
        except OSError as exc:  # such as a full disk here
            self._fault = exc
            self._channel.close()
        finally:
            self._began.set()
            if sink is not None:
                os.close(sink)

    def _begin(self) -> bytes:
        """Read up to the mark and return what came after it."""
        mark = f"\n{self.mark} ".encode()
        said = b""
        while len(said) < _BANNER:
            head, found, rest = said.partition(mark)
            number, ended, rest = rest.partition(b"\n")
            if found and ended:
                self._banner, self.pid = head, int(number)
                self._began.set()
                return rest
            more = self._channel.recv(CHUNK)
            if not more:
                break
            said += more
        self._banner = said
        return b""

    def _write(self, source: int | None) -> None:
        """Send the source to the command's stdin."""
        assert source is not None
        try:
            while data := os.read(source, CHUNK):
                self._channel.sendall(data)
            self._channel.shutdown_write()
        except OSError:
            pass  # the command does not read any more; how it ends says why
        finally:
            os.close(source)  # so that a writer before us meets a broken pipe

    def words(self) -> bytes:
        """Return all that the command says on stderr, to its end."""
        assert self.stderr is not None
        return self.stderr.read()

    def poll(self) -> int | None:
        """Return the exit code, None while the command runs or its output is on the way."""
        if self.returncode is None and self._channel.exit_status_ready():
            if self._reader.is_alive() and self._left_open():
                self._channel.close()
            self._reader.join(0)
            if not self._reader.is_alive():
                status = self._channel.recv_exit_status()
                self.returncode = status if status >= 0 else 255
                self.link.ended(self.mark)
        return self.returncode

    def _left_open(self) -> bool:
        since = self._quiet_since
        return since is not None and time.monotonic() - since > _GRACE

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code, raising subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._channel.status_event.wait(_LOOK if deadline is None else _left(deadline))
            if self._channel.status_event.is_set():
                self._reader.join(_LOOK if deadline is None else _left(deadline))
            code = self.poll()
            if code is not None:
                return code
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(self.command.argv, timeout or 0)

    def close(self) -> None:
        """Let go of the command: nothing more is read, and the lifeline ends what is left of it."""
        self.end(signal.SIGTERM)
        self._channel.close()

    def end(self, sign: signal.Signals) -> None:
        """Signal the command and what it started; one that gives no answer loses its channel."""
        if self.returncode is not None:
            return
        if self._began.wait(0) and self.pid and self.link.signal(self.pid, sign):
            if sign == signal.SIGKILL:
                self._channel.close()
        else:
            self._channel.close()

    def failure(self, hint: str) -> PgtasksError:
        """Return the error for a command that ended badly."""
        if self._fault is not None:
            return Failed(f"cannot write what {self.command} sends: {self._fault.strerror}")
        if self.link.lost:
            return Unreachable(f"{self.link}: {self.link.lost}, {self.command} was ended there")
        if not self.pid:
            words = " ".join((self._banner.decode(errors="replace") + hint).split())
            return Unreachable(f"{self.link}: no command starts there: {words or 'no word why'}")
        if self.returncode == 255 and self._channel.exit_status < 0:
            return Failed(f"{self.command} failed: ended by a signal on {self.link}", hint=hint)
        return Failed(f"{self.command} failed: exit code {self.returncode}", hint=hint)


class _Stderr(io.RawIOBase):
    """What the command says, without what a login shell said before it."""

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
        mark = f"\n{self._process.mark}\n".encode()
        while not self._begun:
            more = channel.recv_stderr(CHUNK)
            self._before += more
            _, found, rest = self._before.partition(mark)
            if found or not more:
                # a shell that started no command of ours said why
                self._begun, self._before = True, rest if found else self._before
        if self._before:
            data, self._before = self._before[:size], self._before[size:]
            return data
        return channel.recv_stderr(size)


def _copy(file: IO[bytes] | int) -> int:
    """Return a handle of our own: whoever gave us the file may close it at any time."""
    return os.dup(file if isinstance(file, int) else file.fileno())


def write(handle: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _left(deadline: float) -> float:
    return max(0.0, min(_LOOK, deadline - time.monotonic()))
