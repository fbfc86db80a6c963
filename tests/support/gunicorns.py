"""An application under gunicorn, in forked workers with threads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import PATIENCE, until

WORKERS, THREADS = 2, 4


@contextmanager
def served(project: Path, application: str, *options: str) -> Iterator[int]:
    """Serve an application from a project, loaded before the fork, and yield its port."""
    argv = [sys.executable, "-m", "gunicorn", "--preload", "--bind", "127.0.0.1:0"]
    # a client that gets little time, or waits for a task, may leave its connection idle for long
    argv += ["--workers", str(WORKERS), "--threads", str(THREADS), "--keep-alive", "600"]
    argv += [*options, application]
    path = project / "gunicorn.log"
    with path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(argv, cwd=project, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield int(until(lambda: _listening(path))[1])
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _listening(log: Path) -> re.Match[str] | None:
    text = log.read_text("utf-8")
    assert "Traceback" not in text, text
    ready = text.count("Booting worker") == WORKERS
    return re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", text) if ready else None
