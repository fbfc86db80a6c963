"""What strangers send is read or refused: some made-up input of each kind, see `strangers`."""

from __future__ import annotations

from pathlib import Path

import pytest
import strangers


@pytest.mark.parametrize("name", strangers.TRIALS)
def test_made_up_input(tmp_path: Path, name: str) -> None:
    strangers.run(name, tmp_path, examples=60, number=1)
