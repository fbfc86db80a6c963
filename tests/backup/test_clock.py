"""A clock of this machine that steps back: what is newest, what is dropped, what counts as recent.

Runs have a clock that is some days off; the server and the files keep the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from halting import halted
from restores import sides
from servers import Cluster
from waiting import PATIENCE

from backups import SHOP, local_backup
from pgtasks.backup import standing
from pgtasks.backup.format import manifest
from pgtasks.backup.store.local import LocalStore

Inv = Callable[..., Any]
Off = Callable[..., "subprocess.CompletedProcess[str]"]
AHEAD, BEHIND = 40.0, -40.0  # days

# what a run has that is so many days off
_SHIFTED = """
import sys, time
from datetime import timedelta
from invoke.main import program
from pgtasks.host import journal
days, clock, seconds = float(sys.argv.pop(1)), journal.clock, time.time
journal.clock = lambda: clock() + timedelta(days=days)
time.time = lambda: seconds() + days * 86400
sys.argv[0] = "inv"
program.run()
"""


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path) -> Path:
    """Return a project with a little content, of whose backups one stays."""
    cluster.psql(database, SHOP)
    settings = project / "env" / "dev.yaml"
    settings.write_text(
        f"{settings.read_text()}backup: {{keep: {{last: 1}}, proven_within: 8d, trash: 7d}}\n"
    )
    return project


@pytest.fixture
def off(shop: Path) -> Off:
    """Return what runs `inv` with a clock that is so many days off."""

    def run(days: float, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", _SHIFTED, str(days), *args]
        done = subprocess.run(argv, cwd=shop, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, done.stderr
        return done

    return run


def ids(shop: Path) -> list[str]:
    return [backup.id for backup in LocalStore(shop / "backups").list().backups]


def test_what_is_newest_goes_by_the_server(
    cluster: Cluster, database: str, shop: Path, off: Off
) -> None:
    """Names go by the clock here: the second backup has the name of an older one."""
    off(AHEAD, "db.backup", "--note", "first")
    cluster.execute("UPDATE orders SET total = -1", database)
    off(BEHIND, "db.backup", "--note", "second")
    second, first = ids(shop)
    assert second < first  # by their names
    restored = off(BEHIND, "db.restore", "--as-superuser", "--confirm", database)
    assert f"@{second}" in restored.stdout
    assert cluster.value("SELECT max(total) FROM orders", database) == -1
    pruned = off(0, "backup.prune", "--yes")
    assert f"dropped 1 backup of dev/{database}" in pruned.stdout
    assert ids(shop) == [second]


def test_runs_of_two_clocks_lock_each_other_out(
    database: str, shop: Path, off: Off, start_inv: Inv
) -> None:
    off(0, "db.backup")
    args = ("db.restore", "--as-superuser", "--confirm", database)
    process = halted(start_inv, "restore.marked", *args)
    assert "is locked by another run" in off(AHEAD, "db.recover", code=6).stderr
    assert "is locked by another run" in off(BEHIND, *args, code=6).stderr
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_kept_databases_follow_each_other(
    cluster: Cluster, database: str, shop: Path, off: Off
) -> None:
    off(0, "db.backup")
    for days in (AHEAD, BEHIND):
        cluster.execute(f"UPDATE orders SET total = {days}", database)
        off(days, "db.restore", "--as-superuser", "--confirm", database)
    off(0, "db.undo", "--confirm", database)  # of the last one, whose clock was behind
    assert cluster.value("SELECT max(total) FROM orders", database) == BEHIND
    assert len(sides(cluster, database)) == 2


def test_the_trash_is_left_by_no_clock_that_is_behind(shop: Path, off: Off) -> None:
    off(0, "db.backup")
    off(0, "db.backup")
    _, gone = ids(shop)  # the newest first; names of one second go by chance
    off(0, "backup.prune", "--yes")
    trash = lambda: [path.name.split(".")[0] for path in shop.glob("backups/*/*/.trash/[!.]*")]  # noqa: E731
    off(BEHIND, "backup.prune", "--yes")
    assert trash() == [gone]
    off(AHEAD, "backup.prune", "--yes")
    assert trash() == []
    assert len(ids(shop)) == 1


def dated(shop: Path, days: float, mark: str, **checks: str | None) -> str:
    """Put a copy of the newest backup as of so many days ago, and return its ID."""
    newest = LocalStore(shop / "backups").list().backups[0]
    taken = datetime.now(timezone.utc) - timedelta(days=days)
    id = f"{taken:%Y%m%dT%H%M%SZ}-{mark}"
    copy = shutil.copytree(newest.path, newest.path.with_name(id))
    made = replace(newest.manifest, id=id, snapshot_time=f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}")
    (copy / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")
    local_backup(copy).record(**checks)
    return id


def ago(days: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def test_a_proof_of_the_future_is_no_recent_one(shop: Path, inv: Inv, off: Off) -> None:
    """A server whose clock was years ahead made one: it would be recent until then."""
    off(0, "db.backup")
    future = dated(shop, -400, "aaaa", proven=ago(-400), proven_by="ann@host", drilled=ago(-400))
    report = inv("backup.report")
    assert report.returncode == 5, report.stdout
    assert "dev (never proven)" in report.stderr
    assert f"{future} is dated in the future and does not count" in report.stdout + report.stderr
    proven = dated(shop, 2, "bbbb", proven=ago(2), proven_by="ann@host", drilled=ago(2))
    found = json.loads(inv("backup.report", "--json").stdout)["environments"][0]
    assert (found["result"], found["proven"]["backup"]) == ("ok", proven)
    assert found["future"] == future
    assert "last proven one 2 d" in inv("backup.list").stdout
    kept = inv("backup.prune", "--dry")
    assert kept.returncode == 0, kept.stderr
    assert "dated in the future" in kept.stdout


def test_neither_a_drill_nor_a_failure_hides_behind_the_future(shop: Path, off: Off) -> None:
    off(0, "db.backup")
    dated(shop, 9, "aaaa", proven=ago(-400), drilled=ago(-400))
    dated(shop, 8, "bbbb", proven=ago(3), drilled=ago(3))
    dated(shop, 7, "cccc", failed=ago(1), failure="1 finding")
    backups = LocalStore(shop / "backups").list().backups
    assert standing.last_drill(backups) == backups[2].checks.drilled
    assert standing.of(backups).failure == "1 finding"
    assert "no drill is due" in off(0, "backup.drill", "--if-older", "7d").stdout
