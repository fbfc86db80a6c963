"""Copies of databases of unusual shape: wide, long, of many tables, and one that subscribes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matrix import whole
from restores import sides
from servers import Cluster
from test_copy import KEEP, copied, pair, same_rows, text
from waiting import until

from pgtasks.database import attached
from pgtasks.server import connection

Fresh = Callable[..., str]
WIDE = 200
BYTES = 1 << 30 if whole else 32 << 20  # of a table of few pages
TABLES = 3000 if whole else 400  # more need a larger max_locks_per_transaction, as in pg_dump


def test_a_table_of_many_columns(cluster: Cluster, fresh_database: Fresh) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    types = ["int", "text", "timestamptz", "jsonb", "numeric(9,3)", "uuid[]", "interval", "bytea"]
    columns = ", ".join(f'"c {i}" {types[i % len(types)]}' for i in range(WIDE))
    cluster.psql(
        source.database,
        f'CREATE TABLE wide ({columns}); ALTER TABLE wide DROP COLUMN "c 7";'
        ' INSERT INTO wide ("c 0", "c 1", "c 2", "c 6", "c 199")'
        " SELECT i, 'x' || i, now(), i * interval '1 h', 'abc' FROM generate_series(1, 500) i;",
    )
    copied(source, target)
    assert text(cluster, target.database) == text(cluster, source.database)
    same_rows(source, target)


def test_few_rows_with_long_values(cluster: Cluster, fresh_database: Fresh) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(
        source.database,
        "CREATE TABLE long (id int PRIMARY KEY, value text STORAGE EXTERNAL);"
        f"INSERT INTO long SELECT i, repeat(md5(i::text), {BYTES // 1024 // 32})"
        " FROM generate_series(1, 1024) i;",
    )
    assert cluster.value("SELECT pg_relation_size('long')", source.database) < BYTES // 100
    before = own_peak()
    copied(source, target)
    same_rows(source, target)
    if whole:  # a row is in memory, once for the reader and once for the writer
        assert own_peak() - before < 150 << 20


def own_peak() -> int:
    """Return the resident memory that this process had at most, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def test_very_many_tables(cluster: Cluster, fresh_database: Fresh) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    for start in range(0, TABLES, 500):
        numbers = range(start, min(start + 500, TABLES))
        cluster.psql(
            source.database,
            "".join(
                f"CREATE TABLE t{i} (id int PRIMARY KEY, n text UNIQUE);"
                f"INSERT INTO t{i} VALUES ({i}, 'x');"
                for i in numbers
            ),
        )
    done = copied(source, target)
    assert done.built.proven.comparison is not None
    assert done.built.proven.comparison.identical_tables == TABLES


@pytest.fixture
def subscribed(
    cluster: Cluster, cluster18: Cluster, fresh_database: Fresh
) -> Iterator[tuple[Any, Any, str]]:
    """Return a source that subscribes to a live publication, a target, and the publisher."""
    publisher = fresh_database(cluster)
    source, target = pair(cluster18, cluster18, fresh_database)
    cluster.execute("CREATE TABLE price (id int PRIMARY KEY)", publisher)
    cluster.execute("CREATE PUBLICATION prices FOR TABLE price", publisher)
    name = f"hq{os.getpid()}"
    cluster18.execute("CREATE TABLE price (id int PRIMARY KEY)", source.database)
    place = f"host={cluster.host} port={cluster.port} dbname={publisher} user=postgres"
    cluster18.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION '{place}' PUBLICATION prices", source.database
    )
    try:
        yield source, target, publisher
    finally:
        with connection.session(target, purpose="test") as conn:
            copies = attached.read(conn, target.database).subscriptions
        for statement in (each for copied in copies for each in attached.statements(copied)):
            cluster18.execute(statement, target.database)
        cluster18.execute(f"DROP SUBSCRIPTION {name}", source.database)


def test_a_source_that_subscribes_goes_on_alone(
    cluster: Cluster, cluster18: Cluster, subscribed: tuple[Any, Any, str]
) -> None:
    source, target, publisher = subscribed
    cluster.execute("INSERT INTO price VALUES (1)", publisher)
    until(lambda: cluster18.value("SELECT count(*) FROM price", source.database) == 1)
    # its rows are there before the slot of its first rows is gone
    states = "SELECT array_agg(srsubstate::text) FROM pg_subscription_rel"
    until(lambda: cluster18.value(states, source.database) == ["r"])
    done = copied(source, target, KEEP)
    slots = "SELECT count(*) FROM pg_replication_slots WHERE database = %s"
    assert cluster.execute(slots, parameters=(publisher,)) == [(1,)]
    assert len(done.disabled) == 1
    cluster.execute("INSERT INTO price VALUES (2)", publisher)
    until(lambda: cluster18.value("SELECT count(*) FROM price", source.database) == 2)
    assert cluster18.value("SELECT count(*) FROM price", target.database) == 1
    assert sides(cluster18, target.database) == [done.swapped.kept]
