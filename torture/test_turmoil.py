"""Backups beside changes of the schema, two hundred of them, at many rates of change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import turmoil
from servers import Cluster


@pytest.mark.parametrize("pause", [0.05, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("number", [1, 2])
def test_backups_show_one_moment(
    any_cluster: Cluster,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    pause: float,
    seed: int,
    number: int,
) -> None:
    found = turmoil.trials(
        any_cluster, fresh_database, tmp_path, number=9, seed=seed + number, pause=pause
    )
    print(f"{found.whole} whole, {found.again} begun anew, {len(found.failed)} failed")
    for words in found.failed:
        assert "altered meanwhile: " in words or "somebody waits to alter a table" in words
