"""What strangers send, made up many more times than in `tests/test_strangers.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import strangers


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("name", strangers.TRIALS)
def test_made_up_input(tmp_path: Path, name: str, seed: int, number: int) -> None:
    strangers.run(name, tmp_path, examples=5000, number=seed + number)
