"""Each fault at each step of a restore in place; `tests/` has a slice of them."""

from __future__ import annotations

from pathlib import Path

import matrix

_BACKUP = Path(__file__).parent.parent / "tests" / "backup"

globals().update(matrix.trials(_BACKUP / "test_in_place.py"))
