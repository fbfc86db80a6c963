"""Runs that halt at a step."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from servers import Cluster

OLD, NEW = 10, 1000


Start = Callable[..., "subprocess.Popen[str]"]


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
