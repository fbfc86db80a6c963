"""Runs that halt at a step."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import Cluster
from waiting import PATIENCE

OLD, NEW = 10, 1000


Start = Callable[..., "subprocess.Popen[str]"]
Inv = Callable[..., Any]


def halted(
    start_inv: Start, step: str, *args: str, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start a run that halts at a step, and return it when it is there."""
    process = start_inv(*args, cwd=cwd, env={"PGTASKS_HALT_AT": step})
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(f"halted at {step}"):
            return process
    raise AssertionError(f"never reached {step}: {''.join(seen)}")


def interrupt(process: subprocess.Popen[str], cluster: Cluster) -> None:
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[str], cluster: Cluster) -> None:
    os.kill(process.pid, signal.SIGKILL)


def end_backends(process: subprocess.Popen[str], cluster: Cluster) -> None:
    """End every session of the run on the server, then let the run go on by interrupting it."""
    cluster.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE %s AND pid <> pg_backend_pid()",
        parameters=(f"pgtasks% {process.pid} %",),
    )
    interrupt(process, cluster)


def refused(process: subprocess.Popen[str]) -> str:
    """Let a halted run go on, and return the error with which it refuses."""
    os.kill(process.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, said
    return said


def unlocked(inv: Inv, *args: str) -> Any:
    """Run a task as soon as the server has freed the lock of a run that was killed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = inv(*args)
        if done.returncode != 6 or time.monotonic() > deadline:
            return done
        time.sleep(0.1)
