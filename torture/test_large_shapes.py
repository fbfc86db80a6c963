"""Copies of 3,000 tables, and of a gigabyte in few rows; `tests/` has them smaller."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "copy"))

from test_shapes import (  # noqa: F401  found by the path above
    test_few_rows_with_long_values,
    test_very_many_tables,
)
