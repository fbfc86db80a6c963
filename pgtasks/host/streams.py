"""Commands whose stdout we read or whose stdin we write, wherever they run.

What a host sends has a bound: in bytes, and in the time in which nothing comes, or next to nothing.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pgtasks.errors import Failed, Unreachable
from pgtasks.host.local import Command, Host
from pgtasks.host.pipeline import Pipeline

CHUNK = 1 << 20  # bytes that are read or written at once
PATIENCE = 600.0  # seconds; a disk there may be slow, and what tasks do there is short
_SLOWEST = 1024  # bytes a second that are something, and no drip


class CutShort(Failed):
    """Report a stream that ended before what it holds did."""


class Bounded(io.RawIOBase):
    """What a command prints: at most `most` bytes, and some of them in `patience` seconds.

    Raises Failed for more, Unreachable for a command that goes on and sends nothing.
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
    """A bounded stream; `wait` gives what comes next more time."""

    def read(self, size: int | None = -1) -> bytes:
        """Read some bytes: what is asked for may be a size that a stranger says."""
        return super().read(size if size is None or size < 0 else min(size, CHUNK))

    def wait(self, seconds: float) -> None:
        """Let nothing come for so long."""
        assert isinstance(self.raw, Bounded)
        self.raw.patience = max(self.raw.patience, seconds)


@contextmanager
def reading(host: Host, command: Command, *, most: int, patience: float = 0) -> Iterator[Source]:
    """Yield what a command prints, raising what its end means when the block has read enough.

    Where the block meets an end that comes too early, what the command died of is said instead.
    """
    reader, writer = _pipe()
    bounded = Bounded(reader, f"{host.name}: {command}", most, patience or PATIENCE)
    with Source(bounded, CHUNK) as source:
        with _given(writer):
            pipeline = Pipeline(host, [command], stdout=writer)
        with pipeline:
            try:
                yield source
            except CutShort:
                pipeline.check()
                raise
            while source.read(CHUNK):
                pass  # such as an archive's padding; a command whose reader is gone fails
            pipeline.check()


@contextmanager
def writing(host: Host, command: Command) -> Iterator[IO[bytes]]:
    """Yield the stdin of a command, and wait for its end after the block."""
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
    """Let go of a handle that a command has got: its other end must see when that one is done."""
    try:
        yield
    finally:
        os.close(handle)


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    try:
        # fewer turns between the threads on both ends
        fcntl.fcntl(writer, getattr(fcntl, "F_SETPIPE_SZ", 1031), CHUNK)
    except OSError:
        pass  # not Linux, or an account's share of pipes is used up
    return reader, writer
