"""Each fault at each step of a copy, by each way; `tests/` has a slice of them."""

from __future__ import annotations

from pathlib import Path

import matrix

_COPY = Path(__file__).parent.parent / "tests" / "copy"

globals().update(matrix.trials(_COPY / "test_copy_task.py"))
