"""Vacuum, analyze and reindex: what they gain, whom they wait for, what they leave behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.errors import Failed, Refused, Unreachable
from pgtasks.health import maintain
from pgtasks.health.maintain import ANALYZE, REINDEX, VACUUM, Maintained, TableDone
from pgtasks.host.worker import Worker
from pgtasks.report import Console

SHOP = """
CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION used(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN twice($1); END';
CREATE TABLE item (id int PRIMARY KEY, text text);
CREATE INDEX "by use 🙂" ON item (used(id));
CREATE TABLE "Odd ""t"" 🙂" (id int PRIMARY KEY);
CREATE TABLE log (at int) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (100);
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (100) TO (200);
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM item;
INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i;
INSERT INTO log SELECT i FROM generate_series(0, 199) i;
DELETE FROM item WHERE id > 2000;
"""
QUIET = Console(quiet=True)


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    name = fresh_database(cluster)
    cluster.psql(name, SHOP)
    # a session ends some time after it is closed, and tells the statistics only then
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    until(lambda: not cluster.value(others, parameters=(name,)))
    return name


@contextmanager
def held(cluster: Cluster, database: str, statement: str) -> Iterator[None]:
    """Hold the locks of a statement in an open transaction."""
    holder = psycopg2.connect(
        host=cluster.host, port=cluster.port, user=cluster.superuser, dbname=database
    )
    try:
        holder.cursor().execute(statement)
        yield
    finally:
        holder.close()


def by_name(done: Maintained) -> dict[str, TableDone]:
    return {each.table: each for each in done.tables}


def test_what_each_of_them_gains(cluster: Cluster, shop: str) -> None:
    target = cluster.target(shop)
    analyzed = maintain.maintain(target, ANALYZE, [], console=QUIET)
    tables = by_name(analyzed)
    assert set(tables) == {"public.item", 'public."Odd ""t"" 🙂"', "public.log", "public.counted"}
    item = tables["public.item"]
    assert item.before
    assert item.after
    assert (item.before.rows, item.after.rows) == (None, 2000)
    assert cluster.value("SELECT reltuples FROM pg_class WHERE relname = 'log_2'", shop) == 100

    vacuumed = maintain.maintain(target, VACUUM, [], console=QUIET)
    item = by_name(vacuumed)["public.item"]
    assert item.before
    assert item.after
    assert item.before.dead_rows == 18000
    assert item.after.table_bytes < item.before.table_bytes / 2
    assert {"public.log_1", "public.log_2"} < set(by_name(vacuumed))
    assert "freed, 18,000 dead rows" in vacuumed.sentence()
    assert vacuumed.lines()[2].startswith("public.item")

    reindexed = maintain.maintain(target, REINDEX, ["item", "log"], console=QUIET)
    assert set(by_name(reindexed)) == {"public.item", "public.log_1", "public.log_2"}
    item = by_name(reindexed)["public.item"]
    assert not reindexed.faults, reindexed.faults
    assert item.before
    assert item.after
    assert item.after.index_bytes < item.before.index_bytes / 2
    assert cluster.value("SELECT bool_and(indisvalid) FROM pg_index", shop)
    json.dumps(reindexed.as_json())
    with pytest.raises(Refused, match=r"no table matches 'items', did you mean .*item"):
        maintain.plan(target, REINDEX, ["items"])


def test_what_an_interrupted_run_left_is_named_and_dropped(cluster: Cluster, shop: str) -> None:
    cluster.psql(
        shop,
        """CREATE INDEX item_pkey_ccnew ON item (id); CREATE INDEX by_text_ccold1 ON item (text);
           CREATE INDEX invalid ON item (id); CREATE INDEX "valid_ccnew" ON item (id);
           UPDATE pg_index SET indisvalid = false WHERE indexrelid IN
             ('item_pkey_ccnew'::regclass, 'by_text_ccold1'::regclass, 'invalid'::regclass);""",
    )
    target = cluster.target(shop)
    left = ("public.by_text_ccold1", "public.item_pkey_ccnew")
    vacuumed = maintain.maintain(target, VACUUM, ["counted"], console=QUIET)
    assert vacuumed.left == left
    assert "inv db.reindex drops it" in "\n".join(vacuumed.lines())
    planned = maintain.plan(target, REINDEX, ["counted"])
    assert planned.dropped == left
    assert planned.lines()[-1] == "would reindex 1 table"
    assert cluster.value("SELECT to_regclass('item_pkey_ccnew') IS NOT NULL", shop)
    reindexed = maintain.maintain(target, REINDEX, ["counted"], console=QUIET)
    assert (reindexed.dropped, reindexed.left) == (left, ())
    kept = "SELECT count(*) FROM pg_class WHERE relname IN ('invalid', 'valid_ccnew')"
    assert cluster.value(kept, shop) == 2


@pytest.mark.parametrize("kind", [VACUUM, ANALYZE, REINDEX], ids=lambda kind: kind.verb)
def test_a_locked_table_does_not_stop_the_others(
    cluster: Cluster, shop: str, kind: maintain.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.health.maintain._LOCK_WAIT", "200ms")
    target = cluster.target(shop)
    with held(cluster, shop, "LOCK TABLE item"):
        done = maintain.maintain(target, kind, ["item", '"Odd"*', '"Odd ""t"" 🙂"'], console=QUIET)
    tables = by_name(done)
    assert "lock timeout" in tables["public.item"].fault
    assert not tables['public."Odd ""t"" 🙂"'].fault
    assert "lock timeout" in done.lines()[2]
    with pytest.raises(Failed, match=f"item not {kind.past}, .*inv inspect.activity shows who"):
        done.check()
    assert not done.left
    assert cluster.value("SELECT bool_and(indisvalid) FROM pg_index", shop)


def test_tables_of_other_roles_are_left_out(
    cluster: Cluster, plain: Callable[..., str], shop: str
) -> None:
    role = plain()
    cluster.psql(shop, f'ALTER TABLE "Odd ""t"" 🙂" OWNER TO "{role}"')
    target = replace(cluster.target(shop), user=role)
    done = maintain.maintain(target, VACUUM, ["item", '"Odd ""t"" 🙂"'], console=QUIET)
    assert set(by_name(done)) == {'public."Odd ""t"" 🙂"'}
    assert "left out, of other roles: 1 table (public.item)" in done.lines()


def test_a_server_that_ends_the_session_ends_the_run(cluster: Cluster, shop: str) -> None:
    waits = "SELECT max(pid) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"

    def end() -> None:
        pid = until(lambda: cluster.value(waits, parameters=(shop,)))
        cluster.value("SELECT pg_terminate_backend(%s)", parameters=(pid,))

    ending = Worker(end)
    with held(cluster, shop, "LOCK TABLE item"):
        ending.start()
        with pytest.raises(Unreachable):
            maintain.maintain(cluster.target(shop), VACUUM, ["item", "log"], console=QUIET)
    assert ending.wait(PATIENCE)


def test_ctrl_c_during_a_reindex(
    project: Path,
    start_inv: Callable[..., Any],
    inv: Callable[..., Any],
    cluster: Cluster,
    database: str,
) -> None:
    cluster.psql(database, SHOP)
    waits = (
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_progress_create_index p USING (pid)"
        " WHERE a.wait_event_type = 'Lock'"
    )
    with held(cluster, database, "SELECT * FROM item LIMIT 1"):
        running = start_inv("db.reindex", "--table", "item")
        until(lambda: cluster.value(waits, database) == 1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, said
    assert "which the next inv db.reindex drops" in said.splitlines()[-1]
    assert "public.item_pkey_cc" in said.splitlines()[-1]
    again = inv("db.reindex", "--table", "item", "--json")
    assert again.returncode == 0, again.stderr
    assert any("item_pkey_cc" in name for name in json.loads(again.stdout)["dropped_indexes"])
    assert cluster.value("SELECT bool_and(indisvalid) FROM pg_index", database)


def test_a_protected_database_is_guarded(
    project: Path, inv: Callable[..., Any], cluster: Cluster, database: str
) -> None:
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    for task in ("db.vacuum", "db.analyze", "db.reindex"):
        refused = inv(task)
        assert refused.returncode == 2, refused.stderr
        assert f"--confirm {database}" in refused.stderr
    assert inv("db.analyze", "--confirm", database).returncode == 0
    assert "would vacuum 0 tables" in inv("db.vacuum", "--dry").stdout
