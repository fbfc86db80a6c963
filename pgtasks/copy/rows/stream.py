"""Copy the rows of one table from one session into another.

They are passed on from socket to socket (`wire`), or through the driver and a pipe where a session
is encrypted.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
from collections.abc import Callable
from contextlib import suppress

from psycopg2 import sql

from pgtasks.copy.rows import wire
from pgtasks.errors import Failed, Unreachable
from pgtasks.host.worker import Worker
from pgtasks.server.connection import Connection
from pgtasks.server.copyin import CopyIn
from pgtasks.server.errors import translated, translated_without_values

_PIPE = 1 << 20  # bytes
_PIECE = 1 << 17  # bytes of one message to the target
_LOOK = 1000  # milliseconds
Taken = Callable[[int], None]
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux only


class _Sender:
    """Read rows from the source and write them into the pipe."""

    def __init__(
        self, conn: Connection, statement: sql.Composable, handle: int, *, hidden: bool
    ) -> None:
        self._conn, self._statement, self._handle = conn, statement, handle
        self._translated = translated_without_values if hidden else translated
        self.failure: BaseException | None = None
        self.rows = 0

    def send(self) -> None:
        # the failure is known before the pipe is closed, so that no reader takes it for the end
        file = os.fdopen(self._handle, "wb", buffering=_PIECE)
        try:
            with self._translated(), self._conn.cursor() as cursor:
                cursor.copy_expert(self._statement, file)
                self.rows = cursor.rowcount
            file.flush()
        except Unreachable as exc:
            # the driver has no message for it
            self.failure = Unreachable("the source ended the session", hint=exc.message)
        except BaseException as exc:
            self.failure = exc
        with suppress(OSError):  # the reader has ended: its error is the one to report
            file.close()


class _Receiver(io.RawIOBase):
    """The file that the target reads: it ends without an error only if the source has.

    A target that answers before the end has failed, and takes no more rows. Its messages are off,
    so that it has nothing else to say. libpq may have read the answer already, which the socket
    does not show: then `copying` says it, some seconds later.
    """

    def __init__(
        self, handle: int, sender: _Sender, sending: Worker, target: Connection, taken: Taken
    ) -> None:
        super().__init__()
        self._handle, self._sender, self._sending = handle, sender, sending
        self._taken = taken
        self.copying = CopyIn(target)
        self._answer = target.fileno()
        self._ready = select.poll()
        self._ready.register(handle, select.POLLIN)
        self._ready.register(self._answer, select.POLLIN)

    def read(self, size: int = _PIECE, /) -> bytes:
        """Return the next bytes, raising the failure of the source at their end."""
        try:
            data = self._next(size)
        except BaseException:
            self.copying.await_room()
            raise
        if not data:
            self.copying.await_room()
        return data

    def _next(self, size: int) -> bytes:
        self._await_rows()
        data = os.read(self._handle, size)
        if not data:
            self._sending.wait()
            if self._sender.failure is not None:
                raise self._sender.failure
        self._taken(len(data))
        return data

    def _await_rows(self) -> None:
        ready: list[int] = []
        while not ready:
            ready = [handle for handle, _ in self._ready.poll(_LOOK)]
            if self.copying.is_over or self._answer in ready:
                raise Failed("the target ended the copy")


def copy(
    source: Connection,
    target: Connection,
    out: sql.Composable,
    into: sql.Composable,
    *,
    taken: Taken = lambda size: None,
    is_over: Callable[[], bool] = lambda: False,
    hidden: bool = False,
) -> int:
    """Copy rows and return their number. After an error the target must be rolled back.

    The target's COPY fails if the source's did: a COPY that was cut must never be committed.
    `taken` is called with the bytes of each piece, `is_over` says whether the copy is given up.
    With `hidden`, an error of the source shows no value.
    """
    if wire.fits(source, target):
        return wire.copy(*(source, target, out, into), taken=taken, is_over=is_over, hidden=hidden)
    return _through_driver(source, target, out, into, taken=taken, hidden=hidden)


def _through_driver(
    source: Connection,
    target: Connection,
    out: sql.Composable,
    into: sql.Composable,
    *,
    taken: Taken,
    hidden: bool,
) -> int:
    reader, writer = os.pipe()
    if _SET_SIZE is not None:
        with suppress(OSError):  # beyond the limit of this user
            fcntl.fcntl(writer, _SET_SIZE, _PIPE)
    sender = _Sender(source, out, writer, hidden=hidden)
    sending = Worker(sender.send, name="copy")
    sending.start()
    received_from = _Receiver(reader, sender, sending, target, taken)
    try:
        with translated():
            received = received_from.copying.run(into, received_from, _PIECE)
    except BaseException:
        # of a failure of the source the target says only that it was cut
        if isinstance(sender.failure, Exception) and not isinstance(sender.failure, OSError):
            raise sender.failure from None
        raise
    finally:
        os.close(reader)  # a source that still writes gets a broken pipe
        sending.wait()
    if received != sender.rows:
        raise Failed(f"the source sent {sender.rows} rows and the target took {received}")
    return received
