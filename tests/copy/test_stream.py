"""The rows of one table, both ways: all of them, or an error that the target cannot commit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
import servers
from psycopg2 import sql
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.copy.rows import messages, stream, wire
from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

INTO = sql.SQL("COPY public.copied FROM STDIN (FORMAT {})")
ENDLESS = sql.SQL("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT (FORMAT {})")
ONES = sql.SQL("COPY (SELECT 1 + 0 * generate_series(1, 1000000000)) TO STDOUT (FORMAT {})")


Ends = Callable[[], AbstractContextManager[tuple[Connection, Connection]]]


@pytest.fixture(params=["wire", "driver"])
def ends(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Ends:
    """Open both sessions, with an empty table for the rows."""

    @contextmanager
    def opened() -> Iterator[tuple[Connection, Connection]]:
        cluster.execute("CREATE TABLE copied (i int CHECK (i <> 70000))", database)
        target = cluster.target(database)
        with (
            connection.session(target, read_only=True) as reads,
            connection.session(target) as writes,
        ):
            connection.execute(writes, "BEGIN")
            connection.execute(reads, "BEGIN")
            if request.param == "driver":  # as for encrypted sessions
                monkeypatch.setattr(wire, "fits", lambda *sessions: False)
            assert wire.fits(reads, writes) == (request.param == "wire")
            yield reads, writes

    return opened


def commit(session: Connection) -> None:
    """Commit a transaction that failed, if the session was not closed."""
    if not session.closed:
        connection.execute(session, "COMMIT")


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_source_that_ends_in_the_middle_leaves_no_rows(
    ends: Ends, cluster: Cluster, database: str, form: str
) -> None:
    with ends() as (reads, writes):
        threading.Thread(target=end_once_copying, args=(cluster, database, reads)).start()
        with pytest.raises(Unreachable, match="the source ended the session"):
            stream.copy(reads, writes, ONES.format(sql.SQL(form)), INTO.format(sql.SQL(form)))
        commit(writes)
        assert cluster.value("SELECT count(*) FROM copied", database) == 0


def end_once_copying(cluster: Cluster, database: str, reads: Connection) -> None:
    copying = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = %s AND tuples_processed > 1000"
    until(lambda: cluster.execute(copying, parameters=(database,)))
    cluster.execute(f"SELECT pg_terminate_backend({reads.info.backend_pid})")


def test_an_error_of_the_target_ends_the_source(ends: Ends) -> None:
    form = sql.SQL("text")
    with ends() as (reads, writes):
        with pytest.raises(Failed, match="violates check constraint"):
            stream.copy(reads, writes, ENDLESS.format(form), INTO.format(form))
        assert not [thread for thread in threading.enumerate() if thread.name == "copy"]


def test_an_error_of_the_source_is_the_one_reported(
    ends: Ends, cluster: Cluster, database: str
) -> None:
    form = sql.SQL("binary")
    out = sql.SQL(
        "COPY (SELECT 1 / (1000 - i) FROM generate_series(1, 5000) i) TO STDOUT (FORMAT {})"
    )
    with ends() as (reads, writes):
        with pytest.raises(Failed, match="division by zero"):
            stream.copy(reads, writes, out.format(form), INTO.format(form))
        commit(writes)
        assert cluster.value("SELECT count(*) FROM copied", database) == 0


def test_all_rows_arrive(ends: Ends, cluster: Cluster, database: str) -> None:
    form = sql.SQL("binary")
    out = sql.SQL("COPY (SELECT i FROM generate_series(1, 60000) i) TO STDOUT (FORMAT {})")
    with ends() as (reads, writes):
        assert stream.copy(reads, writes, out.format(form), INTO.format(form)) == 60000
        connection.execute(writes, "COMMIT")
        assert cluster.value("SELECT sum(i) FROM copied", database) == 60000 * 60001 // 2


BEHIND_A_TUNNEL = """
import os, socket, sys, threading, time
from dataclasses import replace
from psycopg2 import sql
from pgtasks.copy.rows import stream, wire
from pgtasks.server import connection
from pgtasks.settings.target import Target

