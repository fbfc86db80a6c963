"""A revision that prepares its transaction: nothing of it is called committed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from shops import Shop, two_revisions

from migrations import revision
from pgtasks.schema.migrate.prepared import Prepared
from pgtasks.settings.target import Target

EARLY = "op.execute('CREATE TABLE early ()')\n"
PREPARE = "op.execute(\"PREPARE TRANSACTION 'it''s later'\")\n"
FAIL = "op.execute('SELECT 1/0')\n"
IS_PREPARED = (
    'what it did before PREPARE TRANSACTION is prepared as "it\'s later": neither committed nor '
    "rolled back, its locks stay"
)


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Iterator[Shop]:
    yield two_revisions(cluster, target, project)
    with closing(cluster.connect(target.database)) as connection, connection.cursor() as cursor:
        for gid in prepared(cluster, target):
            cursor.execute("ROLLBACK PREPARED %s", (gid,))


def prepared(cluster: Cluster, target: Target) -> list[str]:
    query = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"
    return [gid for (gid,) in cluster.execute(query, parameters=(target.database,))]


def test_what_is_prepared_is_named_with_the_ways_on(inv: Any, shop: Shop) -> None:
    shop.up()
    late = "op.execute('CREATE TABLE late ()')\n"
    revision(shop.folder, "three", "two", f"{EARLY}{PREPARE}{late}{FAIL}")
    done = inv("migrate.up")
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert lines[-1].endswith(
        f"division by zero; {IS_PREPARED}; 1 statement of it had been committed and stay, "
        "the database is at two"
    )
    assert [line for line in lines if line.startswith(("stays:", "prepared:"))] == [
        "stays: CREATE TABLE late ()",
        "prepared: CREATE TABLE early ()",
    ]
    ways = [shlex.split(line) for line in lines if line.startswith("inv db.run")]
    assert [way[-2:] for way in ways] == [["it", "back"], ["keeps", "it"]]
    assert shop.tables() == ["alembic_version", "late", "notes", "tags"]

    kept = inv(*ways[1][1:-2])
    assert kept.returncode == 0, kept.stderr
    assert "early" in shop.tables()
    assert prepared(shop.cluster, shop.target) == []


def test_what_is_prepared_can_be_taken_back(inv: Any, shop: Shop) -> None:
    shop.up()
    revision(shop.folder, "three", "two", EARLY + PREPARE + FAIL)
    done = inv("migrate.up", "--json")
    failure = json.loads(done.stdout)
    assert f"division by zero; {IS_PREPARED}; the database is at two" in failure["error"]
    assert failure["exit_code"] == 1
    (back,) = (line for line in failure["hint"].splitlines() if line.endswith(" takes it back"))
    assert inv(*shlex.split(back)[1:-3]).returncode == 0
    assert shop.tables() == ["alembic_version", "notes", "tags"]


def test_a_revision_that_goes_on_is_warned_of(inv: Any, shop: Shop) -> None:
    shop.up()
    revision(shop.folder, "three", "two", EARLY + PREPARE)
    done = inv("migrate.up")
    assert done.returncode == 0, done.stderr
    assert f"warning: {IS_PREPARED}" in done.stderr
    assert prepared(shop.cluster, shop.target) == ["it's later"]


def test_the_version_that_is_prepared_too_is_no_refusal(inv: Any, shop: Shop) -> None:
    shop.up("one")  # two and three share a transaction, so that the version is two in it alone
    revision(shop.folder, "three", "two", EARLY + PREPARE)
    done = inv("migrate.up")
    assert done.returncode == 1
    assert IS_PREPARED in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("the database is at one")


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK"])
def test_what_the_revision_has_ended_itself(inv: Any, shop: Shop, how: str) -> None:
    shop.up()
    end = f"op.execute(\"{how} PREPARED 'it''s later'\")\n"
    revision(shop.folder, "three", "two", f"{EARLY}{PREPARE}{end}{FAIL}")
    said = inv("migrate.up").stderr
    assert "is prepared as" not in said
    assert ("stays: CREATE TABLE early ()" in said) == (how == "COMMIT")


def test_statements_that_prepare_nothing() -> None:
    known, opened, committed = Prepared(), ["a"], list[str]()
    for text in (
        "PREPARE x AS SELECT 1",
        "SELECT 'PREPARE TRANSACTION ''a'''",
        "PREPARE TRANSACTION",
    ):
        assert not known.follow(text, opened, committed)
    assert (known.statements, opened, committed) == ({}, ["a"], [])
    assert known.follow("SELECT 1; PREPARE/**/TRANSACTION 'b'", opened, committed)
    assert (known.statements, opened, committed) == ({"b": ["a"]}, [], [])
    assert not known.follow("COMMIT PREPARED 'b'", opened, committed)
    assert (known.statements, committed) == ({}, ["a"])
