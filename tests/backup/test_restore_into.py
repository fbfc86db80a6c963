"""`db.restore --into`: a new database beside the one of the environment."""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Inv
from halting import Start, halted, kill, unlocked
from projects import stamp_of
from psycopg2 import sql
from restores import fill, rows, sides
from servers import Cluster
from waiting import PATIENCE

from pgtasks.report import boundaries
from pgtasks.server import stamp

BESIDE = 'it\'s "beside" 🙂'


@pytest.fixture
def saved(cluster: Cluster, database: str, project: Path, inv: Inv) -> str:
    """Return the project's database, whose backup has a thousand people; now it has ten."""
    fill(cluster, database)
    assert inv("db.backup").returncode == 0
    cluster.execute(
        'DELETE FROM "odd schema"."it\'s 🐘"; DELETE FROM people WHERE id > 10', database
    )
    return database


@pytest.fixture
def name(cluster: Cluster) -> object:
    yield BESIDE
    cluster.execute(
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(BESIDE))
    )


def test_a_database_beside(
    cluster: Cluster, saved: str, name: str, inv: Inv, project: Path
) -> None:
    dry = inv("db.restore", "--into", name, "--dry")
    assert f"create   {name!r}, beside {saved!r}, which stays as it is" in dry.stdout
    assert name not in cluster.databases()
    done = inv("db.restore", "--into", name)
    assert done.returncode == 0, done.stderr
    assert f"restored {name!r} from dev/{saved}@" in done.stdout
    assert "2 of 2 tables identical" in done.stdout
    assert f"{saved!r} is as it was" in done.stdout
    assert (rows(cluster, saved), rows(cluster, name)) == (10, 1000)
    assert sides(cluster, saved) == []
    assert "environment=dev " in stamp_of(cluster, saved)

    check = inv("db.check", "--json")
    findings = json.loads(check.stdout)["findings"]
    (found,) = (each for each in findings if each["subject"] == "beside")
    assert f"inv db.drop --name {shlex.quote(name)} drops it" in found["text"]

    # it can never be taken for the environment's own
    (project / "env" / "dev.yaml").write_text(f"url: {json.dumps(cluster.url(name))}\n")
    for task in (("db.restore",), ("db.reset",), ("db.drop", "--yes"), ("db.backup",)):
        refused = inv(*task)
        assert refused.returncode == 2, (task, refused.stdout)
        assert "is stamped 'beside dev', the chosen environment is 'dev'" in refused.stderr
        assert "if it is 'dev' now, run inv env.stamp" in refused.stderr
    assert rows(cluster, name) == 1000


def test_it_is_dropped_by_its_name_and_no_other_is(
    cluster: Cluster, saved: str, name: str, inv: Inv, project: Path
) -> None:
    assert inv("db.restore", "--into", name).returncode == 0
    there = cluster.databases()
    for other in (saved, "postgres", "template1", "nosuch", " "):
        refused = inv("db.drop", "--name", other, "--yes")
        words = f"{other!r} is no database that db.restore --into made beside {saved!r}"
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
        assert f"of those there are: {name!r}" in refused.stderr
    asked = inv("db.drop", "--name", name)
    assert asked.returncode == 2
    assert "this cannot be undone and there is no terminal to ask on" in asked.stderr
    dry = inv("db.drop", "--name", name, "--dry")
    assert f"would drop {name!r}, " in dry.stdout
    assert cluster.databases() == there

    settings = (project / "env" / "dev.yaml").read_text()
    (project / "env" / "dev.yaml").write_text(f"{settings}protected: true\n")
    for words in (["--yes"], ["--confirm", name]):
        assert inv("db.drop", "--name", name, *words).returncode == 2
    assert cluster.databases() == there
    done = inv("db.drop", "--name", name, "--confirm", saved)
    assert done.returncode == 0, done.stderr
    assert f"dropped {name!r}, " in done.stdout
    assert {*there} - {*cluster.databases()} == {name}
    assert rows(cluster, saved) == 10


def test_one_of_another_environment_is_not_dropped(
    cluster: Cluster, saved: str, name: str, inv: Inv
) -> None:
    assert inv("db.restore", "--into", name).returncode == 0
    _, own = stamp.split(stamp_of(cluster, name))
    assert own is not None
    for change in ({"environment": "beside prod"}, {"database": "x"}, {"system": "1"}):
        cluster.execute(stamp.comment_statement(name, "", replace(own, **change)))
        refused = inv("db.drop", "--name", name, "--yes")
        assert (refused.returncode, "of those there are: none" in refused.stderr) == (2, True)
    assert name in cluster.databases()


def test_names_that_are_refused(cluster: Cluster, saved: str, inv: Inv) -> None:
    for name, words in (
        (saved, "a database of that name exists, and is left as it is"),
        ("postgres", "a database of that name exists"),
        ("x" * 64, "has 64 bytes, a name has at most 63"),
        ("ü" * 32, "has 64 bytes"),
        ("shop__old_26112909255928", "looks like a database that pgtasks keeps"),
    ):
        done = inv("db.restore", "--into", name)
        assert done.returncode == 2, (name, done.stdout)
        assert words in done.stderr, done.stderr
    both = inv("db.restore", "--into", "a", "--only-table", "people")
    assert "--only-table and --into exclude each other" in both.stderr
    assert (rows(cluster, saved), sides(cluster, saved)) == (10, [])


def test_a_name_that_is_taken_meanwhile(
    cluster: Cluster, saved: str, name: str, start_inv: Start
) -> None:
    process = halted(start_inv, "swap.ready", "db.restore", "--into", name)
    cluster.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "the swap was rolled back, everything is as before" in said
    assert sides(cluster, saved) == []
    assert cluster.value("SELECT count(*) FROM pg_class WHERE relname = 'people'", name) == 0


@pytest.mark.parametrize("step", ["restore.created", "restore.loaded", *boundaries.SWAP])
def test_a_kill_leaves_it_or_not(
    cluster: Cluster, saved: str, name: str, inv: Inv, start_inv: Start, step: str
) -> None:
    process = halted(start_inv, step, "db.restore", "--into", name)
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert sides(cluster, saved) == []
    assert rows(cluster, saved) == 10
    assert (name in cluster.databases()) == (step == "swap.done")
    if step == "swap.done":
        assert rows(cluster, name) == 1000


def test_beside_a_database_that_is_gone(cluster: Cluster, saved: str, name: str, inv: Inv) -> None:
    cluster.drop(saved)
    done = inv("db.restore", "--into", name)
    assert done.returncode == 0, done.stderr
    assert rows(cluster, name) == 1000
    assert saved not in cluster.databases()
    cluster.create(saved)
