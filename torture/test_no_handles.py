"""Each number of file handles that is too few; `tests/` has some."""

from __future__ import annotations

from pathlib import Path

import matrix

_BACKUP = Path(__file__).parent.parent / "tests" / "backup"

globals().update(matrix.trials(_BACKUP / "test_scarce.py"))