host, port, name, user, folder, fails, way = sys.argv[1:]
there = Target(environment="dev", host=host, port=int(port), database=name, user=user)
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"{folder}/.s.PGSQL.{port}")
listener.listen()

def passed(one, other, pause):
    while data := one.recv(4096):
        time.sleep(pause)  # slower than the rows, so that all buffers are full at their end
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)

def serve():
    while True:
        client, server = listener.accept()[0], socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        for ends in ((client, server, 0.001), (server, client, 0)):
            threading.Thread(target=passed, args=ends, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
out = sql.SQL("COPY (SELECT i / (i - {}) FROM generate_series(1, 456752) i) TO STDOUT").format(
    sql.Literal(456752 if fails == "True" else 0))
with connection.session(there) as reads, connection.session(replace(there, host=folder)) as writes:
    connection.execute(writes, "CREATE TEMP TABLE copied (i int)")
    if way == "driver":
        wire.fits = lambda *sessions: False
    with socket.socket(fileno=os.dup(writes.fileno())) as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    print(stream.copy(reads, writes, out, sql.SQL("COPY copied FROM STDIN")))
"""


@pytest.mark.parametrize("way", ["wire", "driver"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_a_copy_does_not_stop_a_tunnel_of_this_process(
    cluster: Cluster, database: str, fails: bool, way: str
) -> None:
    """The driver keeps the interpreter while it sends the end of a copy."""
    place = (cluster.host, cluster.port, database, cluster.superuser)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        argv = [sys.executable, "-c", BEHIND_A_TUNNEL, *place, folder, fails, way]
        done = subprocess.run(
            list(map(str, argv)), capture_output=True, text=True, timeout=PATIENCE
        )
    if fails:
        assert "division by zero" in done.stderr
    else:
        assert done.stdout == "456752\n", done.stderr


def test_both_sessions_can_be_used_after_rows_have_passed(ends: Ends) -> None:
    out = sql.SQL("COPY (SELECT i FROM generate_series(1, 10) i) TO STDOUT")
    with ends() as (reads, writes):
        for _ in range(3):
            assert stream.copy(reads, writes, out, INTO.format(sql.SQL("text"))) == 10
        assert connection.value(reads, "SELECT 42", into=int) == 42
        assert connection.value(writes, "SELECT count(*) FROM public.copied", into=int) == 30


def test_rows_that_look_like_the_end_of_a_copy_are_rows(ends: Ends) -> None:
    """Also where a read ends with them."""
    end = r"c\000\000\000\004C\000\000\000\013COPY 1\000Z\000\000\000\005T"
    fails = r"E\000\000\000\026SERROR\000VERROR\000C22012\000\000Z\000\000\000\005E"
    values = f"(VALUES ('{end}'), ('{fails}')) v(s)"
    rows = f"SELECT repeat(s, i)::bytea FROM generate_series(1, 300) i, {values}"
    out = sql.SQL(f"COPY ({rows}) TO STDOUT (FORMAT binary)")
    with ends() as (reads, writes):
        connection.execute(writes, "CREATE TABLE public.bytes (b bytea)")
        into = sql.SQL("COPY public.bytes FROM STDIN (FORMAT binary)")
        assert stream.copy(reads, writes, out, into) == 600
        query = "SELECT md5(string_agg(b, '' ORDER BY b)) FROM {}"
        copied = connection.value(writes, query.format("public.bytes"), into=str)
        assert copied == connection.value(reads, query.format(f"({rows}) t(b)"), into=str)


def test_a_copy_that_is_given_up_ends(ends: Ends) -> None:
    """Also if the server does not hear of it: nothing is read from a source that sends nothing."""
    with ends() as (reads, writes):
        if not wire.fits(reads, writes):
            pytest.skip("the driver is ended by a cancel")
        out = sql.SQL("COPY (SELECT 1 FROM pg_sleep(600)) TO STDOUT")
        with pytest.raises(Failed, match="given up"):
            stream.copy(reads, writes, out, INTO.format(sql.SQL("text")), is_over=lambda: True)
        assert reads.closed
        assert writes.closed


def test_the_bytes_of_the_rows_are_told(ends: Ends) -> None:
    told: list[int] = []
    out = sql.SQL("COPY (SELECT 1 FROM generate_series(1, 500000)) TO STDOUT")
    with ends() as (reads, writes):
        stream.copy(reads, writes, out, INTO.format(sql.SQL("text")), taken=told.append)
    assert len(told) > 1
    assert sum(told) >= 1_000_000


def test_a_target_may_say_something_during_the_copy(cluster: Cluster, database: str) -> None:
    """Of whatever length, and in pieces: INFO is sent whatever client_min_messages says."""
    says = "BEGIN IF i % 500 = 0 THEN RAISE INFO '%', repeat('x', i * 10); END IF; RETURN true; END"
    cluster.execute(
        f"CREATE FUNCTION says(i int) RETURNS bool LANGUAGE plpgsql AS $${says}$$;"
        "CREATE TABLE copied (i int CHECK (public.says(i)))",
        database,
    )
    target = cluster.target(database)
    out = sql.SQL("COPY (SELECT i FROM generate_series(1, 60000) i) TO STDOUT")
    with connection.session(target) as reads, connection.session(target) as writes:
        assert stream.copy(reads, writes, out, INTO.format(sql.SQL("text"))) == 60000


def test_an_error_reads_as_the_driver_prints_it(
    cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.execute("CREATE TABLE copied (i int)", database)
    words = []
    for fits in (True, False):
        monkeypatch.setattr(wire, "fits", lambda *sessions, fits=fits: fits)
        target = cluster.target(database)
        with connection.session(target) as reads, connection.session(target) as writes:
            connection.execute(writes, "BEGIN")
            out = sql.SQL("COPY (SELECT 'é {}') TO STDOUT").format(sql.SQL("x"))
            with pytest.raises(Failed) as raised:
                stream.copy(reads, writes, out, INTO.format(sql.SQL("text")))
            words.append((raised.value.message, raised.value.hint))
    assert words[0] == words[1]
    assert "invalid input syntax" in words[0][0]


def framed(*rows: bytes) -> bytes:
    return b"".join(b"d" + (4 + len(row)).to_bytes(4, "big") + row for row in rows)


@pytest.mark.parametrize(
    "rows",
    [
        [b"a" * 50] * 40,
        [b"a" * 50] * 12 + [b"b"] + [b"a" * 50] * 40,
        [b"d" * n for n in range(60)],
        [b"", b"", b""],
        [b"x" * 70_000],
    ],
)
def test_rows_end_where_another_message_begins(rows: list[bytes]) -> None:
    data = framed(*rows)
    for behind in (b"", b"c\0\0\0\4", b"d\0\0", b"E\0\0\0\xff..."):
        assert messages.rows_end(data + behind, 0, len(data + behind)) == len(data)
    cut = len(data) - len(rows[-1]) // 2
    assert messages.rows_end(data[:cut], 0, cut) == len(data)  # beyond what there is


def test_a_row_of_an_impossible_length_is_an_error() -> None:
    with pytest.raises(psycopg2.OperationalError, match="unexpected message"):
        messages.rows_end(b"d\0\0\0\3" + bytes(100), 0, 105)


STATEMENT = b"COMMIT; INSERT INTO public.copied VALUES (666)\0"
FORGED = b"c\0\0\0\4Q" + (4 + len(STATEMENT)).to_bytes(4, "big") + STATEMENT
COPY_OUT = b"H\0\0\0\x09\0\0\1\0\0"  # CopyOutResponse for a column in text


@contextmanager
def forging(cluster: Cluster, folder: Path, forged: bytes) -> Iterator[str]:
    """Yield the folder of a socket, whose server puts messages of its own before the rows."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/.s.PGSQL.{cluster.port}")
    listener.listen()
    opened = [listener]

    def passed(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data.replace(COPY_OUT, COPY_OUT + forged))
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, server = listener.accept()[0], socket.socket(socket.AF_UNIX)
                opened.extend((client, server))
                server.connect(f"{cluster.host}/.s.PGSQL.{cluster.port}")
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=passed, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield str(folder)
    finally:
        for end in opened:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # which ends the thread that reads it
            end.close()


