"""Threads that one can wait for, also after a wait that a signal ended.

In CPython before 3.13 a signal in Thread.join may mark a running thread as ended. Who believes that
closes files and sessions that the thread still uses, and the process crashes in the driver.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgtasks.host import signals


class Worker(threading.Thread):
    """A daemon thread that says itself when its work is done."""

    def __init__(self, work: Callable[..., object], *args: object, name: str | None = None) -> None:
        super().__init__(target=work, args=args, name=name, daemon=True)
        self._begun = False
        self._done = threading.Event()

    def start(self) -> None:
        """Start the thread; a signal comes before it or after it."""
        with signals.held():
            super().start()
            self._begun = True

    def run(self) -> None:
        """Do the work."""
        try:
            super().run()
        finally:
            self._done.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait at most `seconds`; return whether the work is done, or was never begun."""
        return not self._begun or self._done.wait(seconds)


@contextmanager
def limited(seconds: float, end: Callable[[], object]) -> Iterator[threading.Event]:
    """Call `end` if a block takes too long, in another thread; the event is set before."""
    late = threading.Event()

    def ended() -> None:
        late.set()
        end()

    timer = threading.Timer(seconds, ended)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
