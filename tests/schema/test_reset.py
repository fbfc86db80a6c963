"""db.reset and db.drop-tables: a new database in the place of the old one, or the old one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from halting import halted, kill, unlocked
from projects import stamp_of
from servers import Cluster
from setups import make_shop

Fresh = Callable[..., str]
Inv = Callable[..., Any]
NAME = 'it\'s a "new" 🐘'
_TABLES = 6  # one of them is the version table of Alembic


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv) -> Path:
    """A project with all parts, set up, and a row that no file makes."""
    root = make_shop(cluster, fresh_database, tmp_path / "shop")
    done = inv("setup", cwd=root)
    assert done.returncode == 0, done.stderr
    cluster.execute("INSERT INTO notes VALUES (77)", NAME)
    return root


def mine(cluster: Cluster) -> int:
    """Return the number of rows that no file makes."""
    return int(cluster.value("SELECT count(*) FROM notes WHERE id = 77", NAME))


def tables(cluster: Cluster) -> int:
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    return int(cluster.value(query, NAME))


def test_the_database_is_built_anew(cluster: Cluster, shop: Path, inv: Inv) -> None:
    stamp = stamp_of(cluster, NAME)
    cluster.execute('ALTER DATABASE "it\'s a ""new"" 🐘" SET work_mem = \'5MB\'', NAME)
    planned = inv("db.reset", "--dry", "--json", cwd=shop)
    assert [each["step"] for each in json.loads(planned.stdout)["files"]] == [
        *("migrations", "triggers", "roles", "seeds")
    ]
    assert mine(cluster) == 1
    done = inv("db.reset", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {each["step"] for each in result["steps"] if each["result"] != "done"} == {"roles"}
    assert (mine(cluster), tables(cluster)) == (0, _TABLES)
    assert cluster.value("SHOW work_mem", NAME) == "5MB"
    assert stamp_of(cluster, NAME) == stamp
    assert inv("db.undo", cwd=shop).returncode == 0
    assert mine(cluster) == 1


def test_without_seeds_and_without_anything(cluster: Cluster, shop: Path, inv: Inv) -> None:
    seeded = "SELECT count(*) FROM pg_stat_user_tables WHERE n_live_tup > 0"
    assert inv("db.reset", "--no-seeds", cwd=shop).returncode == 0
    assert tables(cluster) == _TABLES
    assert cluster.value(seeded, NAME) <= 1  # the version table alone
    done = inv("db.drop-tables", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert tables(cluster) == 0
    assert inv("db.undo", cwd=shop).returncode == 0
    assert tables(cluster) == _TABLES


def test_a_migration_that_fails_leaves_the_old_database(
    cluster: Cluster, shop: Path, inv: Inv
) -> None:
    (shop / "migrations" / "versions" / "one.py").write_text(
        "revision = 'one'\ndown_revision = None\ndef upgrade():\n    raise ValueError('no')\n"
    )
    done = inv("db.reset", cwd=shop)
    assert done.returncode == 1
    assert "revision one failed: " in done.stderr
    assert mine(cluster) == 1
    assert not [each for each in cluster.databases() if each.startswith(f"{NAME}__")]


def test_a_project_without_files_is_refused(project: Path, inv: Inv) -> None:
    done = inv("db.reset")
    assert done.returncode == 2
    assert "no migrations, trigger files and seeds to build it from: inv db.drop" in done.stderr


@pytest.mark.parametrize("step", ["restore.created", "reset.built", "swap.done"])
def test_a_killed_reset_leaves_the_old_database_or_the_new_one(
    cluster: Cluster, shop: Path, inv: Inv, start_inv: Any, step: str
) -> None:
    process = halted(start_inv, step, "db.reset", cwd=shop)
    kill(process, cluster)
    process.wait()
    assert mine(cluster) == (0 if step == "swap.done" else 1)
    again = unlocked(partial(inv, cwd=shop), "db.reset")
    assert again.returncode == 0, again.stderr
    assert ("half built" in again.stderr) == (step != "swap.done")
    assert mine(cluster) == 0
