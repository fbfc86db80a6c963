"""Pass the rows of a COPY from one session's socket to that of another, unread.

libpq hands over each row by itself, which costs more CPU for narrow rows than reading them at the
source. The messages that carry rows (CopyData) are the same in both directions of the protocol, so
that they are passed on as they are, while the driver has no statement under way.

The end of the rows is found without reading them: behind the COPY a query is sent that answers with
a random text, which rows of an older snapshot do not contain. Manual: Frontend/Backend Protocol,
Message Formats (version 3).
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

from pgtasks.copy.rows.messages import CLOSED, WireSocket, error
from pgtasks.errors import Failed, Unreachable
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate, translated

_CHUNK = 1 << 18  # bytes of one read
_HELD = 1 << 14  # bytes that are kept back: more than the answers behind the rows take
_DONE = b"c\0\0\0\4"  # CopyDone
_ENDED = b"Z\0\0\0\5T"  # ReadyForQuery, within a transaction
_FAILED = b"Z\0\0\0\5E"  # ReadyForQuery, within a transaction that failed
_SAVEPOINT = "pgtasks_rows"
# CopyDone, CommandComplete, ReadyForQuery, and the answer to the query behind
_END = (
    rb"c\0\0\0\x04C\0\0\0.COPY (?P<rows>\d+)\0Z\0\0\0\x05T"
    rb"C\0\0\0.ROLLBACK\0T.{4,100}?D\0\0\0.\0\x01\0\0\0.%sC\0\0\0.SELECT 1\0Z\0\0\0\x05T\Z"
)
# an ErrorResponse up to its SQLSTATE
_ERROR = re.compile(rb"E(?P<size>.{4})S[^\0]+\0V[A-Z]+\0C[0-9A-Z]{5}\0", re.DOTALL)


def fits(source: Connection, target: Connection) -> bool:
    """Return whether rows can go this way: neither session is encrypted."""
    return source.info.transaction_status == TRANSACTION_STATUS_INTRANS and not any(
        conn.info.ssl_in_use or _uses_gss(conn) for conn in (source, target)
    )


def _uses_gss(conn: Connection) -> bool:
    if conn.info.host.startswith("/"):  # never on a Unix-domain socket
        return False
    query = "SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"
    return any(connection.rows(conn, query, into=bool))


def copy(
    source: Connection,
    target: Connection,
    out: sql.Composable,
    into: sql.Composable,
    *,
    taken: Callable[[int], None],
    is_over: Callable[[], bool],
) -> int:
    """Pass the rows on and return their number; after an error both sessions are closed.

    The source is in a transaction. `taken` is called with the bytes of each piece, `is_over` says
    whether the copy is given up.
    """
    connection.execute(source, f"SAVEPOINT {_SAVEPOINT}")
    try:
        with _opened(source, is_over) as reads, _opened(target, is_over) as writes:
            with of_target(target):
                writes.query(into.as_string(target))
                writes.expect(b"G")
            with connection.watched(source):
                sent = _Rows(reads, writes).sent(out.as_string(source), target, taken)
            with of_target(target):
                writes.send(_DONE)
                received = int(writes.expect(b"C").removesuffix(b"\0").removeprefix(b"COPY "))
                writes.expect(b"Z")
        if received != sent:
            raise Failed(f"the source sent {sent} rows and the target took {received}")
    except BaseException:
        source.close()
        target.close()  # whatever it has taken is rolled back
        raise
    return received


@contextmanager
def _opened(conn: Connection, is_over: Callable[[], bool]) -> Iterator[WireSocket]:
    # another handle, because closing it must not close the session
    with socket.socket(fileno=os.dup(conn.fileno())) as handle:
        yield WireSocket(handle, is_over)


@contextmanager
def of_source() -> Iterator[None]:
    """Translate the driver's errors as those of the source."""
    try:
        yield
    except psycopg2.Error as exc:
        translation = translate(exc)
        if isinstance(translation, Unreachable):
            raise Unreachable("the source ended the session", hint=translation.message) from None
        raise translation from None


@contextmanager
def of_target(target: Connection) -> Iterator[None]:
    """Watch a statement of the target, and translate its errors."""
    with translated(), connection.watched(target):
        yield


class _Rows:
    """The rows between two sockets."""

    def __init__(self, reads: WireSocket, writes: WireSocket) -> None:
        self._reads, self._writes = reads, writes
        self._nonce = secrets.token_hex(16)
        self._end = re.compile(_END % self._nonce.encode(), re.DOTALL)
        self._buffer = bytearray(_HELD + _CHUNK)

    def sent(self, statement: str, target: Connection, taken: Callable[[int], None]) -> int:
        """Pass on all bytes up to the end of the rows; return how many the source has counted."""
        with of_source():
            self._reads.query(statement)
            self._reads.query(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; SELECT '{self._nonce}'")
            self._reads.expect(b"H")
        view, held = memoryview(self._buffer), 0
        while True:
            with of_source():
                size = self._received(view, held)
                filled = held + size
                rest = max(0, filled - _HELD)
                end = self._found(view[rest:filled])
            taken(size)
            with of_target(target):
                self._writes.refuse_answer()
                self._writes.send(view[: rest if end is None else rest + end.start()])
            if end is not None:
                return int(end["rows"])
            held = filled - rest
            view[:held] = view[rest:filled]

    def _received(self, view: memoryview, held: int) -> int:
        """Read more bytes behind those held, raising the error that the source has ended with."""
        while (size := self._reads.receive(view[held:])) is None:
            # the query behind the COPY has failed too, for example because it was cancelled
            if view[:held].tobytes().endswith(_FAILED):
                _fail(view[:held].tobytes(), "the source did not answer")
        if not size:
            _fail(view[:held].tobytes(), CLOSED)
        return size

    def _found(self, tail: memoryview) -> re.Match[bytes] | None:
        """Return the end of the rows, None if it has not come."""
        if tail[-len(_ENDED) :] != _ENDED:
            return None
        data = tail.tobytes()
        if self._nonce.encode() not in data:
            return None
        return self._end.search(data) or _fail(data, "the end of the rows was not understood")


def _fail(tail: bytes, otherwise: str) -> NoReturn:
    """Raise the error that is among the last bytes of the source."""
    for match in _ERROR.finditer(tail):
        body = tail[match.start() + 5 : match.start() + 1 + int.from_bytes(match["size"], "big")]
        if body.endswith(b"\0\0"):
            raise error(body)
    raise psycopg2.OperationalError(otherwise)
