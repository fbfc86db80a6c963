"""A Flask application under gunicorn goes on while the real task swaps its database."""

from __future__ import annotations

import http.client
import json
import operator
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gunicorns import THREADS, WORKERS, served
from halting import Inv
from servers import Cluster
from units import ROWS, let_wait
from waiting import PATIENCE, until

SWAPS = 5
CLIENTS = 6
APPLICATION = """
import os
from flask import Flask, request
from sqlalchemy import text
from pgtasks.service import CommitUnknown, get_db_session, initialize_database, run

app = Flask(__name__)
initialize_database(app)
with get_db_session(read_only=True) as session:  # a connection that forked workers must not use
    session.execute(text("SELECT 1"))


@app.post("/rows")
def add():
    row = {"w": request.json["worker"], "n": request.json["number"]}
    run(lambda session: session.execute(text("INSERT INTO rows VALUES (:w, :n)"), row))
    return {"pid": os.getpid()}


@app.get("/rows")
def count():
    with get_db_session(read_only=True) as session:
        counted = session.execute(text("SELECT count(*) FROM rows")).scalar_one()
    return {"rows": counted, "pid": os.getpid()}


@app.errorhandler(CommitUnknown)
def unknown(error):
    return {"error": "unknown"}, 409
"""


@pytest.fixture
def port(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """The port of two workers with four threads each, forked from a loaded application."""
    cluster.execute(ROWS, database)
    (project / "web.py").write_text(APPLICATION, encoding="utf-8")
    monkeypatch.setenv("PGTASKS_ENV", "dev")
    let_wait(monkeypatch)
    with served(project, "web:app") as port:
        yield port


class Clients:
    """HTTP clients that write and read without a pause, each on a connection that it keeps."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: Counter[int] = Counter()
        self.done = [0] * CLIENTS  # the requests of each, answered or not
        self.failed: list[str] = []
        self.processes: set[int] = set()
        self.written: list[tuple[int, int]] = []
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self, worker: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        number = 0
        while not self._stop.is_set():
            number += 1
            if self._send(connection, "POST", {"worker": worker, "number": number}) == 200:
                self.written.append((worker, number))
            self._send(connection, "GET")
            self.done[worker] += 1
            if number % 10 == 0:
                connection.close()  # the next one may be of the other process
        connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, body: object = None
    ) -> int:
        try:
            content = json.dumps(body) if body else None
            connection.request(method, "/rows", content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self.failed.append(repr(exc))
            connection.close()
            return 0
        self.answers[answer.status] += 1
        if answer.status == 200:
            self.processes.add(json.loads(text)["pid"])
        elif answer.status != 409:
            self.failed.append(f"{method}: {answer.status} {text!r}")
        return answer.status

    def await_rounds(self, number: int) -> None:
        """Wait until each client has begun and ended so many further rounds of two requests.

        A request is repeated once: one that a swap has met must end before the next swap.
        """
        enough = [done + 1 + number for done in self.done]
        until(lambda: all(map(operator.ge, self.done, enough)), lambda: f"{self.done}")


def test_no_request_fails_while_the_task_swaps_the_database(
    port: int, project: Path, cluster: Cluster, database: str, inv: Inv
) -> None:
    assert inv("db.backup").returncode == 0
    clients = Clients(port)
    with clients.running():
        for _ in range(SWAPS):
            clients.await_rounds(8)
            done = inv("db.restore")
            assert done.returncode == 0, done.stderr
        clients.await_rounds(0)  # those that were under way are answered
        kept = len(clients.written)
        clients.await_rounds(8)
        until(lambda: len(clients.processes) == WORKERS)
    assert clients.failed == []
    # a COMMIT that was under way is said, and never repeated
    assert clients.answers[409] <= SWAPS * WORKERS * THREADS
    rows = Counter(cluster.execute("SELECT worker, number FROM rows", database))
    assert [row for row, times in rows.items() if times > 1] == []
    assert set(clients.written[kept:]) <= rows.keys()
    assert clients.written[kept:]
