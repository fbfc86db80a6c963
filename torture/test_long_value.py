"""A backup of a very long value: it is restored, and prints as its source does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from restores import save
from schemas import tool
from servers import Cluster

from backups import local_backup

Inv = Callable[..., Any]
LONG = (
    "CREATE TABLE long AS SELECT repeat(md5('x'), 6553600) AS x;"
    "ALTER TABLE long ALTER x SET STORAGE EXTERNAL"
)


def test_a_value_of_200_mb_comes_back(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    cluster.psql(database, LONG)
    before = printed(cluster, database)
    backup = local_backup(Path(save(project)))
    done = inv("backup.verify", seconds=1200)
    assert done.returncode == 0, done.stderr
    flags = ("--as-superuser", "--confirm", database)
    done = inv("db.restore", "--backup", backup.id, *flags, seconds=1200)
    assert done.returncode == 0, done.stderr
    assert printed(cluster, database) == before


def printed(cluster: Cluster, database: str) -> list[bytes]:
    """Return what pg_dump prints, but for the random word that it guards psql by."""
    text = tool(cluster, "pg_dump", f"--dbname={database}")
    return [line for line in text.splitlines() if b"restrict" not in line]
