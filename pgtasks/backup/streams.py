"""Commands whose stdout we read or whose stdin we write, wherever they run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pgtasks.backup.archive import CHUNK, CutShort
from pgtasks.errors import Failed
from pgtasks.host import Command, Host
from pgtasks.pipeline import Pipeline


@contextmanager
def reading(host: Host, command: Command) -> Iterator[IO[bytes]]:
    """Yield what a command prints, raising what its end means when the block has read enough.

    Where the block meets an end that comes too early, what the command died of is said instead.
    """
    reader, writer = _pipe()
    with os.fdopen(reader, "rb") as source:
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
