"""A project's own task that calls a task of the tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

OWN = '''"""Own."""
import pgtasks
from pgtasks import run, task
from pgtasks.errors import PgtasksError


@task
def backup(c):
    """Back up with a note."""
    pgtasks.call("db.backup", c, note="before deploy", json=True)


@task
def deploy_all(c):
    """Back up, then do more."""
    with run(c, journaled=True):
        pgtasks.call("db.backup", c)


@task
def fail(c):
    """Call a task that is refused."""
    pgtasks.call("db.drop", c)


@task
def catch(c, name, flag="json"):
    """Call a task and go on without it."""
    try:
        pgtasks.call(name, c, **{flag: True})
    except PgtasksError as exc:
        print(type(exc).__name__, exc.message)
'''


@pytest.fixture
def shop(project: Path) -> Path:
    """Return a project with tasks of its own."""
    (project / "tasks").mkdir(exist_ok=True)
    (project / "tasks" / "own.py").write_text(OWN)
    return project


def test_runs_a_task_with_flags_and_defaults(shop: Path, inv: Any) -> None:
    done = inv("own.backup", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["note"] == "before deploy"
    entry = json.loads((shop / "backups" / "journal.jsonl").read_text())
    assert (entry["task"], entry["result"]) == ("db.backup", "done")


def test_each_run_has_the_name_of_its_task(shop: Path, inv: Any) -> None:
    done = inv("own.deploy-all", cwd=shop)
    assert done.returncode == 0, done.stderr
    journal = (shop / "backups" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in journal] == ["db.backup", "own.deploy-all"]


def test_a_failure_is_that_of_the_called_task(shop: Path, inv: Any) -> None:
    done = inv("own.fail", cwd=shop)
    assert done.returncode == 2
    assert "error: this cannot be undone and there is no terminal" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_can_be_caught(shop: Path, inv: Any) -> None:
    done = inv("own.catch", "db.drop", cwd=shop)
    assert (done.returncode, done.stdout.split()[0]) == (0, "Refused")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("db.bakcup",), "Refused unknown task 'db.bakcup', did you mean 'db.backup'?\n"),
        (("db",), "Refused unknown task 'db'\n"),
        (("server.stop", "--flag", "env"), "Refused task 'server.stop' has no flag 'env', it has"),
    ],
)
def test_what_is_unknown_is_refused(
    shop: Path, inv: Any, words: tuple[str, ...], said: str
) -> None:
    done = inv("own.catch", *words, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)
