"""db.check --all: the database against the files of its project."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import Cluster
from setups import make_shop

from migrations import revision


def states(done: Any) -> dict[str, tuple[str, str]]:
    assert "Traceback" not in done.stderr, done.stderr
    document = json.loads(done.stdout)
    return {each["subject"]: (each["state"], each["text"]) for each in document["findings"]}


def test_what_differs_from_the_project_is_a_fault(
    cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path, inv: Any
) -> None:
    root = make_shop(cluster, fresh_database, tmp_path / "shop")
    assert inv("db.init", cwd=root).returncode == 0

    done = inv("db.check", "--all", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    found = states(done)
    assert found["migrations"] == ("ok", "up-to-date: at one, head is one")
    assert found["triggers"] == ("ok", "2 of 2 installed as the files say")
    assert found["backup"] == ("note", "there is none: inv db.backup makes one")

    assert inv("db.backup", cwd=root).returncode == 0
    revision(root / "migrations", "two", "one", "op.execute('SELECT 1')")
    touch = root / "sql" / "functions" / "touch.sql"
    touch.write_text(touch.read_text().replace("BEGIN", "BEGIN NULL;"))
    settings = (root / "env" / "dev.yaml").read_text().replace("[core, demo]", "[core, gone]")
    (root / "env" / "dev.yaml").write_text(settings)

    done = inv("db.check", "--all", "--json", cwd=root)
    assert done.returncode == 1
    found = states(done)
    assert found["migrations"] == ("fault", "behind 1: at one, head is two: inv migrate.status")
    assert found["triggers"][0] == "fault"
    assert found["triggers"][1].endswith(": inv trigger.apply makes them agree")
    assert found["seeds"] == ("fault", "unknown seed set 'gone', known: core, demo")
    assert found["backup"][1].startswith("the newest is ")
    assert inv("db.check", cwd=root).returncode == 0, "the project's files count with --all alone"
