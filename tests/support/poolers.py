"""PgBouncer in front of a server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paths import TEMPORARY
from servers import Cluster
from waiting import PATIENCE

from pgtasks.server.embedded.port import free_port

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
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.01)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
