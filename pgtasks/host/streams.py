"""Read the stdout or write the stdin of commands on any host.

The output of a host is limited, in bytes and in the time that it may send (nearly) nothing.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from pgtasks.errors import Failed, Unreachable
from pgtasks.host.base import Command, Host
from pgtasks.host.pipeline import Pipeline
from pgtasks.host.worker import Worker

CHUNK = 1 << 20  # bytes per read or write
PATIENCE = 600.0  # seconds; the host's disk may be slow, and the commands of tasks are short
_SLOWEST = 1024  # lowest accepted rate, in bytes per second


class CutShort(Failed):
    """The stream ended too early."""


class Bounded(io.RawIOBase):
    """The output of a command: at most `most` bytes, and some of them in `patience` seconds.

    Raises Failed for more bytes, Unreachable for a command that sends nothing.
    """

    def __init__(self, handle: int, name: str, most: int, patience: float) -> None:
        self._handle, self._what = handle, name
        self.most, self.patience = most, patience
        self._waited, self._come = 0.0, 0
        self._ready = select.poll()
        self._ready.register(handle, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        began = time.monotonic()
        left = self.patience - self._waited
        if left <= 0 or not self._ready.poll(left * 1000):
            raise Unreachable(f"{self._what}: next to nothing came in {self.patience:.0f} s")
        count = os.readv(self._handle, [buffer])
        self._waited += time.monotonic() - began
        self.most -= count
        self._come += count
        if self.most < 0:
            raise Failed(f"{self._what}: more came than there can be, it was not read to its end")
        if self._come >= _SLOWEST * self.patience:
            self._waited, self._come = 0.0, 0
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()


class Source(io.BufferedReader):
    """A bounded stream; `wait` allows a longer pause."""

    def read(self, size: int | None = -1) -> bytes:
        """Read at most some bytes, because the requested size may come from an untrusted source."""
        return super().read(size if size is None or size < 0 else min(size, CHUNK))

    def wait(self, seconds: float) -> None:
        """Allow a pause of this many seconds."""
        assert isinstance(self.raw, Bounded)
        self.raw.patience = max(self.raw.patience, seconds)


@contextmanager
def reading(
    host: Host, command: Command, *, most: int, patience: float = 0, given: bytes = b""
) -> Iterator[Source]:
    """Yield the output of a command, and check its exit code after the block.

    `given` is what the command reads. If the output ends too early, the error of the command is
    raised instead.
    """
    reader, writer = _pipe()
    bounded = Bounded(reader, f"{host.name}: {command}", most, patience or PATIENCE)
    with Source(bounded, CHUNK) as source:
        with _given(writer), _fed(given) as stdin:
            pipeline = Pipeline(host, [command], stdin=stdin, stdout=writer)
        with pipeline:
            try:
                yield source
            except CutShort:
                pipeline.check()
                raise
            while source.read(CHUNK):
                pass  # for example the padding of an archive; a command fails if its reader closes
            pipeline.check()


@contextmanager
def writing(host: Host, command: Command) -> Iterator[IO[bytes]]:
    """Yield the stdin of a command, and wait for the command after the block."""
    reader, writer = _pipe()
    with os.fdopen(writer, "wb", buffering=0) as sink:
        with _given(reader):
            pipeline = Pipeline(host, [command], stdin=reader)
        with pipeline:
            try:
                yield sink
            except BrokenPipeError:
                pipeline.check()
                raise Failed(f"{command} on {host.name} did not read all of it") from None
            sink.close()
            pipeline.check()


@contextmanager
def _given(handle: int) -> Iterator[None]:
    """Close a handle that a command has, so that the other end sees the command's end."""
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _fed(content: bytes) -> Iterator[int | None]:
    """Yield a handle from which a command can read some bytes, None without any."""
    if not content:
        yield None
        return
    reader, writer = _pipe()
    try:
        with _given(reader):
            yield reader
    except BaseException:
        os.close(writer)
        raise
    Worker(_feed, writer, content).start()


def _feed(handle: int, content: bytes) -> None:
    # if a command does not read, its exit code and stderr tell why
    with suppress(OSError), os.fdopen(handle, "wb") as file:
        file.write(content)


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    try:
        # fewer switches between the threads on both ends
        fcntl.fcntl(writer, getattr(fcntl, "F_SETPIPE_SZ", 1031), CHUNK)
    except OSError:
        pass  # not Linux, or the account's limit for pipes is reached
    return reader, writer