@pytest.mark.parametrize(
    "forged", [FORGED, framed(b"1\n") * 20 + FORGED, framed(b"1\n") + b"X\0\0\0\4"]
)
def test_a_server_that_sends_other_messages_among_rows_cannot_command_the_target(
    cluster: Cluster, database: str, forged: bytes
) -> None:
    """They would be statements of the target's session, whose rights may be a superuser's."""
    cluster.execute("CREATE TABLE copied (i int)", database)
    target = cluster.target(database)
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        forging(cluster, Path(folder), forged) as host,
        connection.session(replace(target, host=host)) as reads,
        connection.session(target) as writes,
    ):
        connection.execute(writes, "BEGIN")
        out = sql.SQL("COPY (SELECT i FROM generate_series(1, 10) i) TO STDOUT")
        with pytest.raises(PgtasksError):
            stream.copy(reads, writes, out, INTO.format(sql.SQL("text")))
        assert writes.closed
    assert cluster.value("SELECT count(*) FROM copied", database) == 0


def over_tcp(cluster: Cluster, database: str, *, sslmode: str = "disable") -> Target:
    """Return the target of a database by the server's port on 127.0.0.1."""
    return replace(
        cluster.target(database),
        host="127.0.0.1",
        port=cluster.tcp_port,
        password=Secret(cluster.password),
        parameters={"sslmode": sslmode},
    )


