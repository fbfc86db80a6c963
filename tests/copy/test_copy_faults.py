"""A copy under faults at random moments: the target is the old or the new one, the source whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matrix
import pytest
from halting import NEW, OLD, Start, unlocked
from restores import logins, rows, sides
from servers import Cluster
from test_copy_task import (  # noqa: F401  fixtures, and what they need
    make_large,
    sessions,
    source,
    target_name,
)
from waiting import PATIENCE, until

Inv = Callable[..., Any]
_TRIALS = 40 if matrix.whole else 1
_LONGEST = 4.0  # seconds of a copy of this size


def kill_run(cluster: Cluster, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def end_of_source(cluster: Cluster, pid: int) -> None:
    _end(cluster, pid, "NOT LIKE '%\\_\\_new\\_%'")


def end_of_target(cluster: Cluster, pid: int) -> None:
    _end(cluster, pid, "LIKE '%\\_\\_new\\_%'")


def _end(cluster: Cluster, pid: int, where: str) -> None:
    """End one session of a run, in the source or in the side database."""
    cluster.execute(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
        " WHERE application_name LIKE %s AND datname <> 'postgres' AND datname "
        + where.replace("%", "%%")
        + " ORDER BY random() LIMIT 1) one",
        parameters=(f"pgtasks% {pid} %",),
    )


@pytest.mark.parametrize("fault", [kill_run, end_of_source, end_of_target])
@pytest.mark.parametrize("number", range(_TRIALS))
def test_an_interrupted_copy_at_a_random_moment(
    cluster: Cluster,
    source: str,  # noqa: F811
    target_name: str,  # noqa: F811
    plain_owner: str,
    project: Path,
    inv: Inv,
    start_inv: Start,
    fault: Callable[[Cluster, int], None],
    number: int,
    request: pytest.FixtureRequest,
) -> None:
    seed = getattr(request.config.option, "seed", None) or 0
    moment = random.Random(f"{seed} {number} {fault.__name__}").uniform(0.3, _LONGEST)
    make_large(cluster, source, plain_owner)
    process = start_inv("db.copy", "qa", "dev", "--rows")
    time.sleep(moment)  # the moment is what the trial is about
    if process.poll() is None:
        fault(cluster, process.pid)
    _, said = process.communicate(timeout=PATIENCE)
    was_old = rows(cluster, target_name) == OLD
    assert rows(cluster, target_name) == (OLD if was_old else NEW), said
    assert process.returncode != 0 or not was_old, said
    assert rows(cluster, source) == NEW
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert len(sides(cluster, target_name)) == (0 if was_old else 1), said
    assert logins(cluster, target_name) == []
    until(lambda: not sessions(cluster, process.pid))
    again = unlocked(inv, "db.copy", "qa", "dev", "--rows")
    assert again.returncode == 0, again.stderr
    assert rows(cluster, target_name) == NEW
    assert rows(cluster, target_name, "large") == 300_000
