"""Drills over SSH: a backup that is on a host, and a server that is on one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from depots import empty
from halting import Start, halted, unlocked
from hosts import DatabaseHost
from projects import make_project, put_stamp
from remains import left
from restores import logins, save, sides
from servers import Cluster
from waiting import PATIENCE, until

from backups import SHOP, local_backup, processes_with

Inv = Callable[..., Any]


@pytest.fixture(scope="module")
def saved(
    cluster15: Cluster, db1: DatabaseHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a project with a backup; `far` is an environment on db1."""
    name, there = cluster15.create(), db1.cluster.create(owner=db1.user)
    cluster15.execute(SHOP, name)
    put_stamp(cluster15.target(name))
    put_stamp(db1.cluster.target(there, environment="far"))
    project = make_project(tmp_path_factory.mktemp("saved") / "shop", cluster15.url(name))
    block = db1.settings(database=there, ssh={"backups": db1.backups})
    (project / "env" / "far.yaml").write_text(json.dumps(block))
    save(project)
    yield project
    cluster15.drop(name)
    db1.cluster.drop(there)
    empty(db1)


@pytest.fixture
def project(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of the project."""
    return shutil.copytree(saved, tmp_path / "shop")


@pytest.fixture
def far(project: Path) -> str:
    """Return the database of the environment `far`."""
    return str(json.loads((project / "env" / "far.yaml").read_text())["database"])


def test_a_backup_here_is_drilled_on_a_host(
    db1: DatabaseHost, project: Path, far: str, inv: Inv
) -> None:
    done = inv("backup.drill", "--server", "far")
    assert done.returncode == 0, done.stderr
    assert "sent to " in done.stderr
    assert "passed: 2 of 2 tables identical, 1,100 rows" in done.stdout
    (path,) = (each.parent for each in project.glob("backups/*/*/*/manifest.json"))
    assert local_backup(path).checks.drilled
    assert sides(db1.cluster, far) == []
    until(lambda: left(db1) == [])


def test_a_killed_drill_on_a_host_is_swept_by_recover(
    db1: DatabaseHost, project: Path, far: str, inv: Inv, start_inv: Start
) -> None:
    process = halted(start_inv, "restore.loaded", "backup.drill", "--server", "far")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert len(sides(db1.cluster, far)) == 1
    done = unlocked(inv, "db.recover", "--env", "far")
    assert done.returncode == 0, done.stderr
    assert sides(db1.cluster, far) == logins(db1.cluster, far) == []


def test_a_killed_drill_of_a_fetched_backup_is_swept_by_the_next(
    db1: DatabaseHost, project: Path, far: str, inv: Inv, start_inv: Start
) -> None:
    with db1.cluster.connect(far, user=db1.user) as conn:
        conn.cursor().execute(SHOP)
    conn.close()
    made = json.loads(inv("db.backup", "--env", "far", "--on-host", "--json").stdout)["id"]
    process = halted(start_inv, "drill.fetched", "backup.drill", "--env", "far")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    home = project / "backups" / "far" / far
    assert [path.name.startswith(f".{made}-") for path in home.iterdir()] == [True]
    until(lambda: processes_with(f"pgtasks-run-{process.pid}-") == [])
    done = inv("backup.drill", "--env", "far")
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    listed = json.loads(inv("backup.list", "--env", "far", "--json").stdout)
    assert listed["standing"]["proven"]["backup"] == made
    assert listed["standing"]["recovery_seconds"] > 0
