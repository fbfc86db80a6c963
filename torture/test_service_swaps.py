"""An application that never pauses, while the tasks restore and undo under it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import make_project, put_stamp
from servers import Cluster
from units import ROWS, Load, let_wait
from watching import INV

from pgtasks.service import DatabaseService

THREADS = 8
TASKS = (["db.restore", "--backup", "latest", "--yes"], *[["db.undo"]] * 4)


def inv(project: Path, *words: str) -> None:
    done = subprocess.run([INV, *words], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_unit_fails_while_tasks_swap_the_database(
    any_cluster: Cluster,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = fresh_database(any_cluster)
    put_stamp(any_cluster.target(database))
    any_cluster.execute(ROWS, database)
    project = make_project(tmp_path / "shop", any_cluster.url(database))
    monkeypatch.chdir(project)
    inv(project, "db.backup")
    let_wait(monkeypatch)
    service = DatabaseService("dev")
    load = Load(service, THREADS)
    with load.running():
        for words in TASKS:
            load.await_units(20)
            inv(project, *words)
        load.await_units(1)
    service.dispose()
    load.check(any_cluster, database, swaps=len(TASKS))
