"""A connection pooler in between is noticed: neither settings nor locks of a session hold there."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from paths import TEMPORARY
from servers import Cluster, free_port

from pgtasks.errors import Refused
from pgtasks.server import connection

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(not PGBOUNCER, reason="PgBouncer is not installed")


@contextmanager
def pooler(cluster: Cluster, folder: Path, *lines: str) -> Iterator[int]:
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={cluster.host} port={cluster.port} user={cluster.superuser}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        "auth_type = any\nunix_socket_dir =\n" + "".join(f"{line}\n" for line in lines)
    )
    argv = [str(PGBOUNCER), "-q", str(settings)]
    settings.chmod(0o644)
    own = {}
    if os.getuid() == 0:  # it does not run as root
        own = {"user": pwd.getpwnam("nobody").pw_uid, "extra_groups": []}
        for parent in (folder, *folder.parents):
            if parent.owner() == "root" and TEMPORARY in parent.parents:
                parent.chmod(0o755)
    process = subprocess.Popen(argv, **own)  # type: ignore[call-overload]
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.01)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("ignored", [True, False])
def test_is_refused_in_one_line(
    cluster: Cluster, database: str, tmp_path: Path, mode: str, ignored: bool
) -> None:
    lines = [f"pool_mode = {mode}", *(["ignore_startup_parameters = options"] * ignored)]
    with pooler(cluster, tmp_path, *lines) as port:
        target = replace(
            cluster.target(database), host="127.0.0.1", port=port, user=cluster.superuser
        )
        with pytest.raises(Refused, match=r"a connection pooler .* may be in between") as refused:
            connection.connect(target)
        assert "\n" not in refused.value.message


@needs_pgbouncer
def test_no_task_goes_through_one(
    cluster: Cluster, database: str, project: Path, tmp_path: Path, inv: Callable[..., object]
) -> None:
    lines = ["pool_mode = transaction", "ignore_startup_parameters = options"]
    (tmp_path / "pooler").mkdir()
    with pooler(cluster, tmp_path / "pooler", *lines) as port:
        url = f"postgresql://{cluster.superuser}@127.0.0.1:{port}/{database}"
        (project / "env" / "dev.yaml").write_text(f"url: {url}\n")
        for task in ("db.check", "db.undo"):
            done = inv(task)
            assert done.returncode == 2, done.stderr  # type: ignore[attr-defined]
            assert "pooler" in done.stderr  # type: ignore[attr-defined]
