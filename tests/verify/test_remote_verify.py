"""verify.all of an environment on a database host, killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from conftest import Inv
from halting import halted
from hosts import DatabaseHost
from projects import make_project, put_stamp
from waiting import until


def test_what_a_killed_run_leaves_on_the_host_the_next_one_drops(
    db1: DatabaseHost, inv: Inv, start_inv: Any, tmp_path: Path
) -> None:
    name = db1.cluster.create('far "x" ü', owner=db1.user)
    try:
        put_stamp(db1.cluster.target(name))
        root = make_project(tmp_path / "far", "")
        settings = db1.settings(database=name)
        (root / "env" / "dev.yaml").write_text(json.dumps(settings, ensure_ascii=False))
        before = set(db1.cluster.databases())
        process = halted(start_inv, "restore.loading", "verify.all", "--only", "restore", cwd=root)
        assert len(set(db1.cluster.databases()) - before) == 3, "two, and what is built beside one"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
        mine = (f"pgtasks% {process.pid} %",)
        until(lambda: db1.cluster.value(query, parameters=mine) == 0)
        done = inv("verify.all", "--only", "copy,env", "--json", cwd=root)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert len(document["swept"]) == 2
        assert set(db1.cluster.databases()) == before
    finally:
        db1.cluster.drop(name)
