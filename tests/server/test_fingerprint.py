"""The fingerprint of a table: whatever changes its rows changes it, and nothing else does."""

from __future__ import annotations

import edits
from servers import Cluster


def test_every_pair_of_edits_is_noticed(cluster: Cluster, database: str) -> None:
    conn = cluster.connect(database)
    tally = edits.trials(conn, 500, seed=1)
    conn.close()
    assert tally.changed > 300
    assert tally.unseen == []
    assert tally.false == []


def test_the_trials_find_a_rule_that_is_linear(cluster: Cluster, database: str) -> None:
    conn = cluster.connect(database)
    assert edits.trials(conn, 200, seed=1, format=1).unseen
    conn.close()
