"""Parts of a database: what --exclude-data leaves out of a copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from projects import put_stamp
from restores import sides
from servers import Cluster
from test_copy import KEEP, copied, pair

from pgtasks.copy import scope_of
from pgtasks.copy.part import names
from pgtasks.errors import Refused

SHOP = """
CREATE SCHEMA "odd schema";
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE "order" (id int PRIMARY KEY, customer int REFERENCES customer, before int
  REFERENCES "order");
CREATE TABLE "odd schema"."it's, 🐘" (id int PRIMARY KEY, "order" int REFERENCES "order");
CREATE TABLE log (at date NOT NULL, text text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM log;
INSERT INTO customer SELECT i, 'name ' || i FROM generate_series(1, 100) i;
INSERT INTO "order" SELECT i, 1 + i % 50, CASE WHEN i % 7 = 0 THEN i - 1 END
  FROM generate_series(1, 500) i;
INSERT INTO "odd schema"."it's, 🐘" SELECT i, i FROM generate_series(1, 300) i;
INSERT INTO log SELECT '2024-01-01'::date + i % 50, 'x' FROM generate_series(1, 200) i;
"""


def number(cluster: Cluster, database: str, table: str) -> Any:
    return cluster.value(f"SELECT count(*) FROM {table}", database)


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> Any:
    """Return a source with the tables of a shop, and a target."""
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(SHOP, source.database)
    return source, target


def test_tables_without_their_rows(cluster: Cluster, shop: Any) -> None:
    source, target = shop
    scope = scope_of(exclude_data=['log,"odd schema"."it\'s, 🐘"'])
    done = copied(source, target, KEEP, scope=scope)
    counts = {
        name: number(cluster, target.database, name)
        for name in ("customer", '"order"', "log", '"odd schema"."it\'s, 🐘"')
    }
    assert list(counts.values()) == [100, 500, 0, 0]
    assert cluster.value("SELECT n FROM counted", target.database) == 0
    assert number(cluster, target.database, "pg_class WHERE relname ~ '^log'") == 3
    lines = "\n".join(done.built.plan.lines())
    assert "without the rows of " in lines
    assert "public.log_2" in lines
    assert done.built.loaded.rows == 600
    assert done.built.proven.comparison.identical_tables == 5


def test_one_partition_without_its_rows(cluster: Cluster, shop: Any) -> None:
    source, target = shop
    copied(source, target, KEEP, scope=scope_of(exclude_data=["log_?"]))
    assert number(cluster, target.database, "log") == 0
    copied(source, target, KEEP, scope=scope_of(exclude_data=["public.log_1"]))
    assert number(cluster, target.database, "log") == number(cluster, source.database, "log_2") > 0


def test_rows_that_refer_to_rows_left_out_are_refused(cluster: Cluster, shop: Any) -> None:
    source, target = shop
    with pytest.raises(Refused, match=r"rows of public\.order refer to rows of public\.customer"):
        copied(source, target, KEEP, scope=scope_of(exclude_data=["customer"]))
    assert number(cluster, target.database, "old") == 1
    assert sides(cluster, target.database) == []
    cluster.execute('UPDATE "order" SET customer = NULL', source.database)
    copied(source, target, KEEP, scope=scope_of(exclude_data=["customer"]))
    assert number(cluster, target.database, "customer") == 0
    assert number(cluster, target.database, '"order"') == 500


def test_tables_that_are_left_out(cluster: Cluster, shop: Any) -> None:
    source, target = shop
    cluster.execute(
        'CREATE VIEW seen AS SELECT c.name, o.id FROM customer c JOIN "order" o'
        " ON o.customer = c.id; CREATE VIEW again AS SELECT * FROM seen;"
        "CREATE TABLE serial (id serial PRIMARY KEY); INSERT INTO serial DEFAULT VALUES",
        source.database,
    )
    done = copied(source, target, KEEP, scope=scope_of(exclude=["customer,serial", "log"]))
    left = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S')"
    left += " AND relnamespace::regnamespace::text !~ '^pg_|^inf' ORDER BY 1"
    assert cluster.execute(left, target.database) == [("it's, 🐘",), ("order",)]
    assert number(cluster, target.database, '"order"') == 500
    lines = "\n".join(done.built.plan.lines())
    assert "part     without public.customer, " in lines
    for name in ("view public.seen", "view public.again", "order.order_customer_fkey"):
        assert name in lines, name
    assert "materialized view public.counted" in lines
    assert "serial_pkey" not in lines
    assert done.built.proven.comparison.identical_tables == 2


def test_a_table_that_depends_on_one_left_out_is_refused(cluster: Cluster, shop: Any) -> None:
    source, target = shop
    cluster.execute("CREATE TABLE heir () INHERITS (customer)", source.database)
    with pytest.raises(Refused, match=r"table public\.heir depends on a table that is left out"):
        copied(source, target, KEEP, scope=scope_of(exclude=["customer"]))
    done = copied(source, target, KEEP, scope=scope_of(exclude=["customer", "heir", "counted"]))
    assert "counted" not in "\n".join(done.built.proven.notes)
    with pytest.raises(Refused, match="--exclude is for copies that keep nothing"):
        scope_of(exclude=["customer"], data_only=True)


def test_a_pattern_that_matches_nothing_names_the_nearest(shop: Any) -> None:
    source, target = shop
    for pattern, words in {
        "custmer": "did you mean 'customer'",
        "public.custmer": "did you mean 'public.customer'",
        "zzzzzzzz": "matches no table of the 6 tables",
        "counted": "matches no table",
    }.items():
        with pytest.raises(Refused, match=words):
            copied(source, target, KEEP, scope=scope_of(exclude_data=[pattern]))


def test_a_list_of_patterns_keeps_commas_within_quotes() -> None:
    assert names.listed(['a, b.c ,"x, y".z', "", "a"]) == ("a", "b.c", '"x, y".z')
    assert names.listed(['"a""b,c",d']) == ('"a""b,c"', "d")


def test_the_task_shows_what_it_leaves_out(
    cluster: Cluster,
    fresh_database: Callable[..., str],
    database: str,
    project: Any,
    inv: Callable[..., Any],
) -> None:
    name = fresh_database(cluster)
    cluster.execute(SHOP, name)
    put_stamp(cluster.target(name, environment="qa"))
    (project / "env" / "qa.yaml").write_text(f"url: '{cluster.url(name)}'\n", encoding="utf-8")
    argv = ("db.copy", "qa", "dev", "--exclude-data", "log", "--as-superuser", "--dry")
    done = inv(*argv)
    assert done.returncode == 0, done.stderr
    assert "part     without the rows of public.log_1, public.log_2 (" in done.stdout + done.stderr
    plan = json.loads(inv(*argv, "--json").stdout)
    assert plan["part"]["excluded_data"] == ["public.log_1", "public.log_2"]
    refused = inv("db.copy", "qa", "dev", "--exclude-data", "lgo", "--dry")
    assert refused.returncode == 2
    assert "error: --exclude-data 'lgo' matches no table, did you mean 'log'?" in refused.stderr
