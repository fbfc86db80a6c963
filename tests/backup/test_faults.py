"""Restore and undo interrupted at every step: the target is the old or the new one, whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halting import NEW, OLD, Start, end_backends, halted, interrupt, kill, refused, unlocked
from matrix import matrix
from projects import make_project, put_stamp, stamp_of
from restores import damage, fill_as, logins, rows, save, sides
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.report import boundaries

_SWAPPED = ("swap.done", "restore.swapped", "undo.swapped")

Inv = Callable[..., Any]


@pytest.fixture(scope="module")
def saved(cluster: Cluster, plain_owner: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a backup that all tests here restore, each into a database of its own."""
    name = cluster.create()
    fill_as(cluster, name, plain_owner)
    put_stamp(cluster.target(name))
    backup = save(make_project(tmp_path_factory.mktemp("saved") / "shop", cluster.url(name)))
    cluster.drop(name)
    return backup


@pytest.fixture
def damaged(cluster: Cluster, database: str, project: Path, plain_owner: str) -> str:
    """Return the project's database, whose content is not what the backup holds."""
    fill_as(cluster, database, plain_owner)
    damage(cluster, database)
    return database


@matrix(step=[*boundaries.RESTORE, *boundaries.SWAP], fault=[kill, interrupt, end_backends])
def test_an_interrupted_restore_leaves_old_or_new(
    cluster: Cluster,
    damaged: str,
    saved: str,
    inv: Inv,
    start_inv: Start,
    step: str,
    fault: Callable[..., None],
) -> None:
    process = halted(start_inv, step, "db.restore", "--backup", saved)
    fault(process, cluster)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if fault is kill else 130)
    if fault is not kill:
        words = "replaced, inv db.undo takes that back" if step in _SWAPPED else "as it was"
        assert said.endswith(f"error: interrupted: {damaged!r} is {words}\n"), said
    assert rows(cluster, damaged) == (NEW if step in _SWAPPED else OLD)
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    left = sides(cluster, damaged)
    assert len(left) == (1 if step in _SWAPPED else 0), left
    assert logins(cluster, damaged) == []
    assert rows(cluster, damaged) == (NEW if step in _SWAPPED else OLD)


def test_the_next_restore_heals_and_says_so(
    cluster: Cluster, damaged: str, saved: str, inv: Inv, start_inv: Start
) -> None:
    process = halted(start_inv, "restore.loading", "db.restore", "--backup", saved)
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    done = unlocked(inv, "db.restore", "--backup", saved)
    assert done.returncode == 0, done.stderr
    assert "interrupted run left half built" in done.stderr
    assert len(sides(cluster, damaged)) == 1


@matrix(step=[*boundaries.UNDO, *boundaries.SWAP], fault=[kill, interrupt])
def test_an_interrupted_undo_leaves_old_or_new(
    cluster: Cluster,
    damaged: str,
    saved: str,
    inv: Inv,
    start_inv: Start,
    step: str,
    fault: Callable[..., None],
) -> None:
    assert inv("db.restore", "--backup", saved).returncode == 0
    process = halted(start_inv, step, "db.undo")
    fault(process, cluster)
    process.communicate(timeout=PATIENCE)
    assert rows(cluster, damaged) == (OLD if step in _SWAPPED else NEW)
    assert len(sides(cluster, damaged)) == 1
    assert unlocked(inv, "db.undo").returncode == 0
    assert rows(cluster, damaged) == (NEW if step in _SWAPPED else OLD)


@pytest.mark.parametrize("step", ["restore.checked", "swap.ready"])
def test_a_target_that_is_stamped_anew_is_not_replaced(
    cluster: Cluster, damaged: str, saved: str, start_inv: Start, step: str
) -> None:
    process = halted(start_inv, step, "db.restore", "--backup", saved)
    put_stamp(cluster.target(damaged, environment="prod"))
    assert "stamped anew" in refused(process)
    assert rows(cluster, damaged) == OLD
    assert sides(cluster, damaged) == []
    assert stamp_of(cluster, damaged).startswith("pgtasks: environment=prod ")


@pytest.mark.parametrize("step", ["undo.checked", "swap.ready"])
def test_a_target_that_is_stamped_anew_is_not_undone(
    cluster: Cluster, damaged: str, saved: str, inv: Inv, start_inv: Start, step: str
) -> None:
    assert inv("db.restore", "--backup", saved).returncode == 0
    process = halted(start_inv, step, "db.undo")
    put_stamp(cluster.target(damaged, environment="prod"))
    assert "stamped anew" in refused(process)
    assert rows(cluster, damaged) == NEW


def test_pg_restore_ends_with_a_killed_run(
    cluster: Cluster, damaged: str, saved: str, start_inv: Start
) -> None:
    process = halted(start_inv, "restore.loading", "db.restore", "--backup", saved)
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
    until(lambda: not cluster.value(query, parameters=(f"pgtasks% {process.pid} %",)))


def test_recover_opens_a_database_that_refuses_connections(
    cluster: Cluster, damaged: str, inv: Inv
) -> None:
    cluster.execute(f'ALTER DATABASE "{damaged}" ALLOW_CONNECTIONS false')
    closed = inv("db.backup")
    assert closed.returncode == 4
    assert "inv db.recover" in closed.stderr
    healed = inv("db.recover")
    assert healed.returncode == 0, healed.stderr
    assert "opened" in healed.stdout
    assert rows(cluster, damaged) == OLD


def test_recover_brings_a_kept_database_back_when_the_target_is_gone(
    cluster: Cluster, damaged: str, saved: str, inv: Inv
) -> None:
    assert inv("db.restore", "--backup", saved).returncode == 0
    cluster.execute(f'DROP DATABASE "{damaged}" WITH (FORCE)')
    healed = inv("db.recover")
    assert healed.returncode == 0, healed.stderr
    assert rows(cluster, damaged) == OLD
    assert sides(cluster, damaged) == []


def test_recover_says_when_there_is_nothing_to_heal(damaged: str, inv: Inv, tmp_path: Path) -> None:
    healed = inv("db.recover")
    assert healed.returncode == 0
    assert healed.stdout == "nothing to heal\n"


def test_a_run_keeps_its_target_when_the_environment_is_switched(
    cluster: Cluster, damaged: str, saved: str, inv: Inv, start_inv: Start, project: Path
) -> None:
    """Settings and choice change while the restore waits: it ends where it began."""
    process = halted(start_inv, "restore.checked", "db.restore", "--backup", saved)
    (project / "env" / "dev.yaml").write_text("host: 192.0.2.1\n")
    (project / "env" / "other.yaml").write_text("host: 192.0.2.1\n")
    assert inv("env.use", "other").returncode == 0
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert rows(cluster, damaged) == NEW
