"""Pass the rows of a COPY from one session's socket to that of another.

libpq hands over each row by itself, which costs more CPU for narrow rows than reading them at the
source. The messages that carry rows are the same in both directions of the protocol, so that they
are passed on as they are, while the driver has no statement under way. Manual: COPY Operations.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import psycopg2
from psycopg2 import sql

from pgtasks.copy.rows.messages import WireSocket
from pgtasks.errors import Failed, Unreachable
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate, translate_without_values, translated

_COPY_DONE = b"c\0\0\0\4"
_encrypted: WeakKeyDictionary[Connection, bool] = WeakKeyDictionary()


def fits(*sessions: Connection) -> bool:
    """Return whether rows can go this way: no session is encrypted."""
    for conn in sessions:
        if conn not in _encrypted:
            _encrypted[conn] = conn.info.ssl_in_use or _uses_gss(conn)
    return not any(_encrypted[conn] for conn in sessions)


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
    hidden: bool,
) -> int:
    """Pass the rows on and return their number; after an error both sessions are closed.

    `taken`, `is_over` and `hidden` are those of `stream.copy`.
    """
    try:
        with _opened(source, is_over) as reads, _opened(target, is_over) as writes:
            with _at_target(target):
                writes.query(into.as_string(target))
                writes.expect(b"G")  # CopyInResponse
            with _at_source(source, hidden=hidden):
                reads.query(out.as_string(source))
                reads.expect(b"H")  # CopyOutResponse
            for piece in _read(source, reads, hidden=hidden):
                taken(len(piece))
                with _at_target(target):
                    writes.refuse_answer()
                    writes.send(piece)
            with _at_source(source, hidden=hidden):
                reads.expect(b"c")  # CopyDone
                sent = _completed(reads)
            with _at_target(target):
                writes.send(_COPY_DONE)
                received = _completed(writes)
        if received != sent:
            raise Failed(f"the source sent {sent} rows and the target took {received}")
    except BaseException:
        source.close()
        target.close()  # whatever it has taken is rolled back
        raise
    return received


def _read(source: Connection, reads: WireSocket, *, hidden: bool) -> Iterator[memoryview]:
    """Yield the rows as they come; what happens to them outside is no error of the source."""
    rows = reads.rows()
    while True:
        with _at_source(source, hidden=hidden):
            piece = next(rows, None)
        if piece is None:
            return
        yield piece


def _completed(end: WireSocket) -> int:
    """Return the number of rows of a COPY that has ended, once its session is at rest."""
    tag = end.expect(b"C")  # CommandComplete
    end.expect(b"Z")  # ReadyForQuery
    return int(tag.removesuffix(b"\0").removeprefix(b"COPY "))


@contextmanager
def _opened(conn: Connection, is_over: Callable[[], bool]) -> Iterator[WireSocket]:
    # another handle, because closing it must not close the session
    with socket.socket(fileno=os.dup(conn.fileno())) as handle:
        yield WireSocket(handle, is_over)


@contextmanager
def _at_source(source: Connection, *, hidden: bool) -> Iterator[None]:
    """Watch what is asked of the source, and translate its errors."""
    try:
        with connection.watched(source):
            yield
    except psycopg2.Error as exc:
        translation = translate_without_values(exc) if hidden else translate(exc)
        if isinstance(translation, Unreachable):
            raise Unreachable("the source ended the session", hint=translation.message) from None
        raise translation from None


@contextmanager
def _at_target(target: Connection) -> Iterator[None]:
    """Watch what is asked of the target, and translate its errors."""
    with translated(), connection.watched(target):
        yield
