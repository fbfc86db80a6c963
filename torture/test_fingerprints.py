"""The fingerprint of a table under many more random edits than `tests/test_fingerprint.py`."""

from __future__ import annotations

import edits
import pytest
from servers import Cluster


@pytest.mark.parametrize("number", range(10))
def test_every_pair_of_edits_is_noticed(
    cluster: Cluster, database: str, seed: int, number: int
) -> None:
    conn = cluster.connect(database)
    tally = edits.trials(conn, 1000, seed=seed + number)
    conn.close()
    assert tally.unseen == []
    assert tally.false == []
