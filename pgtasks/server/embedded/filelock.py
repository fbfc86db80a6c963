"""Locks on files (flock): they end with their last holder, however that one ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgtasks.errors import Locked


def take(path: Path) -> int | None:
    """Lock a file, made if missing, and return its descriptor, or None where another holds it.

    Where the file system has no locks at all (some network mounts), the answer is a descriptor.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass
    if _is_gone(descriptor, path):
        os.close(descriptor)
        return None
    return descriptor


def _is_gone(descriptor: int, path: Path) -> bool:
    # whoever held it before may have deleted the file: a lock on that one binds nobody
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return True


@contextmanager
def held(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock on a file; raise Locked when another run still has it after so many seconds."""
    deadline = time.monotonic() + seconds
    while (descriptor := take(path)) is None:
        if time.monotonic() > deadline:
            raise Locked(f"another run has held {str(path)!r} for {seconds:.0f} s: let it finish")
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(descriptor)
