"""The code of the guide to the service runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from servers import Cluster

from pgtasks.service import default

GUIDE = ROOT / "docs" / "service.md"


def test_the_code_of_the_guide_runs(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("PGTASKS_ENV", "dev")
    monkeypatch.setattr(default, "_service", None)
    cluster.execute("CREATE TABLE visits (visitor text)", database)
    names: dict[str, Any] = {}
    seen: list[int] = []
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), names)
        seen.append(names["visits"])
    assert seen == [1, 2, 2, 2, 2]
    client = names["app"].test_client()
    assert client.get("/visits").json == {"visits": 2}
    assert client.get("/health/ready").json == {"status": "ok", "database": "ok"}
    default.service().unwatch()
    default.service().dispose()
