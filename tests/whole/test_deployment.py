"""The script of docs/pipeline.md, run as a pipeline would run it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prefork
from paths import ROOT
from roles import as_role
from servers import Cluster
from setups import make_shop

from migrations import revision

NAME = 'it\'s a "new" 🐘'
_SCRIPT = re.compile(r"<!-- script: deploy.sh -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def deploy(root: Path) -> subprocess.CompletedProcess[str]:
    script = _SCRIPT.search((ROOT / "docs" / "pipeline.md").read_text("utf-8"))
    assert script
    (root / "deploy.sh").write_text(script[1])
    programs = root / ".programs"
    programs.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", "deploy.sh", "prod", NAME],
        cwd=root,
        **prefork.shell(programs),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_the_script_deploys_or_leaves_the_database_alone(
    cluster: Cluster,
    fresh_database: Callable[..., str],
    plain: Callable[..., str],
    tmp_path: Path,
    inv: Any,
) -> None:
    root = make_shop(cluster, fresh_database, tmp_path / "shop")
    (root / "env" / "dev.yaml").unlink()
    env = root / "migrations" / "env.py"  # whose models are others than the tables
    env.write_text(env.read_text().replace("target_metadata=metadata", "target_metadata=None"))
    url = as_role(cluster, plain("CREATEDB"), NAME)
    settings = json.dumps({"url": url, "seeds": ["core"], "protected": True})
    (root / "env" / "prod.yaml").write_text(settings)
    assert inv("setup", "--env", "prod", "--confirm", NAME, cwd=root).returncode == 0
    assert inv("db.backup", "--env", "prod", cwd=root).returncode == 0

    up, down = (
        "op.execute('ALTER TABLE notes ADD COLUMN text text')",
        "op.drop_column('notes', 'text')",
    )
    revision(root / "migrations", "two", "one", up, down)
    done = deploy(root)
    assert done.returncode == 0, done.stdout + done.stderr
    migrated = json.loads((root / "migrated.json").read_text())
    assert [each["revision"] for each in migrated["applied"]] == ["two"]
    assert migrated["backup"]
    again = deploy(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((root / "migrated.json").read_text())["applied"] == []

    (root / "migrated.json").unlink()
    revision(root / "migrations", "three", "two", "op.execute('SELECT 1 / 0')")
    failed = deploy(root)
    assert failed.returncode != 0
    assert "division by zero" in failed.stderr
    assert not (root / "migrated.json").exists(), "the rehearsal ended it"
    assert cluster.value("SELECT version_num FROM alembic_version", NAME) == "two"
    assert not [each for each in cluster.databases() if each.startswith(f"{NAME}__new")]
