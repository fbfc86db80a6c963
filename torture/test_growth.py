"""A database that grows by its restore; `tests/backup/test_bombs.py` has what may not grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from restores import save
from servers import Cluster

from backups import local_backup
from pgtasks.backup.format import bounds
from pgtasks.backup.restore import growth

Inv = Callable[..., Any]


def test_what_grows_by_intention_is_loaded(
    cluster: Cluster,
    database: str,
    project: Path,
    inv: Inv,
) -> None:
    """Values that are compressed in the source alone: the storage of their column was changed."""
    cluster.execute(
        "CREATE TABLE t AS SELECT repeat('x', 8000000) AS x FROM generate_series(1, 80);"
        "ALTER TABLE t ALTER x SET STORAGE EXTERNAL",
        database,
    )
    backup = local_backup(Path(save(project)))
    assert backup.manifest.database_bytes < 30 << 20
    assert bounds.most_loaded(backup.manifest) < 640_000_000
    args = ("db.restore", "--as-superuser", "--confirm", database)
    refused = inv(*args)
    assert refused.returncode == 5, refused.stderr
    done = inv(*args, "--accept", growth.NAME)
    assert done.returncode == 0, done.stderr
    assert "nothing of that name" not in done.stderr
    assert cluster.value("SELECT sum(length(x)) FROM t", database) == 640_000_000
