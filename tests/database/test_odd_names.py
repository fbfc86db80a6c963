"""Names that are not valid in UTF-8, as databases of no encoding have them, are no obstacle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Inv
from projects import make_project, put_stamp
from servers import Cluster, running, wheel_bin

CONTENT = (
    b'CREATE TABLE "caf\xe9" (id int, "\xe9" text)',
    b"INSERT INTO \"caf\xe9\" VALUES (1, 'a\xe9'), (2, 'b')",
    b'CREATE SCHEMA "s\xe9"',
    b'CREATE SEQUENCE "s\xe9"."q\xe9"',
    b"COMMENT ON DATABASE bare IS 'd\xe9j\xe0'",
    b'CREATE ROLE "r\xe9"',
    b'CREATE DATABASE "d\xe9"',
)


@pytest.fixture(scope="module")
def odd() -> Iterator[Cluster]:
    """A server with such a database, and beside it a role and a database of such names."""
    with running(wheel_bin(16)) as cluster:
        cluster.execute("CREATE DATABASE bare TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        conn = cluster.connect("bare")
        conn.set_client_encoding("SQL_ASCII")
        for statement in CONTENT:
            with conn.cursor() as cursor:
                cursor.execute(statement)
        conn.close()
        yield cluster


def test_in_the_database_itself(odd: Cluster, inv: Inv, tmp_path: Path) -> None:
    put_stamp(odd.target("bare"))
    root = make_project(tmp_path / "bare", odd.url("bare"))
    done = inv("db.check", "db.backup", "backup.verify", "db.restore", "db.undo", cwd=root)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "1 of 1 table identical, 2 rows" in done.stdout


def test_beside_the_database(odd: Cluster, inv: Inv, tmp_path: Path) -> None:
    odd.create("plain")
    put_stamp(odd.target("plain"))
    root = make_project(tmp_path / "plain", odd.url("plain"))
    done = inv("db.check", "db.backup", "db.restore", "db.undo", "db.forget", "--yes", cwd=root)
    assert done.returncode == 0, (done.stdout, done.stderr)
