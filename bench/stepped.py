"""Run `inv` and note when each step boundary is passed: `python -m bench.stepped FD TASK ...`.

A line per boundary goes to the file descriptor: the clock's seconds, the boundary's name. To the
boundaries of `pgtasks.report.boundaries` come the beginnings and ends of a few functions.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# called through their modules, so that they can be replaced there
FUNCTIONS = {
    "verify": ("pgtasks.backup.verify", "verify"),
    "proof": ("pgtasks.server.proof", "take"),
}


def main() -> None:
    """Take the file descriptor from the arguments and give the rest to `inv`."""
    handle = int(sys.argv.pop(1))
    sys.argv[0] = "inv"

    def note(step: str) -> None:
        os.write(handle, f"{time.monotonic()} {step}\n".encode())

    from pgtasks.report import boundaries

    boundaries.boundary = note  # before anybody imports it by name
    for name, (module, function) in FUNCTIONS.items():
        home = importlib.import_module(module)
        setattr(home, function, _noted(getattr(home, function), name, note))

    from invoke.main import program

    sys.exit(program.run())


def _noted(
    function: Callable[..., Any], name: str, note: Callable[[str], None]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        note(f"{name}.begun")
        try:
            return function(*args, **kwargs)
        finally:
            note(f"{name}.done")

    return noted


if __name__ == "__main__":
    main()
