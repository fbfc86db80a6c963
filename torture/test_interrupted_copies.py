"""Each fault at each step of a copy by each way, and at random moments; `tests/` has a slice."""

from __future__ import annotations

from pathlib import Path

import matrix

_COPY = Path(__file__).parent.parent / "tests" / "copy"

_FILES = ("test_copy_task.py", "test_copy_faults.py")

globals().update({name: it for file in _FILES for name, it in matrix.trials(_COPY / file).items()})
