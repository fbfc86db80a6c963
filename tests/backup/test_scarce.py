"""Runs that are out of something: room on a disk, holes in files, file handles, room in a journal.

Each ends in one line, leaves the target as it was, and nothing behind.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matrix
import pytest
from facts import facts
from halting import unlocked
from restores import save, sides
from servers import Cluster
from waiting import PATIENCE, until

from backups import SHOP, below, processes_with
from pgtasks.host import tempfiles
from pgtasks.server.dump import pack

Inv = Callable[..., Any]
INV = str(Path(sys.executable).parent / "inv")
LARGE = "CREATE TABLE large AS SELECT md5(g::text) AS x FROM generate_series(1, 300000) g"


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path) -> Path:
    cluster.psql(database, SHOP)
    (project / "backups").mkdir(mode=0o700)
    return project


def on_a_disk(project: Path, kind: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose `backups` are on a file system of their own, that only it sees."""
    mount = f"mount -t {kind} none backups && chmod 700 backups && {{ {script}; }}"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount]
    try:
        done = subprocess.run(argv, cwd=project, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        pytest.skip("util-linux is not installed")
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
    return done


def limited(
    limit: int, most: int, *args: str, cwd: Path, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a task with a limit of the system (setrlimit)."""
    return subprocess.run(
        [INV, *args],
        cwd=cwd,
        preexec_fn=lambda: resource.setrlimit(limit, (most, most)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        **more,
    )


class TestPacking:
    """The files of a dump are compressed here while pg_dump writes them."""

    @pytest.mark.parametrize("size", ["1m", "3m", "6m"])
    def test_a_full_disk_is_said_and_nothing_stays(
        self, cluster: Cluster, database: str, shop: Path, size: str
    ) -> None:
        cluster.execute(LARGE, database)
        script = f"{INV} db.backup; echo $?; find backups -name '*.partial' -o -name '*.dat*'"
        done = on_a_disk(shop, f"tmpfs -o size={size}", script)
        assert done.stdout.split() == ["1"], (done.stdout, done.stderr)
        assert "no space is left on the disk" in done.stderr or "No space" in done.stderr
        assert "Traceback" not in done.stderr
        until(lambda: not processes_with(f"{shop}/"))  # workers of pg_dump end after it

    def test_a_file_system_without_holes_is_packed_by_pg_dump(
        self, cluster: Cluster, database: str, shop: Path
    ) -> None:
        cluster.execute(LARGE, database)
        script = f"{INV} db.backup --json && {INV} backup.verify --json"
        done = on_a_disk(shop, "ramfs", script)
        assert done.returncode == 0, done.stderr
        assert '"intact": true' in done.stdout

    def test_a_kill_between_raw_and_packed_leaves_nothing(
        self, cluster: Cluster, database: str, shop: Path, start_inv: Inv, inv: Inv
    ) -> None:
        if not pack.possible(shop):
            pytest.skip("no isal, no inotify, or a file system without holes: nothing to install")
        cluster.execute(LARGE.replace("300000", "1500000"), database)
        process = start_inv("db.backup", "--no-proof")
        until(lambda: list(shop.glob("backups/*/*/.*/dump/*.dat.gz")))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        until(lambda: not processes_with(f"{shop}/"))
        listed = json.loads(inv("backup.list", "--json").stdout)
        assert (len(listed["backups"]), len(listed["interrupted"])) == (0, 1)
        assert "an interrupted backup" in unlocked(inv, "db.recover").stdout
        assert not [name for name in below(shop / "backups") if ".dat" in name]

    def test_a_kill_while_pg_dump_is_stopped_ends_it(
        self, cluster: Cluster, database: str, shop: Path, start_inv: Inv, inv: Inv
    ) -> None:
        """Its snapshot would else keep the server from cleaning up, for ever."""
        cluster.execute(LARGE.replace("300000", "1500000"), database)
        process = start_inv("db.backup", "--no-proof")
        until(lambda: list(shop.glob("backups/*/*/.*/dump/*.dat")))
        (group,) = {os.getpgid(pid) for pid in children(process.pid, "pg_dump")}
        os.killpg(group, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        until(lambda: not processes_with(f"{shop}/"))
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
        until(lambda: not cluster.value(query, parameters=(database, 0)))
        assert unlocked(inv, "db.backup", "--no-proof").returncode == 0


def children(pid: int, name: str) -> list[int]:
    """Return the processes of a name that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(word) for path in found for word in path.read_text().split()]
    return [pid for pid in pids if name in Path(f"/proc/{pid}/cmdline").read_text()]


HANDLES = range(6, 70) if matrix.whole else (6, 14, 26, 38)
TASKS = ["db.backup", "db.restore", "backup.verify"]


@pytest.mark.parametrize("task", TASKS if matrix.whole else TASKS[:2])
def test_an_interrupted_run_for_want_of_file_handles(
    cluster: Cluster, database: str, shop: Path, inv: Inv, task: str
) -> None:
    save(shop)
    before = facts(cluster, database)
    args = {"db.restore": ("--as-superuser", "--confirm", database)}.get(task, ())
    codes = []
    for most in HANDLES:
        done = limited(resource.RLIMIT_NOFILE, most, task, *args, cwd=shop)
        codes.append(done.returncode)
        own = "pgtasks" in done.stderr  # Python itself needs some to start
        assert not ("Traceback" in done.stderr and own), (most, done.stderr)
        assert facts(cluster, database) == before, most
        listed = json.loads(inv("backup.list", "--json").stdout)
        whole = [path.parent.name for path in shop.glob("backups/*/*/[!.]*/manifest.json")]
        assert sorted(each["id"] for each in listed["backups"]) == sorted(whole)
    assert codes[0] != 0
    assert inv("db.recover").returncode == 0
    assert not [name for name in sides(cluster, database) if "__new_" in name]
    assert not [name for name in below(shop / "backups") if name.endswith(".partial")]
    assert inv(task, *args).returncode == 0
    assert tempfiles.left(os.environ["TMPDIR"]) == []


def test_a_journal_that_is_full_costs_no_backup(
    cluster: Cluster, database: str, shop: Path, inv: Inv
) -> None:
    save(shop)
    journal = shop / "backups" / "journal.jsonl"
    line = journal.read_text()
    journal.write_text(line * (400_000 // len(line)))
    size = journal.stat().st_size
    done = limited(resource.RLIMIT_FSIZE, size, "db.backup", cwd=shop)
    assert "Traceback" not in done.stderr
    assert "journal" in done.stderr
    assert journal.read_text().endswith("\n")
    listed = json.loads(inv("backup.list", "--json").stdout)
    assert len(listed["backups"]) == 2, done.stderr
