"""Commands that messages name: typed as printed, they lead to the same tree and environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_side
from servers import Cluster

import pgtasks
from pgtasks.host import checkout
from pgtasks.settings import selection
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load
from pgtasks.settings.target import Target

RUN = "26112207551800"
_PRINTED = re.compile(r"inv ((?:-\S+ \S+ )*)([a-z]+\.[a-z]+)((?: --[a-z]+ [\w.-]+)*)")


def printed(text: str) -> dict[str, str]:
    """Return the commands that a text names, by task."""
    return {found[2]: found[0] for found in _PRINTED.finditer(text)}


@pytest.fixture
def qa(project: Path, cluster: Cluster, fresh_database: Callable[..., str]) -> Path:
    """Return the project with an environment beside dev, and one that is protected."""
    for name, more in (("qa", ""), ("prod", "protected: true\n")):
        url = cluster.target(fresh_database(cluster)).url()
        (project / f"env/{name}.yaml").write_text(f"url: '{url}'\n{more}")
    return project


def test_the_next_step_of_a_restore_is_for_its_environment(inv: Any, qa: Path) -> None:
    database = resolve(load(qa), "prod").settings.database
    for words in (("env.stamp",), ("db.restore",)):
        if words == ("db.restore",):
            assert inv("db.backup", "--env", "prod").returncode == 0
        done = inv(*words, "--env", "prod", "--confirm", database)
        assert done.returncode == 0, done.stderr
    assert "inv db.undo --env prod takes it back" in done.stdout
    undone = inv(*shlex.split("db.undo --env prod"), "--confirm", database)
    assert "inv db.undo --env prod takes this back, inv db.forget --env prod" in undone.stdout


def test_what_is_chosen_by_itself_needs_no_flag(inv: Any, qa: Path) -> None:
    wrong = inv("db.check", "--env", "qa").stdout
    assert "inv db.create --env qa stamps an empty database" in wrong
    inv("env.use", "qa")
    assert "inv db.create stamps an empty database" in inv("db.check").stdout
    # for this command alone, perhaps: who goes on in another shell is told too
    again = inv("db.check", "--env", "qa", env={"PGTASKS_ENV": "dev"}).stdout
    assert "inv db.create --env qa stamps" in again


@pytest.mark.parametrize(
    ("environment", "process", "remembered", "needed"),
    [
        ("dev", {}, "", False),
        ("qa", {}, "", True),
        ("qa", {}, "qa", False),
        ("dev", {}, "qa", True),
        ("qa", {"PGTASKS_ENV": "QA"}, "", True),
        ("qa", {"PGTASKS_ENV": "qa"}, "qa", False),
        ("dev", {"PGTASKS_ENV": "qa"}, "", True),
        ("prod", {"PGTASKS_ENV": "prod"}, "", True),
    ],
)
def test_when_env_is_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: str,
    process: dict[str, str],
    remembered: str,
    needed: bool,
) -> None:
    root = make_project(tmp_path / "shop", "postgresql://x@127.0.0.1:1/x")
    (root / "env/qa.yaml").write_text("inherits: dev\n")
    (root / "env/prod.yaml").write_text("host: db\ndatabase: shop\nprotected: true\n")
    if remembered:
        checkout.remember(load(root), remembered)
    for name, value in process.items():
        monkeypatch.setenv(name, value)
    project = load(root)
    assert selection.must_be_named(project, resolve(project, environment)) is needed


def test_another_file_is_named(inv: Any, project: Path, tmp_path: Path) -> None:
    (project / "tasks.py").rename(project / "dbtasks.py")
    overview = inv("-c", "dbtasks").stdout
    commands = [line for line in overview.splitlines() if "inv " in line]
    assert len(commands) > 10
    assert all("inv -c dbtasks " in line for line in commands)
    assert overview.count("inv ") == overview.count("inv -c dbtasks ")
    below = project / "env"
    missing = inv("-c", "dbtasks", "db.backpu", cwd=below)
    assert "did you mean db.backup" in missing.stderr
    away = inv("-c", "dbtasks", "-r", str(project), "db.restore", cwd=tmp_path)
    assert f"make one with inv -r {project} -c dbtasks db.backup" in away.stderr


def test_a_settings_file_is_named(inv: Any, project: Path, tmp_path: Path) -> None:
    (project / "other.yaml").write_text("pgtasks: {}\n")
    done = inv("-f", "other.yaml", "db.restore")
    assert "make one with inv -f other.yaml db.backup" in done.stderr


def test_a_branch_of_another_tree_is_named(inv: Any, project: Path) -> None:
    (project / "tasks.py").write_text(
        "import invoke, pgtasks\n\nns = invoke.Collection()\n"
        "ns.add_collection(pgtasks.namespace(__file__), name='pg')\n"
    )
    assert "make one with inv pg.db.backup" in inv("pg.db.restore").stderr


def test_each_of_several_environments_has_its_own(inv: Any, qa: Path, tmp_path: Path) -> None:
    said = inv("db.check", "--env", "qa,prod").stdout
    assert "inv db.create --env qa stamps" in said
    assert "inv db.create --env prod stamps" in said


def test_what_is_kept_and_left_over_is_named_with_its_environment(
    inv: Any, project: Path, cluster: Cluster, target: Target
) -> None:
    try:
        side = [put_side(cluster, target.database, role, RUN) for role in ("old", "new")]
        (project / "env/dev.yaml").rename(project / "env/qa.yaml")
        inv("env.stamp", "--env", "qa", "--confirm", target.database)
        found = printed(inv("db.check", "--env", "qa").stdout)
        assert found["db.recover"] == "inv db.recover --env qa"
        assert found["db.undo"] == "inv db.undo --env qa"
        assert found["db.forget"] == "inv db.forget --env qa"
    finally:
        for name in side:
            cluster.drop(name)


def test_no_message_names_a_command_by_hand() -> None:
    """What is written as `inv TASK` in a string of the library leads to dev from anywhere."""
    package = Path(pgtasks.__file__).parent
    by_hand = re.compile(r"""(?<!`)\binv [a-z]+\.[a-z]+""")
    left = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if by_hand.search(line) and "typed." not in line and not line.lstrip().startswith("#")
    ]
    allowed = ("settings/selection.py: ENV_USE",)
    assert [line for line in left if not line.startswith(allowed)] == []


def test_who_meets_no_server_is_led_to_the_steps(inv: Any, tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop", "postgresql://x@127.0.0.1:1/x", environment="qa")
    done = inv("db.backup", "--env", "qa", cwd=root)
    assert done.returncode == 4
    assert "inv verify.connection --env qa checks the connection step by step" in done.stderr
    assert "refused: is the server running" in done.stderr
    assert "verify.connection" not in inv("db.check", "--env", "qa", cwd=root).stderr
