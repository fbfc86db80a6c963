"""The socket of a session, and the few messages of the protocol that `wire` reads and writes."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import psycopg2
from psycopg2 import errors

from pgtasks.errors import Failed
from pgtasks.server.quoting import from_bytes, to_bytes

CLOSED = "the server closed the connection unexpectedly"
_MOST = 1 << 20  # bytes of a message that is no row
_LOOK = 1000  # milliseconds
# as libpq prints them
_FIELDS = (*(("M", "{}\n"), ("D", "DETAIL:  {}\n"), ("H", "HINT:  {}\n"), ("W", "CONTEXT:  {}\n")),)


class WireSocket:
    """A socket that stays as libpq has set it: it never blocks.

    Raises the driver's errors, and Failed once `is_over` says that the copy is given up.
    """

    def __init__(self, handle: socket.socket, is_over: Callable[[], bool]) -> None:
        self._handle, self._is_over = handle, is_over
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(handle, select.POLLIN)
        self._writable.register(handle, select.POLLOUT)

    def query(self, text: str) -> None:
        """Send a simple query."""
        data = to_bytes(text) + b"\0"
        self.send(b"Q" + struct.pack("!I", len(data) + 4) + data)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._handle.send(rest) :]
            except BlockingIOError:
                self._wait(self._writable)
            except OSError as exc:
                raise psycopg2.OperationalError(f"{CLOSED} ({exc.strerror})") from None

    def receive(self, into: memoryview) -> int | None:
        """Read what has come; return its bytes, 0 at the end, None if nothing came for a second."""
        while True:
            try:
                return self._handle.recv_into(into)
            except BlockingIOError:
                if not self._wait(self._readable):
                    return None
            except OSError as exc:
                raise psycopg2.OperationalError(f"{CLOSED} ({exc.strerror})") from None

    def expect(self, kind: bytes) -> bytes:
        """Return the next message, which has to be of that kind; raises the server's error."""
        while True:
            received, body = self._message()
            if received == kind:
                return body
            if received == b"E":
                raise error(body)
            if received not in b"NSA":  # notices, settings that changed, notifications
                raise psycopg2.OperationalError(f"unexpected message {received!r} of the server")

    def refuse_answer(self) -> None:
        """Raise the error of a server that answers before it has all rows."""
        if self._readable.poll(0):
            raise error(self.expect(b"E"))

    def _wait(self, ready: select.poll) -> bool:
        """Wait a second at most, and return whether the socket is ready."""
        if self._is_over():
            raise Failed("the copy was given up")
        return bool(ready.poll(_LOOK))

    def _message(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        size = int.from_bytes(head[1:], "big") - 4
        if not 0 <= size <= _MOST:
            raise psycopg2.OperationalError(f"unexpected message of {size} bytes of the server")
        return head[:1], self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, filled = memoryview(data), 0
        while filled < size:
            received = self.receive(view[filled:])
            if received == 0:
                raise psycopg2.OperationalError(CLOSED)
            filled += received or 0
        return bytes(data)


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
