"""Which tables are copied in the binary format, whose values depend on nothing but themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg2 import sql
from servers import Cluster

from pgtasks.copy.rows import stream, tables
from pgtasks.server import catalog, connection

TYPES = """
CREATE TYPE mood AS ENUM ('glad', 'né''t');
CREATE DOMAIN price AS numeric(9, 2) CHECK (VALUE >= 0);
CREATE DOMAIN low AS price CHECK (VALUE < 100);
CREATE TYPE span AS RANGE (subtype = mood);
CREATE TYPE place AS (x float8, y float8);
"""
BINARY = {
    "mood": "'né''t'",
    "price": "12.5",
    "low": "12.5",
    "span": "'[glad,glad]'",
    "daterange": "'[2024-02-29,)'",
    "tsvector": "to_tsvector('a fat cat')",
    "text[]": "ARRAY['a', NULL]",
}
FORMAT = sql.SQL("COPY public.kept {} (FORMAT binary)")
TEXT = ("mood[]", "place", "regclass", "price[]", "xml", "point")


@pytest.fixture
def database(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    name = fresh_database(cluster)
    cluster.psql(name, TYPES)
    return name


@pytest.mark.parametrize("kind", [*BINARY, *TEXT])
def test_the_format_of_a_type(cluster: Cluster, database: str, kind: str) -> None:
    cluster.execute(f"CREATE TABLE kept (value {kind})", database)
    with connection.session(cluster.target(database), purpose="test") as conn:
        found = tables.plan(conn, catalog.relations(conn), binary=True)
    assert [each.binary for each in found] == [kind in BINARY]


@pytest.mark.parametrize("kind", BINARY)
def test_values_arrive_where_types_have_other_oids(
    cluster: Cluster, database: str, fresh_database: Callable[..., str], kind: str
) -> None:
    other = fresh_database(cluster)
    cluster.psql(other, "CREATE TYPE another AS ENUM ('a');" + TYPES)
    for name in (database, other):
        cluster.execute(f"CREATE TABLE kept (value {kind})", name)
    cluster.execute(f"INSERT INTO kept VALUES ({BINARY[kind]}), (NULL)", database)
    with (
        connection.session(cluster.target(database), purpose="test") as reads,
        connection.session(cluster.target(other), purpose="test") as writes,
    ):
        connection.execute(reads, "BEGIN")
        out, into = (
            f"COPY public.kept {way} (FORMAT binary)" for way in ("TO STDOUT", "FROM STDIN")
        )
        assert stream.copy(reads, writes, sql.SQL(out), sql.SQL(into)) == 2
        values = "SELECT array_agg(value::text) FROM public.kept"
        assert connection.value(writes, values) == connection.value(reads, values)
