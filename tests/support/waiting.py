"""Wait for a condition, not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds for what takes milliseconds on an idle machine


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
