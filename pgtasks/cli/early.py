"""Handle Ctrl-C before a task begins, or between two, as in a task.

Invoke itself would end with exit code 1 and no message.
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
    """Return the exception that makes Invoke end as after Ctrl-C in a task."""
    return exit_of(Interrupted("interrupted"), json=commandline.wants_json(sys.argv))


def watch() -> None:
    """Make Ctrl-C end the process, while no code of ours can catch KeyboardInterrupt."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def unwatch() -> None:
    """Make Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    raise ended()
