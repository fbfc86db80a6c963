"""Copies that begin with the server's copy of the target: only what differs is copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from consoles import Recorder
from restores import sides
from schemas import EVERYTHING
from servers import Cluster
from test_copy import KEEP, known, pair, same_rows, text

from pgtasks.copy import Copied, CopyOptions, copy
from pgtasks.database import replaced
from pgtasks.errors import Refused
from pgtasks.host.local import HERE
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Origin, Reached
from pgtasks.settings.target import Target

DELTA = replace(KEEP, rows=False, delta=True)
Fresh = Callable[..., str]
TABLES = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, up int REFERENCES customer);
CREATE TABLE bill (id int PRIMARY KEY, customer int NOT NULL REFERENCES customer ON DELETE CASCADE,
  total numeric(8,2), twice numeric GENERATED ALWAYS AS (total * 2) STORED, CHECK (total >= 0));
CREATE INDEX bill_total ON bill (total);
CREATE UNIQUE INDEX bill_once ON bill (customer, id);
COMMENT ON CONSTRAINT bill_customer_fkey ON bill IS 'of whom';
COMMENT ON INDEX bill_once IS 'once';
CREATE TABLE log (at timestamptz, what text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX ON log (at);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a trigger was fired'; END $$;
INSERT INTO customer SELECT i, 'customer ' || i, nullif(i - 1, 0) FROM generate_series(1, 5000) i;
INSERT INTO bill SELECT i, 1 + i % 5000, i FROM generate_series(1, 20000) i;
INSERT INTO log SELECT '2024-12-30'::timestamptz + i * interval '1 h', i
  FROM generate_series(1, 90) i;
CREATE TRIGGER never BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER always AFTER INSERT ON bill FOR EACH STATEMENT EXECUTE FUNCTION refuse();
ALTER TABLE bill ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER off AFTER INSERT ON bill FOR EACH STATEMENT EXECUTE FUNCTION refuse();
ALTER TABLE bill DISABLE TRIGGER off;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM bill GROUP BY 1;
CREATE UNIQUE INDEX ON totals (customer);
CREATE SEQUENCE number; SELECT nextval('number');
"""
CHANGES = """
UPDATE customer SET name = 'nobody' WHERE id = 7;
DELETE FROM log WHERE at > '2025-01-01';
SELECT nextval('number');
"""


def copied(source: Target, target: Target, options: CopyOptions) -> tuple[Copied, list[str]]:
    """Copy without a question; return the result, and what was said meanwhile."""
    console = Recorder()
    with Lock(target, "db.copy") as lock:
        done = copy(
            *(Origin(Reached(source), known(source)), lock, HERE, options),
            console=console,
            agreed=lambda plan: True,
        )
    assert isinstance(done, Copied)
    return done, console.lines


@pytest.fixture
def twins(cluster: Cluster, fresh_database: Fresh) -> tuple[Target, Target]:
    """Return a source, and a target that is a copy of it."""
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(source.database, TABLES)
    copied(source, target, KEEP)
    return source, target


def test_only_tables_that_differ_are_copied(cluster: Cluster, twins: tuple[Target, Target]) -> None:
    source, target = twins
    before = text(cluster, target.database)
    cluster.psql(source.database, CHANGES)
    done, lines = copied(source, target, DELTA)
    assert done.built.plan.way == "delta"
    assert done.built.loaded.tables == 2
    assert any(line.startswith("2 of 4 tables differ, ") for line in lines), lines
    assert text(cluster, target.database) == before
    same_rows(source, target)
    assert cluster.value("SELECT nextval('number')", target.database) == 3
    assert len(sides(cluster, target.database)) == 2
    valid = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated"
    assert cluster.value(valid, target.database) == 0


ABOVE = """
CREATE TABLE above (i int);
CREATE TABLE below () INHERITS (above);
INSERT INTO below VALUES (1), (1);
CREATE MATERIALIZED VIEW logged AS SELECT what FROM log;
"""
COUNTED = """
SELECT relname, reltuples::int FROM pg_class
WHERE relname IN ('customer', 'log', 'log_1', 'log_2', 'above', 'below', 'logged') ORDER BY 1
"""


