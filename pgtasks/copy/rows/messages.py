"""The socket of a session at rest, and the few messages of the protocol that a COPY needs.

Manual: Frontend/Backend Protocol, Message Formats (version 3). A message is a letter, four bytes of
its length, which count themselves, and the rest.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg2
from psycopg2 import errors

from pgtasks.errors import Failed
from pgtasks.server.quoting import from_bytes, to_bytes

_CHUNK = 1 << 18  # bytes of one read
_HEAD = struct.Struct("!BI")
_ROW = ord("d")  # CopyData
_ASIDE = b"NSA"  # notices, settings that changed, notifications
_MOST = 1 << 20  # bytes of a message that is no row
_ALIKE = 8  # rows of the same length, after which more are looked for
_LOOK = 1000  # milliseconds
_CLOSED = "the server closed the connection unexpectedly"
# as libpq prints them
_FIELDS = (*(("M", "{}\n"), ("D", "DETAIL:  {}\n"), ("H", "HINT:  {}\n"), ("W", "CONTEXT:  {}\n")),)


class WireSocket:
    """A socket that stays as libpq has set it: it never blocks.

    Raises the driver's errors, and Failed once `is_over` says that the copy is given up.
    """

    def __init__(self, handle: socket.socket, is_over: Callable[[], bool]) -> None:
        self._handle, self._is_over = handle, is_over
        self._readable, self._either = select.poll(), select.poll()
        self._readable.register(handle, select.POLLIN)
        self._either.register(handle, select.POLLIN | select.POLLOUT)
        self._buffer = bytearray(_CHUNK)
        self._begin = self._end = 0  # of what is read and not used

    def query(self, text: str) -> None:
        """Send a simple query."""
        data = to_bytes(text) + b"\0"
        self.send(b"Q" + struct.pack("!I", len(data) + 4) + data)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it, raising the error of a server that answers before.

        What it says meanwhile is read: else it would wait for us, and we for it.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._handle.send(rest) :]
            except BlockingIOError:
                self._wait(self._either)
                self.refuse_answer()
            except OSError as exc:
                raise psycopg2.OperationalError(f"{_CLOSED} ({exc.strerror})") from None

    def rows(self) -> Iterator[memoryview]:
        """Yield the messages with rows as they come, up to another message, which is to be read.

        A piece may end within a message, and the next one begins there. Nothing but CopyData is
        among them: the receiver would obey other messages.
        """
        while (head := self._head()) is not None:
            if head != _ROW and head in _ASIDE:
                self._message()
                continue
            if head != _ROW:
                return
            end = rows_end(self._buffer, self._begin, self._end)
            yield from self._passed(end)

    def _passed(self, end: int) -> Iterator[memoryview]:
        """Yield the bytes up to a place that may not be read yet."""
        while True:
            piece = min(end, self._end)
            yield memoryview(self._buffer)[self._begin : piece]
            end -= piece
            self._begin = piece
            if not end:
                return
            self._receive()
            end += self._begin

    def expect(self, kind: bytes) -> bytes:
        """Return the next message, which has to be of that kind; raises the server's error."""
        while True:
            received, body = self._message()
            if received == kind:
                return body
            if received == b"E":
                raise error(body)
            _refuse_unless_aside(received)

    def refuse_answer(self) -> None:
        """Raise the error of a server that answers before it has all rows."""
        while (whole := self._is_whole()) or self._readable.poll(0):
            if not whole:
                self._receive(self._wanted())
                continue
            received, body = self._message()
            if received == b"E":
                raise error(body)
            _refuse_unless_aside(received)

    def _is_whole(self) -> bool:
        """Tell whether all of the next message is read."""
        return self._end - self._begin >= self._wanted()

    def _message(self) -> tuple[bytes, bytes]:
        self._need(_HEAD.size)
        self._need(self._wanted())
        begin, end = self._begin, self._begin + self._wanted()
        self._begin = end
        return bytes(self._buffer[begin : begin + 1]), bytes(self._buffer[begin + _HEAD.size : end])

    def _wanted(self) -> int:
        """Return the bytes of the next message, those of its head before that has come."""
        if self._end - self._begin < _HEAD.size:
            return _HEAD.size
        _, size = _HEAD.unpack_from(self._buffer, self._begin)
        if not 4 <= size <= _MOST:
            raise psycopg2.OperationalError(f"unexpected message of {size} bytes of the server")
        return 1 + int(size)

    def _head(self) -> int:
        """Return the letter of the next message, once it and its length are read."""
        self._need(_HEAD.size)
        return self._buffer[self._begin]

    def _need(self, size: int) -> None:
        """Read until there are so many bytes."""
        while self._end - self._begin < size:
            self._receive(size)

    def _receive(self, size: int = 0) -> None:
        """Read what there is behind what is not used, with room for `size` bytes."""
        unused = self._buffer[self._begin : self._end]
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        self._buffer[: len(unused)] = unused
        self._begin, self._end = 0, len(unused)
        with memoryview(self._buffer) as view:
            self._end += self._received(view[self._end :])

    def _received(self, into: memoryview) -> int:
        while True:
            try:
                size = self._handle.recv_into(into)
            except BlockingIOError:
                self._wait(self._readable)
                continue
            except OSError as exc:
                raise psycopg2.OperationalError(f"{_CLOSED} ({exc.strerror})") from None
            if not size:
                raise psycopg2.OperationalError(_CLOSED)
            return size

    def _wait(self, ready: select.poll) -> None:
        while not self._is_over():
            if ready.poll(_LOOK):
                return
        raise Failed("the copy was given up")


def _refuse_unless_aside(kind: bytes) -> None:
    if kind not in _ASIDE:
        raise psycopg2.OperationalError(f"unexpected message {kind!r} of the server")


def rows_end(data: bytes | bytearray, begin: int, end: int) -> int:
    """Return where the messages with rows end that begin in data[begin:end]; maybe beyond it.

    Behind them is another message, or the beginning of one that is shorter than its head.
    """
    before = alike = 0
    while begin + _HEAD.size <= end:
        kind, size = _HEAD.unpack_from(data, begin)
        if kind != _ROW:
            break
        if size < 4:
            raise psycopg2.OperationalError("unexpected message with a row of the server")
        begin += 1 + size
        alike = alike + 1 if size == before else 0
        before = size
        if alike == _ALIKE:  # row by row takes Python some tenths of a microsecond each
            begin = _alike_end(data, begin, end, 1 + size)
    return begin


def _alike_end(data: bytes | bytearray, begin: int, end: int, size: int) -> int:
    """Return where the messages end, if all from `begin` on are like the one before it."""
    number = (end - begin) // size
    head = data[begin - size : begin - size + _HEAD.size]
    alike = all(
        data[begin + n : begin + number * size : size] == head[n : n + 1] * number
        for n in range(_HEAD.size)
    )
    return begin + number * size if alike else begin


def error(body: bytes) -> psycopg2.Error:
    """Return the error that the driver makes of an ErrorResponse."""
    fields = {from_bytes(field[:1]): from_bytes(field[1:]) for field in body.split(b"\0") if field}
    text = "".join(words.format(fields[key]) for key, words in _FIELDS if key in fields)
    code = fields.get("C", "XX000")
    kind: type[psycopg2.Error] = psycopg2.OperationalError
    with suppress(KeyError):  # a code that the driver does not know
        kind = errors.lookup(code)
    raised = kind(text)
    # the only way to set them
    raised.__setstate__({"pgerror": f"{fields.get('S')}:  {text}", "pgcode": code})  # type: ignore[no-untyped-call]
    return raised
