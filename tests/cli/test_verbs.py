"""The verbs of a run in a project's own task: guard, lock and name by one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Inv
from consoles import Recorder
from projects import put_stamp
from servers import Cluster

from pgtasks.cli.permit import Permit, Question
from pgtasks.database.create import left_to_drop
from pgtasks.errors import Refused
from pgtasks.server.guard import Access, Decision, Evidence
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached

OWN = '''"""Own."""
from pgtasks import run, task


@task
def close(c, env=None, confirm=None, dry=False):
    """Close the books."""
    with run(c, env=env, dry=dry, journaled=True) as r:
        with r.writing(confirm=confirm) as lock:
            print(lock and lock.purpose)
        print("released")


@task
def count(c, env=None):
    """Count the books."""
    with run(c, env=env) as r, r.reading() as reached, reached.session() as conn:
        print(conn.info.user, r.identity.database)
'''


@pytest.fixture
def books(project: Path) -> Path:
    """Return a project with a task of its own that writes."""
    (project / "tasks").mkdir(exist_ok=True)
    (project / "tasks" / "own.py").write_text(OWN)
    return project


def protect(root: Path, more: str = "") -> None:
    with (root / "env" / "dev.yaml").open("a") as file:
        file.write(f"\nprotected: true\n{more}")


def test_holds_the_lock_in_the_name_of_the_run(books: Path, inv: Inv) -> None:
    done = inv("own.close", cwd=books)
    assert (done.returncode, done.stdout) == (0, "own.close\nreleased\n"), done.stderr
    entry = json.loads((books / "backups" / "journal.jsonl").read_text())
    assert (entry["task"], entry["result"]) == ("own.close", "done")


def test_is_refused_while_another_run_holds_the_lock(
    books: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    with Lock(cluster.target(database), "db.restore"):
        done = inv("own.close", cwd=books)
        planned = inv("own.close", "--dry", cwd=books)
    assert (done.returncode, done.stdout) == (6, "")
    assert "is locked by another run: db.restore, process " in done.stderr
    assert (planned.returncode, planned.stdout) == (0, "None\nreleased\n")


def test_a_protected_target_wants_its_name(books: Path, inv: Inv, database: str) -> None:
    protect(books)
    done = inv("own.close", "--env=dev", cwd=books)
    assert (done.returncode, done.stdout) == (2, "")
    planned = inv("own.close", "--env=dev", "--dry", cwd=books)
    assert (planned.returncode, planned.stdout) == (0, "None\nreleased\n")
    said = [line for line in planned.stderr.splitlines() if "without --dry" in line]
    why = "environment 'dev' is protected, add --confirm"
    assert said == [f"without --dry it would be refused: {why} {database}"]
    sure = inv("own.close", "--env=dev", "--dry", f"--confirm={database}", cwd=books)
    assert "without --dry" not in sure.stderr
    confirmed = inv("own.close", "--env=dev", f"--confirm={database}", cwd=books)
    assert (confirmed.returncode, confirmed.stdout) == (0, "own.close\nreleased\n")


def test_a_database_that_is_not_there_is_named(
    books: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    cluster.drop(database)
    done = inv("own.close", cwd=books)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"database {database!r} does not exist, make it with inv db.create" in done.stderr


def test_reads_as_the_reader_of_a_protected_environment(
    books: Path, inv: Inv, cluster: Cluster, database: str, plain: Callable[..., str]
) -> None:
    owner = cluster.target(database).user
    assert inv("own.count", "--env=dev", cwd=books).stdout == f"{owner} {database}\n"
    reader = plain()
    protect(books, f"reader: {reader}\n")
    done = inv("own.count", "--env=dev", cwd=books)
    assert done.stdout == f"{reader} {database}\n", done.stderr


def test_a_database_that_appears_late_is_not_destroyed(cluster: Cluster, database: str) -> None:
    """A task asks nothing where there is nothing to destroy, so it may destroy nothing either."""
    with (
        closing(Reached(cluster.target(database))) as reached,
        Permit(reached, "db.drop", question=None, dry=False) as permit,
        pytest.raises(Refused, match="created meanwhile"),
    ):
        permit.agreed(left_to_drop(permit.lock))


def test_a_database_that_was_stamped_anew_during_the_question_is_not_replaced(
    cluster: Cluster, database: str
) -> None:
    target = cluster.target(database)
    put_stamp(target)
    with closing(Reached(target)) as reached:
        evidence = Evidence(
            *(Access.WRITE, "dev", database),
            protected=False,
            identity=reached.identify(),
            terminal=False,
        )
        question = Question(Decision.GO, evidence, Recorder())
        with Permit(reached, "db.restore", question, dry=False) as permit:
            assert permit.agreed(left_to_drop(permit.lock))
            put_stamp(replace(target, environment="prod"))
            with pytest.raises(Refused, match="stamped anew"):
                permit.agreed(left_to_drop(permit.lock))
