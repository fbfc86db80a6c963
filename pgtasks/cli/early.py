"""Ctrl-C before a task begins, and between two: the line and the exit code that it has in one.

Invoke itself ends with exit code 1 then, and says nothing.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from pgtasks.cli.edge import exit_of
from pgtasks.errors import Interrupted
from pgtasks.report import commandline


def ended() -> Any:
    """Return what makes Invoke end as after Ctrl-C in a task."""
    return exit_of(Interrupted("interrupted"), json=commandline.wants_json(sys.argv))


def watch() -> None:
    """Let Ctrl-C end the run from here on: nothing of ours is there to catch it."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def unwatch() -> None:
    """Let Ctrl-C be KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    raise ended()
