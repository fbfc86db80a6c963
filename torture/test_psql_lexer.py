"""Our lexer for SQL files against psql's own, on random text."""

from __future__ import annotations

from pathlib import Path

import lexing
import pytest
from servers import Cluster


@pytest.mark.parametrize("number", range(20))
def test_our_lexer_sees_the_commands_that_psql_sees(
    any_cluster: Cluster, tmp_path: Path, seed: int, number: int
) -> None:
    read, different = lexing.compare(
        any_cluster.bin / "psql", any_cluster, tmp_path, seed=seed + number, count=1000
    )
    assert different == []
    assert read > 500
