"""Locks on files (flock), which the system releases when the process ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgtasks.errors import Locked


def take(path: Path) -> int | None:
    """Lock a file, creating it if missing; return its descriptor, None if it is locked.

    On a file system without locks (some network mounts) it returns a descriptor.
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
    # the last holder may have deleted the file, and a lock on it has no effect
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return True


@contextmanager
def held(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock on a file, raising Locked if it is still locked after some seconds."""
    deadline = time.monotonic() + seconds
    while (descriptor := take(path)) is None:
        if time.monotonic() > deadline:
            raise Locked(f"another run has held {str(path)!r} for {seconds:.0f} s: let it finish")
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(descriptor)
