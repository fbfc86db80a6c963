"""A way to a server that is full when the answer to a COPY comes, so that libpq reads it then."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.settings.target import Target

_PIECE = 1 << 16
_ENOUGH = 1 << 19  # bytes, in which the rows begin that the server refuses


@contextmanager
def full(cluster: Cluster, database: str, folder: Path) -> Iterator[Target]:
    """Serve a socket in a folder whose first session finds no room until it has read an error."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / f".s.PGSQL.{cluster.port}"))
        listener.listen()
        valve = _Valve(cluster)
        serving = threading.Thread(target=valve.serve, args=(listener,))
        serving.start()
        try:
            yield replace(cluster.target(database), host=str(folder))
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join(PATIENCE)


class _Valve:
    def __init__(self, cluster: Cluster) -> None:
        self._place = f"{cluster.host}/.s.PGSQL.{cluster.port}"
        self._closed, self._error_read = threading.Event(), threading.Event()
        self._ended = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Pass on the bytes of each session, until the listener is shut down and all have ended."""
        with ExitStack() as all_of_them, suppress(OSError):
            for number in count():
                client = all_of_them.enter_context(listener.accept()[0])
                server = all_of_them.enter_context(socket.socket(socket.AF_UNIX))
                server.connect(self._place)
                for work in (self._send, self._answer):
                    thread = threading.Thread(target=work, args=(client, server, number == 0))
                    thread.start()
                    all_of_them.callback(thread.join)

    def _send(self, client: socket.socket, server: socket.socket, is_first: bool) -> None:
        """Pass on what the client sends; what is too much waits until an error has been read."""
        length = 0
        try:
            while data := client.recv(_PIECE):
                server.sendall(data)
                length += len(data)
                if is_first and length > _ENOUGH:
                    self._closed.set()
                    self._error_read.wait(PATIENCE)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # an end was closed
        finally:
            if is_first:
                self._ended.set()
                self._closed.set()

    def _answer(self, client: socket.socket, server: socket.socket, is_first: bool) -> None:
        """Pass on the server's answers, an error once the client finds no room."""
        try:
            while data := server.recv(_PIECE):
                is_error = is_first and b"SERROR" in data
                if is_error:
                    self._closed.wait(PATIENCE)
                    until(lambda: self._ended.is_set() or _is_full(client))
                client.sendall(data)
                if is_error:
                    until(lambda: self._ended.is_set() or not _length(client, termios.TIOCOUTQ))
                    self._error_read.set()
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # an end was closed
        finally:
            if is_first:
                self._error_read.set()


def _is_full(end: socket.socket) -> bool:
    """Return whether the other end has written nothing for a moment."""
    before = _length(end, termios.FIONREAD)
    time.sleep(0.05)
    return 0 < before == _length(end, termios.FIONREAD)


def _length(end: socket.socket, queue: int) -> int:
    """Return how many bytes are not read yet, those of the other end too: Linux counts them."""
    (size,) = struct.unpack("i", fcntl.ioctl(end, queue, b"\0" * 4))
    return int(size)
