"""Hundreds of random damages of backups on a database host; `tests/` has a slice."""

from __future__ import annotations

from pathlib import Path

import matrix

_BACKUP = Path(__file__).parent.parent / "tests" / "backup"

globals().update(matrix.trials(_BACKUP / "test_remote_damages.py"))
