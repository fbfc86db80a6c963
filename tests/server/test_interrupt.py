"""A signal that ends a run cancels its statement; another one does not."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from servers import Cluster
from waiting import PATIENCE

CODE = """
import os, signal, sys, threading, time
import psycopg2
from pgtasks.server import interrupt

url, number = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGWINCH, lambda *_: None)
watching = psycopg2.connect(url)
watching.autocommit = True
busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'advisory'"
with watching.cursor() as first:
    first.execute("SELECT pg_advisory_lock(4711)")

def send(pid):
    with watching.cursor() as cursor:
        while True:
            cursor.execute(busy, (pid,))
            if cursor.fetchone()[0]:
                break
        os.kill(os.getpid(), number)
        if number == signal.SIGWINCH:
            time.sleep(0.5)  # in which it would be cancelled
            cursor.execute("SELECT pg_advisory_unlock(4711)")

conn = psycopg2.connect(url)
with interrupt.cancelling([conn]), conn.cursor() as cursor:
    threading.Thread(target=send, args=(conn.info.backend_pid,)).start()
    try:
        cursor.execute("SELECT pg_advisory_lock(4711)")
    except (psycopg2.errors.QueryCanceled, KeyboardInterrupt) as exc:
        print("cancelled")
    else:
        print("done")
"""


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "cancelled"), (signal.SIGWINCH, "done")]
)
def test_a_signal_that_ends_the_run_cancels_its_statement(
    cluster: Cluster, number: signal.Signals, words: str
) -> None:
    argv = [sys.executable, "-c", CODE, cluster.url("postgres"), str(int(number))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == f"{words}\n", done.stderr
