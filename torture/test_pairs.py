"""Two runs at once, of each pair of tasks that write; `tests/` has a slice."""

from __future__ import annotations

from pathlib import Path

import matrix

_BACKUP = Path(__file__).parent.parent / "tests" / "backup"

globals().update(matrix.trials(_BACKUP / "test_two_runs.py"))
