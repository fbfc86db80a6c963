"""An interrupted DROP DATABASE: no task ends without a word on how to go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from conftest import Inv
from projects import make_project, put_side, put_stamp
from restores import fill, newest, rows, sides
from servers import Cluster

WAY = "inv db.drop drops the rest, inv db.restore replaces it"


def invalidate(cluster: Cluster, name: str) -> None:
    """Leave a database as an interrupted DROP does (dropdb in commands/dbcommands.c)."""
    cluster.execute(
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", parameters=(name,)
    )


def test_each_task_says_how_to_go_on_and_drop_does(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    invalidate(cluster, database)
    for words in (("db.backup",), ("db.create",), ("setup",), ("db.shell",)):
        done = inv(*words)
        assert done.returncode == 4, words
        assert WAY in done.stderr.splitlines()[-1], words
    checked = inv("db.check")
    assert checked.returncode == 1
    assert WAY in checked.stderr
    recovered = inv("db.recover")
    assert recovered.returncode == 0
    assert WAY in recovered.stdout
    assert inv("db.undo").returncode == 2  # there is nothing to return to
    dropped = inv("db.drop", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert database not in cluster.databases()


def test_restore_replaces_it_with_its_settings(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    fill(cluster, database)
    assert inv("db.backup").returncode == 0
    cluster.execute(f"ALTER DATABASE \"{database}\" SET work_mem = '7MB'")
    invalidate(cluster, database)
    planned = inv("db.restore", "--dry")
    assert f"drop     what an interrupted DROP DATABASE left of {database!r}" in planned.stdout
    restored = inv("db.restore", "--backup", newest(project))
    assert restored.returncode == 0, restored.stderr
    assert rows(cluster, database) == 1000
    assert cluster.value("SHOW work_mem", database) == "7MB"
    assert sides(cluster, database) == []
    limit = "SELECT datconnlimit FROM pg_database WHERE datname = %s"
    assert cluster.value(limit, parameters=(database,)) == -1


def test_undo_brings_a_kept_one_back_over_it(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    kept = put_side(cluster, database, "old", "26010203040506")
    broken = put_side(cluster, database, "old", "26010203040507")
    invalidate(cluster, database)
    invalidate(cluster, broken)
    assert "inv db.undo brings the newest kept one back" in inv("db.check").stderr
    undone = inv("db.undo", "--json")
    assert undone.returncode == 0, undone.stderr
    assert json.loads(undone.stdout)["restored"] == kept
    assert sides(cluster, database) == []
    assert inv("db.check").returncode == 0


def test_what_is_kept_or_half_built_is_named_and_dropped(
    cluster: Cluster, database: str, project: Path, inv: Inv, tmp_path: Path
) -> None:
    broken = put_side(cluster, database, "old", "26010203040506")
    half = cluster.create(f"{database}__new_26010203040507")
    for name in (broken, half):
        invalidate(cluster, name)
    named = inv("db.check").stdout
    assert f"{broken!r}, invalid by an interrupted DROP DATABASE: inv db.recover" in named
    assert f"{half!r}, invalid by" in named
    assert inv("db.undo").returncode == 2
    forgotten = inv("db.forget", "--yes", "--json")
    assert json.loads(forgotten.stdout)["dropped"] == [broken]
    recovered = inv("db.recover")
    assert f"dropped {half!r}, which an interrupted DROP DATABASE left invalid" in recovered.stdout
    assert sides(cluster, database) == []


def test_one_that_the_server_does_not_mark(
    cluster: Cluster, tmp_path: Path, inv: Inv, fresh_database: Callable[..., str]
) -> None:
    """Before 15.4 and its like an interrupted DROP left a catalog's row and no files."""
    name = fresh_database(cluster)
    put_stamp(cluster.target(name))
    oid = cluster.value("SELECT oid FROM pg_database WHERE datname = %s", parameters=(name,))
    cluster.execute("CHECKPOINT")
    shutil.rmtree(cluster.folder / "data" / "base" / str(oid))
    done = inv("db.check", cwd=make_project(tmp_path / "p", cluster.url(name)))
    assert done.returncode == 4
    assert "DROP DATABASE completes" in done.stderr
