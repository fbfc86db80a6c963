"""A signal that ends a run cancels its statement; another one does not."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from servers import Cluster

CODE = """
import os, signal, sys, threading, time
import psycopg2
from pgtasks.server import interrupt

url, number = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGWINCH, lambda *_: None)
watching = psycopg2.connect(url)
watching.autocommit = True
busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"

def send(pid):
    with watching.cursor() as cursor:
        while True:
            cursor.execute(busy, (pid,))
            if cursor.fetchone()[0]:
                break
    os.kill(os.getpid(), number)

conn = psycopg2.connect(url)
with interrupt.cancelling([conn]), conn.cursor() as cursor:
    threading.Thread(target=send, args=(conn.info.backend_pid,)).start()
    try:
        cursor.execute("SELECT pg_sleep(%s)", (1 if number == signal.SIGWINCH else 60,))
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
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.stdout == f"{words}\n", done.stderr
