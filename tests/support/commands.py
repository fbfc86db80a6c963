"""Shell scripts as commands, and the files that this process has open."""

from __future__ import annotations

import contextlib
import gc
import signal
from pathlib import Path

from pgtasks.host.base import Command


def sh(script: str, *args: object, stop: signal.Signals = signal.SIGTERM) -> Command:
    return Command(("/bin/sh", "-c", script, "sh", *map(str, args)), stop=stop)


def open_files() -> list[str]:
    gc.collect()  # or it closes those of earlier tests between two looks
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists this folder
            links.append(str(path.readlink()))
    return sorted(links)
