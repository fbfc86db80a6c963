"""Backups beside changes of the schema that never stop: each shows one moment, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import turmoil
from servers import Cluster


def test_backups_show_one_moment(
    any_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    found = turmoil.trials(
        any_cluster, fresh_database, tmp_path, number=4, seed=any_cluster.major, pause=0.3
    )
    assert found.whole
    for words in found.failed:
        assert "altered meanwhile: " in words or "somebody waits to alter a table" in words
