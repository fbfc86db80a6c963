"""Which indexes a copy builds as soon as their table is in, and which of them first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from schemas import tool
from servers import Cluster

from pgtasks.copy import indexes
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
