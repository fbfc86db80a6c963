"""Backups of 10,000 tables and of 1,600 columns: proven, restored, and printed as their source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from projects import make_project, put_stamp
from restores import save
from schemas import tool
from servers import Cluster

Inv = Callable[..., Any]
TABLES, COLUMNS = 10_000, 1_600
SECONDS = 1_800.0  # of a task, on a loaded machine
_TYPES = ["int", "text", "timestamptz", "jsonb", "numeric(9,3)", "uuid[]", "interval", "bytea"]


@pytest.fixture(scope="module")
def roomy() -> Iterator[Cluster]:
    """A server with locks for all tables."""
    with servers.running(
        servers.wheel_bin(16), settings={"max_locks_per_transaction": "500"}
    ) as it:
        yield it


def tables(numbers: range) -> str:
    return "".join(
        f"CREATE TABLE t{i} (id int PRIMARY KEY, n text); INSERT INTO t{i} VALUES ({i}, 'x');"
        for i in numbers
    )


def columns() -> str:
    """Return three tables of as many columns as there can be, and one with defaults and checks.

    That one has fewer: a server before 18 takes a time that grows with their cube to print it.
    """
    names = [f'"c {i}"' for i in range(COLUMNS)]
    typed = ", ".join(f"{name} {_TYPES[i % len(_TYPES)]}" for i, name in enumerate(names))
    checked = ", ".join(
        f"{name} varchar(9) DEFAULT 'a' CHECK ({name} <> 'b')" for name in names[:300]
    )
    rows = '"c 0", "c 1", "c 2", "c 6", "c 1599") SELECT i, \'x\' || i, now(), \'1 h\', \'abc\''
    return (
        "".join(
            f"CREATE TABLE wide{number} ({typed});"
            f"INSERT INTO wide{number} ({rows} FROM generate_series(1, 300) i;"
            for number in range(3)
        )
        + f"CREATE TABLE checked ({checked}); INSERT INTO checked DEFAULT VALUES;"
    )


def printed(cluster: Cluster, name: str) -> list[bytes]:
    """Return what pg_dump prints, but for the random word that it guards psql by."""
    text = tool(cluster, "pg_dump", f"--dbname={name}")
    return [line for line in text.splitlines() if b"restrict" not in line]


@pytest.mark.parametrize("shape", ["tables", "columns"])
def test_it_is_backed_up_and_restored(roomy: Cluster, tmp_path: Path, inv: Inv, shape: str) -> None:
    name = roomy.create()
    if shape == "tables":
        for start in range(0, TABLES, 500):
            roomy.psql(name, tables(range(start, start + 500)))
    else:
        roomy.psql(name, columns())
    put_stamp(roomy.target(name))
    project = make_project(tmp_path / "shop", roomy.url(name))
    before = printed(roomy, name)
    save(project)
    for task, flags in (
        ("backup.verify", ()),
        ("db.restore", ("--as-superuser", "--confirm", name)),
        ("backup.drill", ("--as-superuser",)),
        ("db.undo", ("--confirm", name)),
    ):
        done = inv(task, *flags, cwd=project, seconds=SECONDS)
        assert done.returncode == 0, (task, done.stderr)
        if task == "db.restore":
            number = TABLES if shape == "tables" else 4
            assert f"{number:,} of {number:,} tables identical" in done.stdout
            assert printed(roomy, name) == before
    roomy.drop(name)
