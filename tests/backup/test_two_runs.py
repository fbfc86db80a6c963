"""Two runs at once, of every pair of tasks that write: one goes on, the other waits or says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import matrix
import operations
import pytest
from facts import PEOPLE
from halting import halted
from lives import Life
from lives_here import life, life_owner, versions  # noqa: F401  fixtures
from waiting import PATIENCE

Start = Callable[..., Any]

# where a run halts that has begun to write, with its lock
HALTS = {
    "restore": "restore.proven",
    "prune": "prune.dropped",
    "backup": "backup.dumped",
    "undo": "undo.checked",
    "only-table": "tables.filled",
    "drill": "drill.restored",
    "keep": "keep.locked",
}


def words(life: Life, name: str) -> tuple[str, ...]:  # noqa: F811
    """Return what is typed for a task."""
    old, new = (life.versions[version][0] for version in ("old", "new"))
    return {
        "restore": ("db.restore", "--backup", new),
        "prune": ("backup.prune", "--yes"),
        "backup": ("db.backup",),
        "undo": ("db.undo",),
        "only-table": ("db.restore", "--backup", new, "--only-table", "people", "--yes"),
        "drill": ("backup.drill", "--backup", old),
        "keep": ("backup.keep", life.ids()[-1], "--why", "for the test"),
        "recover": ("db.recover",),
        "forget": ("db.forget", "--yes"),
        "verify": ("backup.verify",),
    }[name]


@pytest.mark.parametrize("first", matrix.some(list(HALTS), 1))
def test_an_interrupted_run_beside_each_other_one(
    life: Life,  # noqa: F811
    start_inv: Start,
    first: str,
    count: Callable[..., None],
) -> None:
    before = life.facts()
    for version in ("new", "old"):  # so that there is something to undo
        done = life.run("db.restore", "--backup", life.versions[version][0])
        assert done.returncode == 0, done.stderr
    operations.OPERATIONS["prune"].begin(life, before)
    process = halted(start_inv, HALTS[first], *words(life, first), cwd=life.project)
    said = [f"beside {first}"]
    for second in (*HALTS, "recover", "forget", "verify"):
        done = life.inv(*words(life, second), cwd=life.project)
        said.append(f"{second}: {done.returncode} {done.stderr[-300:]}")
        assert done.returncode in (0, 6), said
        assert "Traceback" not in done.stderr, said
        life.list_is_true(str(said))
    os.kill(process.pid, signal.SIGUSR1)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (said, told)
    old, new = (known for _, known in life.versions.values())
    table = {**old, **{key: new[key] for key in PEOPLE}}
    backwards = {**new, **{key: old[key] for key in PEOPLE}}
    now = life.facts()
    assert now in (old, new, table, backwards), said
    life.heals(now, str(said))
    count(pairs=len(said) - 1)
