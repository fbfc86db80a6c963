"""A signal ends the wait for a server that does not answer, at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg2
import pytest
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.host.worker import Worker
from pgtasks.server.opening import opened

CODE = """
import sys
from pgtasks.errors import Interrupted
from pgtasks.report.interruption import telling
from pgtasks.server.opening import opened

def connect():
    opened(sys.argv[1])
    return "is there"

try:
    with telling(connect):
        connect()
except Interrupted as exc:
    kept = exc  # with its frames, and what they hold
    print(exc, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Serve a port of which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def begun(listener: socket.socket, parameters: str = "") -> subprocess.Popen[str]:
    """Start a run that connects, and while it says what it left once more."""
    port = listener.getsockname()[1]
    place = f"host=127.0.0.1 port={port} sslmode=disable gssencmode=disable connect_timeout=1000"
    return subprocess.Popen(
        [sys.executable, "-c", CODE, f"{place} {parameters}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate("", timeout=PATIENCE)
    assert process.returncode == 0
    return said


def test_a_session_that_is_not_admitted_is_closed_at_once(silent: socket.socket) -> None:
    """The server waits for a password otherwise, and whoever drops a database for the server."""
    answered: list[socket.socket] = []

    def ask_for_a_password() -> None:
        client = silent.accept()[0]
        client.settimeout(PATIENCE)
        assert client.recv(1000)
        client.sendall(b"R\0\0\0\x08\0\0\0\x03")
        answered.append(client)

    server = Worker(ask_for_a_password)
    server.start()
    dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} sslmode=disable gssencmode=disable"
    with pytest.raises(psycopg2.OperationalError, match="no password supplied") as failure:
        opened(dsn)
    assert server.wait(PATIENCE)
    with answered[0] as client:
        assert client.recv(1) == b""
    assert failure.value.__traceback__  # has the frames, and what these hold


def test_two_signals_end_two_attempts(silent: socket.socket) -> None:
    process = begun(silent)
    try:
        with silent.accept()[0] as first:
            assert first.recv(8)
            process.send_signal(signal.SIGINT)
            with silent.accept()[0] as second:
                assert second.recv(8)
                process.send_signal(signal.SIGINT)
                assert ended(process) == "interrupted\n"
    finally:
        process.kill()
        process.wait()


def test_a_session_that_comes_too_late_is_closed(cluster: Cluster, silent: socket.socket) -> None:
    name = "comes_too_late"
    place = f"user={cluster.superuser} password={cluster.password or 'none'} dbname=postgres"
    process = begun(silent, f"{place} application_name={name}")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    try:
        with (
            closing(silent.accept()[0]) as client,
            socket.socket(socket.AF_UNIX) as server,
        ):
            first = client.recv(1 << 16)
            process.send_signal(signal.SIGINT)
            with silent.accept()[0] as second:  # it looks what it has left
                assert second.recv(8)
                process.send_signal(signal.SIGINT)
            assert process.stdout
            assert process.stdout.readline() == "interrupted\n"
            server.connect(f"{cluster.host}/.s.PGSQL.{cluster.port}")
            server.sendall(first)
            answers = threading.Thread(target=passed_on, args=(server, client), daemon=True)
            answers.start()
            sent = passed_on(client, server)  # until the client closes it
            assert sent.endswith(b"X\x00\x00\x00\x04")  # Terminate
            answers.join(PATIENCE)
        until(lambda: not cluster.value(sessions, parameters=(name,)))
        ended(process)
    finally:
        process.kill()
        process.wait()


def passed_on(source: socket.socket, sink: socket.socket) -> bytes:
    """Pass on bytes until the source ends, and return them."""
    source.settimeout(PATIENCE)
    passed = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while piece := source.recv(1 << 16):
            passed += piece
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    return passed
