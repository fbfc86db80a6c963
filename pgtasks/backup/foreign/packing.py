"""Unpack a compressed file as a stream, in flat memory, to the end that its own checks confirm."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import plainfile
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import Pipeline
from pgtasks.server.psql.statements import Stream

CHUNK = 1 << 20
_XZ_MEMORY = 512 << 20  # bytes; xz -9 needs 65 MiB
_PROGRAMS = {"zstd": ("-dc", "--quiet"), "lz4": ("-dc", "--quiet")}
_DAMAGED = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


@contextmanager
def opened(path: Path, packing: str) -> Iterator[Stream]:
    """Open a regular file for one reading, unpacked.

    Reading raises NotProven if the file is cut or damaged, by the checks of its compression.
    """
    try:
        handle = plainfile.opened(path.parent, path.name)
    except OSError as exc:
        raise Refused(f"cannot read {str(path)!r}: {exc.strerror}") from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        if packing in _PROGRAMS:
            with _by_program(file, path, packing) as stream:
                yield stream
        elif packing:
            yield _Unpacking(file, path, _MAKERS[packing])
        else:
            yield file


@contextmanager
def _by_program(file: IO[bytes], path: Path, packing: str) -> Iterator[Stream]:
    program = shutil.which(packing)
    if program is None:
        raise Refused(
            f"{str(path)!r} is compressed by {packing}, and there is no program {packing!r} here: "
            "install it"
        )
    reader, writer = os.pipe()
    command = Command((program, *_PROGRAMS[packing]), stop=signal.SIGTERM)
    with os.fdopen(reader, "rb", buffering=0) as output:
        try:
            running = Pipeline(HERE, [command], stdin=file, stdout=writer)
        finally:
            os.close(writer)
        with running:
            yield _Piped(output, running, path)


class _Piped:
    """The output of a program; at its end the program must have succeeded."""

    def __init__(self, output: IO[bytes], running: Pipeline, path: Path) -> None:
        self._output, self._running, self._path = output, running, path

    def read(self, size: int, /) -> bytes:
        """Return some bytes, nothing at the end; raises NotProven."""
        piece = self._output.read(size)
        if not piece:
            try:
                self._running.check()
            except Failed as exc:
                raise _damaged(self._path, exc.hint.strip().rpartition("\n")[2]) from None
        return piece or b""


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """zlib with the interface of the other two."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


_MAKERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


class _Unpacking:
    """A file of one or several compressed streams, one after another."""

    def __init__(self, file: IO[bytes], path: Path, make: Callable[[], Any]) -> None:
        self._file, self._path, self._make = file, path, make
        self._current, self._input, self._over = make(), b"", False

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, nothing at the end; raises NotProven."""
        try:
            return self._read(size)
        except _DAMAGED as exc:
            if isinstance(exc, OSError) and exc.errno:
                raise
            raise _damaged(self._path, str(exc)) from None

    def _read(self, size: int) -> bytes:
        while not self._over:
            if self._current.eof:
                self._next()
                continue
            more = b""
            if self._current.needs_input:
                more = self._input or self._file.read(CHUNK)
                self._input = b""
            if piece := self._current.decompress(more, size):
                return bytes(piece)
            if not more and self._current.needs_input and not self._current.eof:
                raise EOFError("it ends before its end")
        return b""

    def _next(self) -> None:
        """Begin the next stream, if there is one; zeros may fill the end of a file."""
        rest = (self._current.unused_data or self._file.read(CHUNK)).lstrip(b"\0")
        while not rest and (piece := self._file.read(CHUNK)):
            rest = piece.lstrip(b"\0")
        self._current, self._input, self._over = self._make(), rest, not rest


def _damaged(path: Path, why: str) -> NotProven:
    words = " ".join(why.split())
    return NotProven(f"{str(path)!r} is cut or damaged, it cannot be unpacked to its end ({words})")


def check(path: Path, packing: str, size: int) -> None:
    """Unpack the beginning of a file, raising NotProven if that is damaged."""
    with opened(path, packing) as stream:
        while size > 0 and (piece := stream.read(CHUNK)):
            size -= len(piece)


def head(path: Path, packing: str, size: int) -> bytes:
    """Return the first unpacked bytes of a file, raising NotProven if there are none."""
    content = io.BytesIO()
    try:
        with opened(path, packing) as stream:
            while content.tell() < size and (piece := stream.read(size)):
                content.write(piece)
    except NotProven:
        if not content.tell():
            raise  # else reading all of it says so
    return content.getvalue()[:size]
