"""Run a seed set in Python: `load(connection, scale)`, in one transaction.

    # seed: demo
    # scales: small=10 large=1000
    def load(connection, scale):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO roles SELECT generate_series(1, %s)", (scale,))

`random` begins with the same state each time, so that a set without a clock makes the same rows.
"""

from __future__ import annotations

import contextlib
import random
import runpy
import sys
import traceback
from collections.abc import Callable
from typing import Any

import psycopg2

from pgtasks.errors import Failed
from pgtasks.schema.seed.sequences import REALIGN
from pgtasks.schema.seed.sets import SeedSet
from pgtasks.server import connection, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.server.psql import changes
from pgtasks.server.psql.changes import Rows
from pgtasks.settings.target import Target


def run(
    target: Target, seed: SeedSet, scale: int | None, end: Callable[[Connection], str]
) -> tuple[Rows, ...] | None:
    """Run the set, and the SQL that `end` returns, in one transaction; return the changed rows.

    Raises Failed with file and line; nothing of it stays.
    """
    session = connection.session(target, purpose="seed.load", own_path=True)
    with session as conn, interrupt.cancelling([conn]):
        last = end(conn)
        conn.autocommit = False
        connection.execute(conn, "SET LOCAL statement_timeout = 0")
        _call(conn, seed, scale)
        answers = [
            connection.value(conn, f"SELECT ({query})::text", into=str)
            for query in changes.QUESTIONS
        ]
        connection.execute(conn, REALIGN)
        if last:
            connection.execute(conn, last)
        with translated():
            conn.commit()
    return changes.read(answers, seed.shown)


def _call(conn: Connection, seed: SeedSet, scale: int | None) -> None:
    before = random.getstate()
    random.seed(f"{seed.name}@{scale}")
    transaction = conn.info.backend_pid, _transaction(conn)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
            load = runpy.run_path(str(seed.path)).get("load")
            if not callable(load):
                raise Failed(f"{seed.shown}: it has no function load(connection, scale)")
            load(conn, scale)
    except Failed:
        raise
    except psycopg2.Error as exc:
        words = " ".join(str(exc).split())
        raise Failed(f"{_place(seed, exc)}: {words}; nothing of it stays") from None
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # also sys.exit(), and a class of the project's own
        words = f"{type(exc).__name__}: {exc}"
        raise Failed(f"{_place(seed, exc)}: {words}; nothing of it stays") from None
    finally:
        random.setstate(before)
    if conn.closed:
        raise Failed(
            f"{seed.shown} closed its connection: what it had not committed is rolled back"
        )
    if (conn.info.backend_pid, _transaction(conn)) != transaction:
        raise Failed(f"{seed.shown} ended its transaction: a part may stay")


def _transaction(conn: Connection) -> Any:
    query = (
        "SELECT virtualtransaction FROM pg_catalog.pg_locks"
        " WHERE locktype = 'virtualxid' AND pid = pg_catalog.pg_backend_pid()"
    )
    return connection.value(conn, query, into=str)


def _place(seed: SeedSet, exc: BaseException) -> str:
    """Return file and line of the set where an error was raised."""
    frames = traceback.extract_tb(exc.__traceback__)
    own = [frame.lineno for frame in frames if frame.filename == str(seed.path)]
    return f"{seed.shown}:{own[-1]}" if own else seed.shown
