"""The disk of the server is full in the middle of a restore: the target is the old one, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gates
import pytest
from facts import facts
from halting import halted
from paths import TEMPORARY
from restores import save, sides
from servers import Cluster
from waiting import PATIENCE

from backups import SHOP
from pgtasks.server.embedded import account

Inv = Callable[..., Any]
_DISK = 80 << 20  # bytes: of two databases, and some
_ROOM = 4 << 20  # that are left when it is full
LARGE = (
    f"CREATE FUNCTION gate(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {gates.WAIT}"
    " RETURN true; END $$; CREATE TABLE large (n int CHECK (gate(n)), x text);"
    "INSERT INTO large SELECT g, md5(g::text) FROM generate_series(1, 80000) g"
)
INDEX = "CREATE INDEX ON large (x)"


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """Return a folder of the server's account on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a file system cannot be mounted: needs root")
    own = account.unprivileged()
    with tempfile.TemporaryDirectory(prefix="pgt-full-", dir=TEMPORARY) as folder:
        options = f"size={_DISK},uid={own.uid},gid={own.gid},mode=700"
        argv = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
        Path(folder).chmod(0o755)
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path, disk: Path) -> Iterator[Path]:
    """Return a project whose database lies on that file system."""
    cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
    cluster.execute(f'ALTER DATABASE "{database}" SET TABLESPACE small')
    cluster.psql(database, f"{SHOP}; {LARGE}; {INDEX};")
    save(project)
    cluster.execute("UPDATE orders SET total = 0", database)
    yield project
    cluster.drop(database)
    cluster.execute("DROP TABLESPACE small")


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Let the disk have little room for a block."""
    system = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, system.f_bavail * system.f_frsize - _ROOM)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("step", ["restore.checked", "restore.loading"])
def test_a_full_disk_of_the_server_leaves_the_old_one(
    cluster: Cluster,
    database: str,
    shop: Path,
    disk: Path,
    inv: Inv,
    start_inv: Inv,
    step: str,
) -> None:
    before = facts(cluster, database)
    args = ("db.restore", "--as-superuser", "--confirm", database)
    with gates.shut(cluster) as opened, ExitStack() as is_full:
        process = halted(start_inv, step, *args)
        is_full.enter_context(full(disk))
        opened()  # its rows come only now
        os.kill(process.pid, signal.SIGUSR1)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1, (stdout, stderr)
        assert "No space left on device" in stderr
        assert "Traceback" not in stderr
        assert [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert sides(cluster, database) == []  # dropped also where nothing can be written
        assert "nothing to heal" in inv("db.recover").stdout
    assert facts(cluster, database) == before
    done = inv(*args)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT sum(total) > 0 FROM orders", database)
