"""Wait for a condition, not for a time; do something meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 120.0  # seconds for what takes milliseconds on an idle machine


def until(
    condition: Callable[[], Any],
    otherwise: Callable[[], object] = lambda: "waited in vain",
    seconds: float = PATIENCE,
) -> Any:
    """Wait until a condition holds and return its value; `otherwise` says what is there instead."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (value := condition()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(pause)
        pause = min(2 * pause, 0.1)  # to ask costs others time, a connection or a program
    return value


@contextmanager
def meanwhile(
    work: Callable[[], object], *, pause: float = 0.0, threads: int = 1
) -> Iterator[None]:
    """Call a function over and over in threads for the length of a block; raise its error then."""
    stop, errors = threading.Event(), list[BaseException]()

    def loop() -> None:
        try:
            while not stop.is_set():
                work()
                stop.wait(pause)
        except BaseException as exc:
            errors.append(exc)

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()
    if errors:
        raise errors[0]
