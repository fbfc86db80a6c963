"""The rows of a COPY: a server that has ended it is not sent all the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valves
from paths import ROOT
from psycopg2 import errors
from servers import Cluster
from waiting import PATIENCE

from pgtasks.errors import Failed
from pgtasks.server import connection, silence
from pgtasks.server.connection import Connection
from pgtasks.server.copyin import CopyIn

INTO = b"COPY public.copied FROM STDIN"
PIECE = 1 << 16


@pytest.fixture
def session(
    cluster: Cluster, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    """Return a session that has libpq read an error while it sends rows."""
    for name, seconds in {"_DOUBT": 1.0, "_AGAIN": 0.5, "_TICK": 0.05}.items():
        monkeypatch.setattr(silence, name, seconds)
    cluster.execute("CREATE TABLE copied (i int)", database)
    with valves.full(cluster, database, tmp_path) as target, connection.session(target) as conn:
        yield conn


class Endless:
    """A bad row and good ones, until the server is known to have ended the copy."""

    def __init__(self, copy: CopyIn) -> None:
        self._copy, self._is_first = copy, True
        self._latest = time.monotonic() + PATIENCE

    def read(self, size: int = -1, /) -> bytes:
        assert time.monotonic() < self._latest, "all rows are sent"
        if self._copy.is_over:
            raise Failed("over")
        bad, self._is_first = b"bad\n" if self._is_first else b"", False
        return bad + b"1\n" * (PIECE // 4)


def test_rows_end_after_an_error_that_libpq_has_read_already(session: Connection) -> None:
    copy = CopyIn(session)
    with pytest.raises(errors.InvalidTextRepresentation, match='"bad"'):
        copy.run(INTO, Endless(copy), PIECE)
    assert connection.value(session, "SELECT 1") == 1


def test_the_number_of_rows_is_that_of_the_server(cluster: Cluster, database: str) -> None:
    cluster.execute("CREATE TABLE copied (i int)", database)
    with (
        connection.session(cluster.target(database)) as conn,
        Path("/dev/null").open("rb") as none,
    ):
        assert CopyIn(conn).run(INTO, none, PIECE) == 0
        rows = iter((b"1\n2\n", b"3\n", b""))
        reads = type("Rows", (), {"read": lambda self, size=-1: next(rows)})()
        assert CopyIn(conn).run(INTO, reads, PIECE) == 3


def test_rows_are_sent_in_one_way_only() -> None:
    uses = {
        (str(path.relative_to(ROOT)), line.strip())
        for path in (ROOT / "pgtasks").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "copy_expert(" in line and "TO STDOUT" not in line
    }
    assert uses == {
        ("pgtasks/copy/rows/stream.py", "cursor.copy_expert(self._statement, file)"),  # it reads
        ("pgtasks/server/copyin.py", "cursor.copy_expert(statement, rows, size)"),
        *(
            ("pgtasks/server/session.py", line)
            for line in (
                "def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:",
                "super().copy_expert(sql, file, size)",
            )
        ),
    }