@pytest.mark.parametrize(
    ("version", "analyze"), [("cluster", True), ("cluster", False), ("cluster18", True)]
)
def test_statistics_are_those_of_the_rows(
    request: pytest.FixtureRequest, fresh_database: Fresh, version: str, analyze: bool
) -> None:
    cluster: Cluster = request.getfixturevalue(version)
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(source.database, f"{TABLES}{ABOVE}")
    copied(source, target, KEEP)
    before = dict(cluster.execute(COUNTED, target.database))
    change = "INSERT INTO below VALUES (2); DELETE FROM log WHERE at > '2025-01-01'"
    cluster.psql(source.database, change)
    done, lines = copied(source, target, replace(DELTA, analyze=analyze))
    assert done.built.plan.way == "delta", lines
    counted = dict(cluster.execute(COUNTED, target.database))
    tables = [name for name in counted if name != "above"]
    rows = {name: cluster.value(f"SELECT count(*) FROM {name}", target.database) for name in tables}
    inherited = "SELECT n_distinct FROM pg_stats WHERE tablename = 'above' AND inherited"
    distinct = cluster.value(inherited, target.database)
    if analyze:
        assert {name: counted[name] for name in tables} == rows
        assert distinct == pytest.approx(-2 / 3)
    else:
        assert (counted["log"], distinct) == (before["log"], pytest.approx(-1 / 2))


def test_nothing_differs(cluster: Cluster, twins: tuple[Target, Target]) -> None:
    source, target = twins
    done, _ = copied(source, target, DELTA)
    assert (done.built.plan.way, done.built.loaded.tables) == ("delta", 0)
    same_rows(source, target)


def test_every_kind_of_object_stays(cluster: Cluster, fresh_database: Fresh) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(source.database, EVERYTHING)
    copied(source, target, KEEP)
    before = text(cluster, target.database)
    done, lines = copied(source, target, DELTA)
    assert done.built.plan.way == "delta", lines
    assert text(cluster, target.database) == before
    same_rows(source, target)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE bill ADD more int", "the schemas differ ("),
        ("UPDATE bill SET total = 1; UPDATE customer SET name = 'x'", "2 of 4 tables differ"),
        ("SELECT lo_from_bytea(0, 'x')", "the large objects differ"),
        ("ALTER TABLE customer FORCE ROW LEVEL SECURITY", "the schemas differ ("),
    ],
)
def test_what_differs_too_much_is_copied_whole(
    cluster: Cluster, twins: tuple[Target, Target], change: str, words: str
) -> None:
    source, target = twins
    cluster.psql(source.database, change)
    done, lines = copied(source, target, DELTA)
    assert done.built.plan.way == "rows"
    assert any(line.startswith(words) and line.endswith("all rows are copied") for line in lines), (
        lines
    )
    same_rows(source, target)
    assert text(cluster, target.database) == text(cluster, source.database)


UNCHECKED = {
    "of a table": "ALTER TABLE log ADD CONSTRAINT known CHECK (what < '4') NOT VALID;",
    "of a domain": "ALTER DOMAIN word ADD CONSTRAINT known CHECK (VALUE < '4') NOT VALID;",
}


@pytest.mark.parametrize("constraint", UNCHECKED.values(), ids=list(UNCHECKED))
def test_rows_that_break_a_constraint_that_is_not_valid_are_copied(
    cluster: Cluster, fresh_database: Fresh, constraint: str
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    domain = "CREATE DOMAIN word AS text; ALTER TABLE log ALTER what TYPE word;"
    cluster.psql(source.database, f"{TABLES} {domain} {constraint}")
    copied(source, target, KEEP)
    cluster.psql(target.database, "DELETE FROM log WHERE what < '9'")
    done, lines = copied(source, target, DELTA)
    assert done.built.plan.way == "rows"
    assert any("rows may break constraint 'known', which is not valid" in line for line in lines)
    same_rows(source, target)
    assert text(cluster, target.database) == text(cluster, source.database)


def test_a_target_with_sessions_is_left_alone(
    cluster: Cluster, twins: tuple[Target, Target]
) -> None:
    source, target = twins
    session = cluster.connect(target.database)
    try:
        with pytest.raises(Refused, match="begin with the target: the target has 1 session of"):
            copied(source, target, DELTA)
        assert session.closed == 0
    finally:
        session.close()


def test_a_session_that_is_just_ending_is_waited_for(
    cluster: Cluster, twins: tuple[Target, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = twins
    cluster.settle(target.database)
    session, look = cluster.connect(target.database), replaced.look
    numbers: list[int] = []

    def looked(*given: Any) -> Any:
        found = look(*given)
        numbers.append(found.number if found else 0)
        session.close()
        return found

    monkeypatch.setattr(replaced, "look", looked)
    done, _ = copied(source, target, DELTA)
    assert done.built.plan.way == "delta"
    assert (numbers[0], numbers[-1]) == (1, 0)


def test_one_way_alone(cluster: Cluster, twins: tuple[Target, Target]) -> None:
    source, target = twins
    with pytest.raises(Refused, match="are three ways: take one"):
        copied(source, target, replace(DELTA, template=True))
