"""Setup: everything from nothing, nothing from everything, and the clinic itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from projects import make_project
from servers import Cluster
from setups import make_shop
from triggers import ON_NOTES

from pgtasks.server import embedded


def steps(done: Any) -> dict[str, str]:
    assert done.stdout, done.stderr
    return {step["step"]: step["result"] for step in json.loads(done.stdout)["steps"]}


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path) -> Path:
    """A project with all parts; its database does not exist yet."""
    return make_shop(cluster, fresh_database, tmp_path / "shop")


def test_from_nothing_and_again(inv: Any, shop: Path, cluster: Cluster) -> None:
    planned = inv("setup", "--dry", "--json", cwd=shop)
    assert planned.returncode == 0, planned.stderr
    assert set(steps(planned).values()) == {"done", "planned", "skipped"}
    assert 'it\'s a "new" 🐘' not in cluster.databases()

    first = inv("setup", "--json", cwd=shop)

    assert first.returncode == 0, first.stderr
    expected = ["server", "database", "migrations", "triggers", "roles", "seeds", "check"]
    assert list(steps(first)) == expected
    assert [name for name, result in steps(first).items() if result != "done"] == ["roles"]
    check = json.loads(first.stdout)["steps"][-1]
    assert check["details"] == {
        "tables": 5,
        "rows": 6,
        "uncounted": [],
    }  # alembic's own is one of each
    assert "2 of 2 installed" in check["text"]

    again = inv("setup", "--json", cwd=shop)
    assert again.returncode == 0, again.stderr
    assert [name for name, result in steps(again).items() if result == "unchanged"] == [
        "database",
        "migrations",
        "triggers",
        "seeds",
    ]
    larger = inv("setup", "--scale", "large", cwd=shop)
    assert "53 rows in 5 tables" in larger.stderr
    assert larger.stdout.startswith("dev is ready: ")


def test_what_a_project_does_not_have_is_skipped_and_said(inv: Any, project: Path) -> None:
    done = inv("setup", "--json")
    assert done.returncode == 0, done.stderr
    found = {step["step"]: step["text"] for step in json.loads(done.stdout)["steps"]}
    assert [name for name, result in steps(done).items() if result == "skipped"] == [
        "migrations",
        "triggers",
        "roles",
        "seeds",
    ]
    assert found["migrations"] == "no alembic.ini and no migrations/env.py"
    assert found["triggers"] == "no *.sql in sql/functions and sql/triggers"
    assert found["roles"] == "no *.sql in sql/roles"
    assert found["seeds"] == "environment 'dev' names none"
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("pool: {role: shop_app}\n")
    said = "no *.sql in sql/roles, so pool.role 'shop_app' gets no privilege from this"
    assert said in inv("setup").stderr


def test_seeds_that_may_not_go_there_stop_it_before_anything(
    inv: Any, shop: Path, cluster: Cluster
) -> None:
    with (shop / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    done = inv("setup", "--confirm", 'it\'s a "new" 🐘', cwd=shop)
    assert done.returncode == 2
    assert "seed set 'demo' is for unprotected environments alone" in done.stderr
    assert 'it\'s a "new" 🐘' not in cluster.databases()


def test_a_protected_environment_wants_its_name(inv: Any, shop: Path, cluster: Cluster) -> None:
    settings = shop / "env" / "dev.yaml"
    settings.write_text(settings.read_text().replace("core, demo", "core") + "protected: true\n")
    assert inv("setup", cwd=shop).returncode == 2
    assert 'it\'s a "new" 🐘' not in cluster.databases()
    assert inv("setup", "--confirm", 'it\'s a "new" 🐘', cwd=shop).returncode == 0


def test_a_step_that_fails_ends_it_and_what_is_done_stays(
    inv: Any, shop: Path, cluster: Cluster
) -> None:
    (shop / "sql" / "triggers" / "touch.sql").write_text(
        "CREATE TRIGGER x BEFORE INSERT ON nowhere EXECUTE FUNCTION touch()"
    )
    failed = inv("setup", cwd=shop)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: sql/triggers/touch.sql:1: ")
    (shop / "sql" / "triggers" / "touch.sql").write_text(ON_NOTES)
    again = inv("setup", "--json", cwd=shop)
    assert again.returncode == 0, again.stderr
    assert steps(again)["migrations"] == "unchanged"
    assert steps(again)["seeds"] == "done"


def test_triggers_that_are_installed_are_not_touched_while_others_write(
    inv: Any, shop: Path, cluster: Cluster
) -> None:
    assert inv("setup", cwd=shop).returncode == 0
    writer = cluster.connect('it\'s a "new" 🐘')
    writer.autocommit = False
    try:
        writer.cursor().execute("LOCK TABLE notes IN ROW EXCLUSIVE MODE")
        done = inv("setup", cwd=shop)
    finally:
        writer.close()
    assert done.returncode == 0, done.stderr


def clinic(folder: Path, url: str) -> Path:
    """Make a project of this repository's own sample application."""
    root = make_project(folder, url)
    for name in ("clinic", "migrations", "sql"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", root)
    with (root / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core, clinic]\n")
    return root


def test_the_clinic(
    inv: Any, any_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    name = fresh_database(any_cluster)
    any_cluster.drop(name)
    root = clinic(tmp_path / "clinic", any_cluster.target(name).url())

    done = inv("setup", "--json", cwd=root, env={"DATABASE_URL": "postgresql+psycopg2://x@y/z"})

    assert done.returncode == 0, done.stderr
    assert set(steps(done).values()) == {"done"}
    check = json.loads(done.stdout)["steps"][-1]["details"]
    assert 9_000 < check["rows"] < 30_000
    again = inv("setup", "--json", cwd=root)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"][-1]["details"] == check
    assert steps(again)["seeds"] == "unchanged"
    verified = inv("trigger.verify", cwd=root)
    assert verified.returncode == 0, verified.stderr
    assert (
        inv("migrate.new", "-m", "none", cwd=root)
        .stderr.splitlines()[-1]
        .startswith("error: models and database agree")
    )


def test_a_plan_starts_no_server(inv: Any, tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop", "")
    (root / "env" / "dev.yaml").write_text("server: embedded\n")
    try:
        planned = inv("setup", "--dry", "--json", cwd=root)
        assert planned.returncode == 0, planned.stderr
        said = {step["step"]: step["text"] for step in json.loads(planned.stdout)["steps"]}
        assert said["server"] == "would make and start the embedded server"
        assert said["database"].endswith("stamped 'dev', unless it is there")
        assert "done" not in steps(planned).values()
        other = inv("db.create", "--dry", cwd=root)
        assert (other.returncode, "inv server.start" in other.stderr) == (4, True)
        assert embedded.status(root) is None
        assert not (root / ".pgtasks").exists()

        assert inv("setup", cwd=root).returncode == 0
        assert inv("server.stop", cwd=root).returncode == 0
        stopped = inv("setup", "--dry", cwd=root)
        assert stopped.returncode == 0, stopped.stderr
        assert "would start the embedded server, PostgreSQL" in stopped.stderr
        server = embedded.status(root)
        assert server is not None
        assert server.pid is None
    finally:
        embedded.remove(root)
