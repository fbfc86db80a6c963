"""What a run of `inv` imports and makes before its task begins: no more than the task needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from invoke import Collection
from paths import ROOT
from tasktree import TASKS

import pgtasks
from pgtasks.cli import early

INV = Path(sys.executable).parent / "inv"


def test_a_backup_and_its_restore_load_no_feature_of_others(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", INV, "db.backup", "db.restore"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"pgtasks.backup.create", "pgtasks.backup.restore.perform", "psycopg2"} <= loaded
    others = {
        *("sqlalchemy", "alembic", "fabric", "paramiko", "importlib.metadata", "tarfile"),
        *("pgtasks.copy.build", "pgtasks.copy.mask", "pgtasks.backup.restore.script"),
        *("pgtasks.backup.foreign.examine", "pgtasks.backup.foreign.archive"),
        *("pgtasks.backup.restore.tables", "pgtasks.backup.store.transfer"),
    }
    assert loaded & others == set()


@pytest.mark.parametrize(
    ("argv", "made"),
    [
        (["inv", "db.backup"], ["db.backup"]),
        (["inv", "db.backup", "--note", "db.check", "env.status"], None),
        (["inv", "db.chek", "--json"], TASKS),
        (["inv", "--complete", "--", "inv db.back"], TASKS),
        (["gunicorn", "db.backup"], TASKS),  # an application that loads the tree
    ],
)
def test_inv_makes_the_flags_of_the_tasks_that_are_typed(
    argv: list[str], made: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "to_contexts", Collection.to_contexts)  # put back at the end
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(early, "watch", lambda: None)
    module = ModuleType("tasks")
    module.ns = pgtasks.namespace(str(ROOT / "tasks.py"))  # type: ignore[attr-defined]
    contexts = Collection.from_module(module).to_contexts()
    expected = ["db.backup", "db.check", "env.status"] if made is None else list(made)
    assert sorted(each.name for each in contexts) == sorted(expected)
    assert all({"env", "note"} <= {*each.args} for each in contexts if each.name == "db.backup")


def test_inv_asks_for_no_other_flags(project: Path) -> None:
    """The method is the one that Invoke calls, of the class that it makes."""
    argv = [sys.executable, "-c", COUNTS, "env.status"]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 task"), done.stderr


COUNTS = """
import atexit, sys
from invoke.main import program

sys.argv[0] = "inv"
atexit.register(lambda: print(len(program.parser.contexts), "task", file=sys.stderr))
program.run()
"""
