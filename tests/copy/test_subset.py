"""Subsets: the rows of --where and --sample, with all rows that foreign keys need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import Cluster
from test_copy import KEEP, copied, pair

from pgtasks.copy import scope_of
from pgtasks.errors import Refused
from pgtasks.settings.target import Target

SHOP = """
CREATE TABLE country (code text PRIMARY KEY);
CREATE TABLE customer (id int PRIMARY KEY, country text NOT NULL REFERENCES country, since date,
  friend int REFERENCES customer);
CREATE TABLE product (id int PRIMARY KEY, country text REFERENCES country);
CREATE TABLE "order" (customer int REFERENCES customer, year int, number int,
  PRIMARY KEY (year, number));
CREATE TABLE line (id int PRIMARY KEY, year int, number int, product int REFERENCES product,
  FOREIGN KEY (year, number) REFERENCES "order");
CREATE TABLE note (customer int REFERENCES customer, text text);
INSERT INTO country SELECT 'c' || i FROM generate_series(0, 19) i;
INSERT INTO customer SELECT i, 'c' || i % 10, '2024-01-01'::date + i,
  CASE WHEN i > 50 THEN i - 50 END FROM generate_series(1, 200) i;
INSERT INTO product SELECT i, 'c' || 10 + i % 10 FROM generate_series(1, 30) i;
INSERT INTO "order" SELECT i % 201, 2000 + i % 5, i FROM generate_series(1, 2000) i
  WHERE i % 201 > 0;
INSERT INTO line SELECT row_number() OVER (), year, number, 1 + (number + i) % 30
  FROM "order", generate_series(1, 3) i;
