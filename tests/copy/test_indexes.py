"""Which indexes a copy builds as soon as their table is in, and which of them first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from psycopg2 import sql
from schemas import tool
from servers import Cluster

from pgtasks.copy.rows import indexes
from pgtasks.copy.rows.indexes import IndexBuild
from pgtasks.host.local import HERE
from pgtasks.server import catalog, connection
from pgtasks.server.dump import pg_dump

TABLES = """
CREATE TABLE log (at timestamptz, id int, what text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE INDEX log_what ON log (what);
CREATE TABLE page (id int PRIMARY KEY, words text, later int UNIQUE DEFERRABLE,
  EXCLUDE USING gist (int4range(id, id + 1) WITH &&));
CREATE INDEX page_words ON page USING gin (to_tsvector('english', words));
CREATE INDEX page_text ON page (words);
CREATE MATERIALIZED VIEW known AS SELECT id FROM page;
CREATE UNIQUE INDEX known_id ON known (id);
INSERT INTO page SELECT i, repeat('word ', 20), i FROM generate_series(1, 2000) i;
"""


def test_builds(cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path) -> None:
    database = fresh_database(cluster)
    cluster.psql(database, TABLES)
    dump = tmp_path / "dump"
    sections = ("--section=pre-data", "--section=post-data")
    dump.write_bytes(tool(cluster, "pg_dump", "-Fc", *sections, f"--dbname={database}"))
    with connection.session(cluster.target(database), purpose="test") as conn:
        tables = [each for each in catalog.relations(conn) if each.kind == "r"]
        sizes = {each.oid: 1_000_000 for each in tables}
        found = indexes.read(conn, sizes)
    builds = indexes.builds(found, pg_dump.contents(HERE, "custom", dump), sizes)
    assert {build.name: build.adopt is not None for build in builds} == {
        "log_1_what_idx": False,
        "log_1_pkey": True,
        "page_pkey": True,
        "page_words": False,
        "page_text": False,
    }
    assert max(builds, key=lambda build: build.cost).name == "page_words"
    btree, gin = (next(b for b in builds if b.name == name) for name in ("page_text", "page_words"))
    assert memory(cluster, database, btree, is_alone=False) == ("8MB", "0")
    assert memory(cluster, database, gin, is_alone=False) == ("64MB", "0")
    assert memory(cluster, database, btree, is_alone=True) == ("64MB", "2")
    cluster.execute(f'ALTER DATABASE "{database}" SET maintenance_work_mem = "1MB"')
    assert memory(cluster, database, btree, is_alone=False) == ("1MB", "0")


def memory(
    cluster: Cluster, database: str, build: IndexBuild, *, is_alone: bool
) -> tuple[str, str]:
    """Return the memory and the additional processes that a build may use."""
    seen = "CREATE TABLE seen AS SELECT current_setting('maintenance_work_mem') a, current_setting("
    replaced = replace(build, create=sql.SQL(f"{seen}'max_parallel_maintenance_workers') b"))
    with connection.session(cluster.target(database), purpose="test") as conn:
        connection.execute(conn, "SET search_path = public")
        connection.execute(conn, replaced.statement(is_alone=is_alone))
        (found,) = connection.rows(conn, "TABLE seen", into=tuple[str, str])
        connection.execute(conn, "DROP TABLE seen")
    return found


def test_a_large_sort_is_merged_once() -> None:
    assert indexes.sort_memory(64 << 30) == 128 << 20
    assert indexes.sort_memory(1000) == 8 << 20
