"""What comes to hang on the target while a restore builds: it is said before the swap."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from facts import facts
from halting import halted
from restores import logins, save, sides
from servers import Cluster
from waiting import PATIENCE

from backups import SHOP

Inv = Callable[..., Any]
PREPARED = "BEGIN; UPDATE orders SET total = 7 WHERE id = 1; PREPARE TRANSACTION 'pending'"
SLOT = "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')"


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path) -> Iterator[Path]:
    """Return a project whose database differs from its backup."""
    cluster.psql(database, SHOP)
    save(project)
    cluster.execute("UPDATE orders SET total = 0", database)
    yield project
    for (gid,) in cluster.execute("SELECT gid FROM pg_prepared_xacts WHERE gid = 'pending'"):
        cluster.execute(f"ROLLBACK PREPARED '{gid}'", database)
    cluster.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE slot_name = 'feed'"
    )


@pytest.mark.parametrize("step", ["restore.created", "restore.proven"])
@pytest.mark.parametrize(
    ("statement", "word"), [(PREPARED, "prepared transaction"), (SLOT, "feed")]
)
def test_it_is_said_and_the_old_one_stays(
    cluster: Cluster,
    database: str,
    shop: Path,
    start_inv: Inv,
    inv: Inv,
    step: str,
    statement: str,
    word: str,
) -> None:
    before = facts(cluster, database)
    args = ("db.restore", "--as-superuser", "--confirm", database)
    process = halted(start_inv, step, *args)
    cluster.execute(statement, database)
    os.kill(process.pid, signal.SIGUSR1)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode in (1, 2), (stdout, stderr)
    assert word in stderr, stderr
    assert "Traceback" not in stderr
    assert facts(cluster, database) == before
    assert sides(cluster, database) == logins(cluster, database) == []
    assert "nothing to heal" in inv("db.recover").stdout