INSERT INTO line VALUES (-1, NULL, 7, NULL);
INSERT INTO note SELECT i % 200 + 1, '%s ''; "' FROM generate_series(1, 100) i;
"""


def counts(cluster: Cluster, database: str) -> dict[str, int]:
    """Return the number of rows of each table."""
    tables = cluster.execute(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r'"
        " AND c.relnamespace::regnamespace::text !~ '^pg_|^information' ORDER BY 1",
        database,
    )
    return {
        name: cluster.value(f"SELECT count(*) FROM ONLY {name}", database) for (name,) in tables
    }


def hold(cluster: Cluster, database: str) -> None:
    """Check that all foreign keys hold, by making each anew."""
    keys = cluster.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND conparentid = 0",
        database,
    )
    for table, name, definition in keys:
        cluster.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"', database)
        cluster.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}', database)


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> tuple[Target, Target]:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(SHOP, source.database)
    return source, target


def taken(cluster: Cluster, shop: tuple[Target, Target], **flags: Any) -> dict[str, int]:
    """Copy a subset and return the number of rows of each table."""
    source, target = shop
    done = copied(source, target, KEEP, scope=scope_of(**flags))
    hold(cluster, target.database)
    rows, totals = counts(cluster, target.database), counts(cluster, source.database)
    for each in done.built.loaded.shares:
        name = each.total.table.removeprefix("public.")
        name = '"order"' if name == "order" else name
        assert (each.rows, each.total.rows) == (rows.pop(name), totals.pop(name)), name
    assert rows == totals  # all others are whole
    return counts(cluster, target.database)


def test_rows_with_all_that_they_refer_to(cluster: Cluster, shop: tuple[Target, Target]) -> None:
    got = taken(cluster, shop, where=["customer=id in (120, 121)"])
    # friends of friends come along, and everything that refers to no customer is whole
    assert got["customer"] == 6
    assert got["country"] == 20
    assert got["product"] == 30
    assert (got['"order"'], got["line"], got["note"]) == (0, 0, 0)
    ids = cluster.execute("SELECT id FROM customer ORDER BY 1", shop[1].database)
    assert [id for (id,) in ids] == [20, 21, 70, 71, 120, 121]


def test_rows_that_follow(cluster: Cluster, shop: tuple[Target, Target]) -> None:
    got = taken(cluster, shop, where=["customer=id in (120, 121)"], follow=["order,line"])
    database = shop[0].database
    six = "(20, 21, 70, 71, 120, 121)"
    orders = cluster.value(f'SELECT count(*) FROM "order" WHERE customer IN {six}', database)
    assert got['"order"'] == orders > 50
    assert got["line"] == 3 * orders
    assert got["note"] == 0


def test_a_condition_at_the_bottom_needs_what_is_above(
    cluster: Cluster, shop: tuple[Target, Target]
) -> None:
    got = taken(cluster, shop, where=["line=id between 1 and 5 or id = -1", "product=false"])
    assert got["line"] == 6
    assert 1 <= got["product"] <= 15
    assert got["customer"] == 200  # no --where restricts it
    got = taken(cluster, shop, where=["line=id < 6", "customer=false", "country=false"])
    assert 0 < got["customer"] < 20
    assert 0 < got["country"] < 20


def test_a_sample_is_the_same_each_time(cluster: Cluster, shop: tuple[Target, Target]) -> None:
    first = taken(cluster, shop, sample="10%")
    assert 300 < first["line"] < 900
    assert first == taken(cluster, shop, sample="10")
    whole = taken(cluster, shop, sample="10", where=["country=true"], follow=["line:order"])
    assert whole["country"] == 20
    assert whole["line"] == 3 * whole['"order"']
    assert whole["note"] > 0


CYCLES = """
CREATE TABLE a (id int PRIMARY KEY, b int, back int REFERENCES a);
CREATE TABLE b (id int PRIMARY KEY, c int);
CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a);
CREATE TABLE leaf (c int REFERENCES c);
CREATE TABLE beside (id int PRIMARY KEY, a int REFERENCES a);
INSERT INTO a SELECT i, i + 1, NULLIF(i - 1, 0) FROM generate_series(1, 1000) i;
INSERT INTO b SELECT i, i + 1 FROM generate_series(1, 1001) i;
INSERT INTO c SELECT i, CASE WHEN i < 900 THEN i + 1 END FROM generate_series(1, 1002) i;
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
ALTER TABLE b ADD FOREIGN KEY (c) REFERENCES c;
INSERT INTO leaf VALUES (890), (NULL);
INSERT INTO beside SELECT i, i FROM generate_series(1, 1000) i;
"""


def test_cycles(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    both = pair(cluster, cluster, fresh_database)
    cluster.execute(CYCLES, both[0].database)
    got = taken(cluster, both, where=["leaf=true", "a=false", "b=false", "c=false"])
    assert got["leaf"] == 2
    assert got["a"] > 890
    assert got["beside"] == 0
    got = taken(cluster, both, where=["a=id = 3", "b=false", "c=false"], follow=["beside"])
    assert got["a"] == got["beside"] > 3
    # a key without an index is followed, too
    got = taken(cluster, both, where=["c=id = 902", "a=false", "b=false"], follow=["a,b,c"])
    assert got["c"] > 100


PARTS = """
CREATE TABLE root (id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE root_a PARTITION OF root FOR VALUES IN ('a');
CREATE TABLE root_b (kind text NOT NULL, id int NOT NULL);
ALTER TABLE root ATTACH PARTITION root_b FOR VALUES IN ('b');
CREATE TABLE event (at int NOT NULL, root int, kind text, FOREIGN KEY (root, kind) REFERENCES root)
  PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100);
