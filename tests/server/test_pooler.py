"""A connection pooler in between is noticed: neither settings nor locks of a session hold there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from poolers import needs_pgbouncer, pooler
from servers import Cluster

from pgtasks.errors import Refused
from pgtasks.server import connection


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
