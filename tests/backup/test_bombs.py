"""A small dump that unpacks to more than any disk holds: it ends before a disk is full."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rewriting
from restores import save, sides
from servers import Cluster

from backups import local_backup
from pgtasks.backup.format import manifest
from pgtasks.backup.restore import growth

Inv = Callable[..., Any]
_PIECE = 64 << 20


def zeros(gigabytes: int) -> bytes:
    """Return rows of zeros, compressed a thousand times."""
    packing = zlib.compressobj(9, wbits=31)
    rows = (b"0" * 1023 + b"\n") * (_PIECE >> 10)
    member = packing.compress(rows) + packing.flush()
    return member * ((gigabytes << 30) // _PIECE)


@pytest.fixture
def bomb(cluster: Cluster, database: str, project: Path) -> Path:
    """Return a backup of one row whose dump unpacks to 16 GB, and matches its checksums."""
    cluster.execute("CREATE TABLE t AS SELECT text '1' AS x", database)
    backup = local_backup(Path(save(project)))
    rewriting.put_rows(backup, zeros(16))
    return backup.path


def test_verify_names_it(bomb: Path, inv: Inv) -> None:
    done = inv("backup.verify")
    assert done.returncode == 5, done.stderr
    assert "dump unpacks to more than" in done.stderr
    assert "the database had" in done.stderr


def test_a_restore_ends_and_nothing_is_replaced(
    cluster: Cluster, database: str, bomb: Path, inv: Inv
) -> None:
    done = inv("db.restore", "--as-superuser", "--confirm", database)
    assert done.returncode == 5, done.stderr
    assert f"backup {bomb.name} unpacks to more than it says" in done.stderr
    assert f"--accept '{growth.NAME}'" in done.stderr
    assert cluster.execute("SELECT x FROM t", database) == [("1",)]
    assert sides(cluster, database) == []


def test_one_that_claims_to_be_so_large_needs_the_room(bomb: Path, database: str, inv: Inv) -> None:
    made = replace(local_backup(bomb).manifest, database_bytes=1 << 50)
    (bomb / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")
    done = inv("db.restore", "--as-superuser", "--confirm", database)
    assert done.returncode == 2, done.stderr
    assert "the server's disk has" in done.stderr
