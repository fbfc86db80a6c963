"""Hold the signals that end a run while something is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held() -> Iterator[None]:
    """Block signals with a Python handler until the end of a block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    came: list[int] = []
    handlers = {sign: signal.getsignal(sign) for sign in ENDING}
    ours = {sign: handler for sign, handler in handlers.items() if callable(handler)}
    for sign in ours:
        signal.signal(sign, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for sign, handler in ours.items():
            signal.signal(sign, handler)
        for number in came:
            signal.raise_signal(number)
