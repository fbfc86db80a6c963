"""The rows of one table through a pipe: all of them, or an error that the target cannot commit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg2 import sql
from servers import Cluster
from waiting import until

from pgtasks.copy import stream
from pgtasks.errors import Failed, Unreachable
from pgtasks.server import connection
from pgtasks.server.connection import Connection

INTO = sql.SQL("COPY public.copied FROM STDIN (FORMAT {})")
ENDLESS = sql.SQL("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT (FORMAT {})")


@contextmanager
def ends(cluster: Cluster, database: str) -> Iterator[tuple[Connection, Connection]]:
    """Open both sessions, with an empty table for the rows."""
    cluster.execute("CREATE TABLE copied (i int CHECK (i <> 70000))", database)
    target = cluster.target(database)
    with connection.session(target, read_only=True) as reads, connection.session(target) as writes:
        connection.execute(writes, "BEGIN")
        yield reads, writes


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_source_that_ends_in_the_middle_leaves_no_rows(
    cluster: Cluster, database: str, form: str
) -> None:
    with ends(cluster, database) as (reads, writes):
        threading.Thread(target=end_once_copying, args=(cluster, database, reads)).start()
        with pytest.raises(Unreachable, match="the source ended the session"):
            stream.copy(reads, writes, ENDLESS.format(sql.SQL(form)), INTO.format(sql.SQL(form)))
        connection.execute(writes, "COMMIT")  # of a transaction that failed
        assert cluster.value("SELECT count(*) FROM copied", database) == 0


def end_once_copying(cluster: Cluster, database: str, reads: Connection) -> None:
    copying = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = %s AND tuples_processed > 1000"
    until(lambda: cluster.execute(copying, parameters=(database,)))
    cluster.execute(f"SELECT pg_terminate_backend({reads.info.backend_pid})")


def test_an_error_of_the_target_ends_the_source(cluster: Cluster, database: str) -> None:
    form = sql.SQL("text")
    with ends(cluster, database) as (reads, writes):
        with pytest.raises(Failed, match="violates check constraint"):
            stream.copy(reads, writes, ENDLESS.format(form), INTO.format(form))
        assert not [thread for thread in threading.enumerate() if thread.name == "copy"]


def test_an_error_of_the_source_is_the_one_reported(cluster: Cluster, database: str) -> None:
    form = sql.SQL("binary")
    out = sql.SQL(
        "COPY (SELECT 1 / (1000 - i) FROM generate_series(1, 5000) i) TO STDOUT (FORMAT {})"
    )
    with ends(cluster, database) as (reads, writes):
        with pytest.raises(Failed, match="division by zero"):
            stream.copy(reads, writes, out.format(form), INTO.format(form))
        connection.execute(writes, "COMMIT")
        assert cluster.value("SELECT count(*) FROM copied", database) == 0


def test_all_rows_arrive(cluster: Cluster, database: str) -> None:
    form = sql.SQL("binary")
    out = sql.SQL("COPY (SELECT i FROM generate_series(1, 60000) i) TO STDOUT (FORMAT {})")
    with ends(cluster, database) as (reads, writes):
        assert stream.copy(reads, writes, out.format(form), INTO.format(form)) == 60000
        connection.execute(writes, "COMMIT")
        assert cluster.value("SELECT sum(i) FROM copied", database) == 60000 * 60001 // 2


BEHIND_A_TUNNEL = """
import os, socket, sys, threading, time
from dataclasses import replace
from psycopg2 import sql
from pgtasks.copy import stream
from pgtasks.server import connection
from pgtasks.settings.target import Target

host, port, name, user, folder, fails = sys.argv[1:]
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
    with socket.socket(fileno=os.dup(writes.fileno())) as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    print(stream.copy(reads, writes, out, sql.SQL("COPY copied FROM STDIN")))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_a_copy_does_not_stop_a_tunnel_of_this_process(
    cluster: Cluster, database: str, fails: bool
) -> None:
    """The driver keeps the interpreter while it sends the end of a copy."""
    place = (cluster.host, cluster.port, database, cluster.superuser)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        argv = [sys.executable, "-c", BEHIND_A_TUNNEL, *place, folder, fails]
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60)
    if fails:
        assert "division by zero" in done.stderr
    else:
        assert done.stdout == "456752\n", done.stderr