CREATE TABLE event_2 (kind text, root int, at int NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE event ATTACH PARTITION event_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE event_2a PARTITION OF event_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE only_one (id int PRIMARY KEY);
ALTER TABLE event_1 ADD FOREIGN KEY (at) REFERENCES only_one;
CREATE TABLE base (id int PRIMARY KEY);
CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (base);
CREATE TABLE of_base (base int REFERENCES base);
INSERT INTO base SELECT i FROM generate_series(1, 50) i;
INSERT INTO heir SELECT i FROM generate_series(40, 90) i;
INSERT INTO of_base SELECT i FROM generate_series(1, 50) i;
INSERT INTO only_one SELECT i FROM generate_series(0, 199) i;
INSERT INTO root SELECT i, k FROM generate_series(1, 300) i, unnest('{a,b}'::text[]) k;
INSERT INTO event SELECT i % 200, i, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'b' END
  FROM generate_series(1, 300) i;
"""


def test_partitions_and_inheritance(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    both = pair(cluster, cluster, fresh_database)
    cluster.execute(PARTS, both[0].database)
    where = ["event=event.at % 50 = 7", "root=false", "only_one=false", "of_base=base < 5"]
    got = taken(cluster, both, where=[*where, "base=false"])
    assert got["event_1"] + got["event_2a"] == 6
    assert got["root_a"] + got["root_b"] == 6
    assert got["root_a"] == 2
    assert got["only_one"] == 2
    assert (got["base"], got["heir"], got["of_base"]) == (4, 51, 4)
    got = taken(cluster, both, sample="20", follow=["event:root"])
    assert 0 < got["event_1"] < 200


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"where": ["customer"]}, "expected TABLE=CONDITION"),
        ({"where": ["custmer=true"]}, "did you mean 'customer'"),
        ({"where": ["customer=id = 1; DROP TABLE note"]}, "more than one|syntax error"),
        ({"where": ["customer=nothing = 1"]}, 'on public.customer: column "nothing" does not'),
        ({"where": ["customer=id"]}, "on public.customer: argument of WHERE must be type boolean"),
        ({"where": ["customer=true", "customer=false"]}, "twice"),
        ({"where": ["customer=random() < 0.5"]}, "--sample"),
        ({"where": ["customer=true"], "follow": ["country"]}, "refer to none"),
        ({"where": ["customer=true"], "follow": ["note:country"]}, "no foreign key"),
        ({"follow": ["note"]}, "add --where or --sample"),
        ({"sample": "0"}, "between 0 and 100"),
        ({"sample": "x"}, "between 0 and 100"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    cluster: Cluster, shop: tuple[Target, Target], flags: Any, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        taken(cluster, shop, **flags)
    assert cluster.value("SELECT count(*) FROM old", shop[1].database) == 1


def test_the_present_is_the_same_for_all(cluster: Cluster, shop: tuple[Target, Target]) -> None:
    cluster.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());"
        # the first of them are too old soon, the last of them not for 15 minutes
        "INSERT INTO t SELECT i, clock_timestamp() - '1 h'::interval + i * i * '0.1 ms'::interval"
        " FROM generate_series(1, 3000) i",
        shop[0].database,
    )
    got = taken(cluster, shop, where=["t=at > now() - interval '1 h' /* ; */ and 'now()' <> ''"])
    assert 0 < got["t"] < 3000


COLLATED = """
CREATE TABLE par (code text COLLATE "C" PRIMARY KEY, n int);
CREATE TABLE chi (id int PRIMARY KEY, code text COLLATE "POSIX" REFERENCES par, up int,
  other text COLLATE "POSIX");
ALTER TABLE chi ADD UNIQUE (code, id), ADD FOREIGN KEY (other, up) REFERENCES chi (code, id);
CREATE TABLE par2 (code text COLLATE "C" PRIMARY KEY, chi text COLLATE "POSIX" REFERENCES par);
INSERT INTO par SELECT 'x' || i, i FROM generate_series(1, 50) i;
INSERT INTO chi SELECT i, 'x' || i % 50 + 1 FROM generate_series(1, 200) i;
UPDATE chi SET up = 1, other = 'x2' WHERE id > 100;
INSERT INTO par2 SELECT 'x' || i, 'x' || i FROM generate_series(1, 50) i;
"""


@pytest.mark.parametrize(
    "flags",
    [
        {"sample": "20"},
        {"where": ["par=n < 10"], "follow": ["chi:par"]},
        {"where": ["par=n < 10", "chi=id = 30"], "follow": ["chi:par", "par2"]},
        {"where": ["chi=id < 10"]},
    ],
)
def test_keys_between_collations(
    cluster: Cluster, fresh_database: Callable[..., str], flags: dict[str, Any]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(COLLATED, source.database)
    got = taken(cluster, (source, target), **flags)
    assert 0 < got["chi"] < 200
    assert 0 < got["par"] <= 50


def test_rows_left_out_by_a_key_between_collations(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(COLLATED, source.database)
    with pytest.raises(Refused) as refused:
        copied(source, target, KEEP, scope=scope_of(exclude_data=["par"]))
    assert "rows of public.chi refer to rows of public.par" in (refused.value.hint or "")
