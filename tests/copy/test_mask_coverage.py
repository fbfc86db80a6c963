"""Which columns, and what beside them, the masks of a source cover in a copy of a part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import Cluster
from test_masks import RULES, Source, every, goal, source

__all__ = ["goal", "source"]  # fixtures

HEIRS = """
CREATE TABLE persons (id int, ssn text);
CREATE TABLE employees (job text) INHERITS (persons);
INSERT INTO persons SELECT i, 'SSN ' || i FROM generate_series(1, 50) i;
INSERT INTO employees SELECT i, 'SSN ' || i, 'x' FROM generate_series(1, 50) i;
"""
HEIRS_OF_TARGET = """
CREATE TABLE persons (id int, ssn text);
CREATE TABLE employees (job text) INHERITS (persons);
"""


@pytest.mark.parametrize("words", [("--exclude-data", "persons"), ("--tables", "employees")])
def test_an_undecided_column_of_an_heir_refuses_a_copy_without_its_table(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], words: tuple[str, str]
) -> None:
    cluster.execute(HEIRS, source.database)
    cluster.execute(HEIRS_OF_TARGET, goal)
    source.decide({**RULES, "public.persons.id": "plain", "public.employees.job": "plain"})
    refused = inv("db.copy", "qa", "dev", *words)
    assert refused.returncode == 2, refused.stderr
    assert "1 column of it is neither masked nor declared plain" in refused.stderr
    assert "public.employees.ssn: " in refused.stderr
    assert every(cluster, goal, "SELECT FROM employees") == []


def test_an_undecided_column_of_a_table_and_its_heirs_is_shown_once(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(HEIRS, source.database)
    source.decide({**RULES, "public.persons.id": "plain", "public.employees.job": "plain"})
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2, refused.stderr
    assert "public.persons.ssn: " in refused.stderr
    assert "public.employees.ssn" not in refused.stderr


MAPPING = """
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away FOREIGN DATA WRAPPER w;
CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (p 'hidden')
"""
VISITS = "CREATE TABLE visits (id int PRIMARY KEY, email varchar(60), note text)"
MAPPINGS = "SELECT count(*) FROM pg_user_mapping"


@pytest.mark.parametrize(
    ("chosen", "number"),
    [
        ({**RULES, "user mappings": "null"}, 0),
        ({"user mappings": "null"}, 0),
        (RULES, 0),
        ({**RULES, "user mappings": "plain"}, 1),
        ({"*.*.*": "plain"}, 1),
    ],
)
def test_the_schema_alone_goes_without_user_mappings(
    cluster: Cluster,
    source: Source,
    goal: str,
    inv: Callable[..., Any],
    chosen: dict[str, str],
    number: int,
) -> None:
    cluster.execute(MAPPING, source.database)
    source.decide(chosen, protected=False)
    words = ("--schema-only", "--lossy", "--as-superuser", "--confirm", goal)
    done = inv("db.copy", "qa", "dev", *words)
    assert done.returncode == 0, done.stderr
    assert cluster.value(MAPPINGS, goal) == number
    note = "without user mappings that have options, which hold passwords"
    assert (note in done.stderr) == (not number)


def test_masks_of_the_source_leave_what_the_target_has_beside_its_tables(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(f"{MAPPING}; {VISITS}; SELECT lo_from_bytea(0, 'my own')", goal)
    cluster.execute("SELECT lo_from_bytea(0, 'Erika')", source.database)
    source.decide({**RULES, "large objects": "null"})
    for words in (("--tables", "visits"), ("--data-only", "--lossy")):
        done = inv("db.copy", "qa", "dev", *words, "--as-superuser", "--confirm", goal)
        assert done.returncode == 0, done.stderr
        assert cluster.value("SELECT count(*) FROM visits", goal) == 400
        assert cluster.value(MAPPINGS, goal) == 1
        ((content,),) = cluster.execute("SELECT lo_get(oid) FROM pg_largeobject_metadata", goal)
        assert bytes(content) == b"my own"


def test_an_heir_of_a_foreign_table_has_rules_of_its_own(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away FOREIGN DATA WRAPPER w;"
        "CREATE FOREIGN TABLE far (id int, ssn text) SERVER away;"
        "CREATE TABLE heir (more text) INHERITS (far)",
        source.database,
    )
    refused = inv("db.copy", "qa", "dev", "--dry", "--as-superuser")
    assert refused.returncode == 2, refused.stderr
    assert "public.heir.ssn: " in refused.stderr
    source.decide({**RULES, "public.heir.*": "plain"})
    done = inv("db.copy", "qa", "dev", "--dry", "--as-superuser")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("rule", "number"), [(None, 0), ("null", 0), ("plain", 1)])
def test_subscriptions_go_with_the_user_mappings(
    cluster: Cluster,
    source: Source,
    goal: str,
    inv: Callable[..., Any],
    rule: str | None,
    number: int,
) -> None:
    subscription = f"hidden{os.getpid()}"
    source.decide(RULES if rule is None else {**RULES, "user mappings": rule})
    with subscribed(cluster, source.database, goal, subscription):
        done = inv("db.copy", "qa", "dev", "--as-superuser", "--confirm", goal)
        assert done.returncode == 0, done.stderr
        assert len(every(cluster, goal, _SUBSCRIPTIONS)) == number
        assert ("without subscriptions, which hold passwords" in done.stderr) == (not number)


_SUBSCRIPTIONS = (
    "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
    " WHERE datname = current_database()"
)


@contextmanager
def subscribed(cluster: Cluster, database: str, copy: str, name: str) -> Iterator[None]:
    """Give a database a subscription, and drop it and its copy afterwards."""
    cluster.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION 'host=nowhere password=hidden' PUBLICATION p"
        " WITH (connect = false)",
        database,
    )
    try:
        yield
    finally:
        for each in (database, copy):
            if every(cluster, each, _SUBSCRIPTIONS):
                for words in ("DISABLE", "SET (slot_name = NONE)"):
                    cluster.execute(f"ALTER SUBSCRIPTION {name} {words}", each)
                cluster.execute(f"DROP SUBSCRIPTION {name}", each)
