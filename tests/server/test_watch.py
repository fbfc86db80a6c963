"""What a dump shows while it waits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import psycopg2
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.report import Progress, account
from pgtasks.server import connection
from pgtasks.server.dump.pg_dump import DumpLog
from pgtasks.server.dump.watch import Watch
from pgtasks.server.proof.reader import SNAPSHOT
from pgtasks.server.proof.scope import content


class Notes(Progress):
    """The notes of a progress that is always due."""

    due = True  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("test", quiet=True)
        self.notes: set[str] = set()

    def update(self, done: int, note: str = "") -> None:
        self.notes.add(note)


def test_whose_lock_a_dump_waits_for(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    database = fresh_database(cluster)
    cluster.execute("CREATE TABLE held (i int)", database)
    target = cluster.target(database)
    url = f"host={cluster.host} port={cluster.port} user={cluster.superuser} dbname={database}"
    with (
        connection.session(target, read_only=True) as exporter,
        connection.session(target, read_only=True) as now,
    ):
        connection.execute(exporter, SNAPSHOT)
        progress = Notes()
        watch = Watch(exporter, now, content(exporter), DumpLog(), progress)
        holder = psycopg2.connect(url, application_name="a 'report'")
        holder.cursor().execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        dump = subprocess.Popen(
            [cluster.bin / "pg_dump", "--file=/dev/null", "--dbname", url],
            env={**os.environ, "PGAPPNAME": account.application_name("tools")},
        )
        words = f"waiting for a lock of {cluster.superuser!r} (process {holder.info.backend_pid}, "
        words += "\"a 'report'\")"

        def is_shown() -> bool:
            watch.look(None)
            return words in progress.notes

        try:
            until(is_shown)
        finally:
            holder.close()
            assert dump.wait(PATIENCE) == 0