def passed(target: Target) -> int:
    """Return the rows that a copy between two sessions has passed on."""
    out = sql.SQL("COPY (SELECT i FROM generate_series(1, 1000) i) TO STDOUT")
    with connection.session(target) as reads, connection.session(target) as writes:
        connection.execute(writes, "CREATE TEMP TABLE copied (i int)")
        return stream.copy(reads, writes, out, sql.SQL("COPY pg_temp.copied FROM STDIN"))


def test_rows_pass_between_sessions_over_tcp(
    password_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = over_tcp(password_cluster, fresh_database(password_cluster))
    with connection.session(target) as reads:
        assert wire.fits(reads)
    assert passed(target) == 1000


def test_sessions_with_tls_go_through_the_driver(tmp_path: Path) -> None:
    bins = servers.system_bins()
    if not bins:
        pytest.skip("the server of the wheel has no TLS")
    with servers.running(bins[max(bins)], password="of a test", tcp=True) as cluster:
        key, certificate = cluster.folder / "server.key", cluster.folder / "server.crt"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True)
        for path in (key, certificate):
            path.chmod(0o600)
            os.chown(path, *owner_of(cluster))
        cluster.execute(f"ALTER SYSTEM SET ssl_key_file = '{key}'")
        cluster.execute(f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'")
        cluster.execute("ALTER SYSTEM SET ssl = on")
        cluster.execute("SELECT pg_reload_conf()")
        until(lambda: cluster.value("SHOW ssl") == "on")
        target = over_tcp(cluster, "postgres", sslmode="require")
        with connection.session(target) as reads:
            assert not wire.fits(reads)
        assert passed(target) == 1000


def owner_of(cluster: Cluster) -> tuple[int, int]:
    """Return the account of a server's files."""
    status = (cluster.folder / "data").stat()
    return status.st_uid, status.st_gid
