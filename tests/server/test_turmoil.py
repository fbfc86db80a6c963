"""Backups beside changes of the schema that never stop: each shows one moment, or there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import turmoil
from servers import Cluster
from waiting import PATIENCE, until

from backups import said

_WAITS = """
SELECT EXISTS (SELECT FROM pg_locks wanted JOIN pg_locks held USING (pid)
    WHERE wanted.relation = 'second'::regclass AND NOT wanted.granted
    AND held.relation = 'first'::regclass AND held.granted)
"""


def test_backups_show_one_moment(
    any_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    found = turmoil.trials(
        any_cluster, fresh_database, tmp_path, number=4, seed=any_cluster.major, pause=0.3
    )
    assert found.whole
    for words in found.failed:
        assert "altered meanwhile: " in words or "somebody waits to alter a table" in words


def test_a_dump_that_a_deadlock_ends_begins_anew(
    cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    database = fresh_database(cluster)
    for name in ("first", "second"):
        cluster.execute(f"CREATE TABLE {name} (id int); INSERT INTO {name} VALUES (1)", database)
    # pg_dump looks for a deadlock after two seconds, the other session does not
    cluster.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '2s'")
    with closing(cluster.connect(database)) as other, other.cursor() as cursor:
        cursor.execute(f"SET deadlock_timeout = '{PATIENCE}s'; BEGIN; LOCK TABLE second")

        def cross() -> None:
            until(lambda: cluster.value(_WAITS, database))
            cursor.execute("LOCK TABLE first; ROLLBACK")

        crossing = threading.Thread(target=cross)
        crossing.start()
        made, lines = said(cluster.target(database), tmp_path, proof=False)
        crossing.join()
    assert made.manifest.tables == 2
    why = "somebody waits to alter a table (deadlock detected)"
    assert f"{why}: once more with a new snapshot" in lines
