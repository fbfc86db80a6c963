"""The code of the guide to the service runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from servers import Cluster

from pgtasks import service
from pgtasks.service import default

GUIDE = ROOT / "docs" / "service.md"


def test_every_name_is_in_the_guide() -> None:
    rows = [line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert set(service.__all__) - named <= {"Health", "Security", "Change"}
    assert all(f"`{name}`" in GUIDE.read_text("utf-8") for name in ("Health", "Security", "Change"))


def test_every_signature_of_the_guide_is_that_of_the_function() -> None:
    text = GUIDE.read_text("utf-8").partition("## All names")[2]
    for name, parameters in re.findall(r"`(\w+)\(([^`]*)\)`", text):
        if name not in service.__all__:
            continue
        found = inspect.signature(getattr(service, name)).parameters
        shown = [each.partition("=")[0].strip("* ") for each in parameters.split(",")]
        shown = [each for each in shown if each]
        assert shown == list(found)[: len(shown)], name


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
