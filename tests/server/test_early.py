"""Tables that are read for the proof while a load still runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from restores import save
from servers import Cluster
from waiting import until

from pgtasks.server import connection, proof
from pgtasks.server.proof.early import EarlyReader
from pgtasks.server.proof.model import FORMAT
from pgtasks.server.proof.reader import TableReading
from pgtasks.settings.target import Target

TABLES = """
CREATE TABLE a AS SELECT generate_series(1, 1000) AS x;
CREATE TABLE "b c" AS SELECT 'ü' AS "x y", generate_series(1, 10) AS n;
CREATE TABLE empty (x int);
"""


@pytest.fixture
def loaded(cluster: Cluster, target: Target) -> Target:
    for statement in filter(str.strip, TABLES.split(";")):
        cluster.execute(statement, target.database)
    return target


def early(target: Target) -> EarlyReader:
    return EarlyReader(target, format=FORMAT, purpose="test")


def readings(reader: EarlyReader, target: Target) -> dict[str, TableReading]:
    with connection.session(target, read_only=True, purpose="test") as conn:
        return {str(each.proof): each for each in reader.readings(conn).values()}


def test_it_reads_what_a_proof_reads(loaded: Target) -> None:
    with early(loaded) as reader:
        for name in ("a", "b c", "empty", "unknown"):
            reader.arrive("public", name)
        until(lambda: len(reader._readings) == 3)
    read = readings(reader, loaded)
    tables = {each for each in proof.take(loaded).tables if each.rows}
    assert {each.proof for each in read.values()} == tables


def test_a_proof_does_not_read_them_again(cluster: Cluster, loaded: Target) -> None:
    with early(loaded) as reader:
        reader.arrive("public", "a")
        until(lambda: reader._readings)
    ((oid, (file, reading)),) = reader._readings.items()
    marked = replace(reading, proof=replace(reading.proof, fingerprint="4711"))
    reader._readings[oid] = file, marked
    prints = {str(each): each.fingerprint for each in proof.take(loaded, early=reader).tables}
    assert prints.pop("public.a") == "4711"
    assert "4711" not in prints.values()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE a SET x = x + 1",
        "INSERT INTO a VALUES (1)",
        "DELETE FROM a WHERE x = 1",
        "TRUNCATE a",
        "DELETE FROM a WHERE x = 1; INSERT INTO a VALUES (1)",
        "TRUNCATE a; INSERT INTO a SELECT 0 FROM generate_series(1, 1000)",
        "DROP TABLE a; CREATE TABLE a AS SELECT generate_series(1, 1000) AS x",
    ],
)
def test_what_was_changed_since_is_read_again(
    cluster: Cluster, loaded: Target, change: str
) -> None:
    with early(loaded) as reader:
        reader.arrive("public", "a")
        until(lambda: reader._readings)
        cluster.execute(change, loaded.database)
    assert "public.a" not in readings(reader, loaded)


def test_nothing_counts_where_a_session_outlives_the_load(
    cluster: Cluster, loaded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts by itself what it writes, and passes that on once in a second and at its end."""
    monkeypatch.setattr("pgtasks.server.proof.early._ENDS", 0.2)
    with closing(cluster.connect(loaded.database)) as writer, writer.cursor() as cursor:
        with early(loaded) as reader:
            reader.arrive("public", "a")
            until(lambda: reader._readings)
            cursor.execute("UPDATE a SET x = x + 1")
        assert readings(reader, loaded) == {}


def test_an_empty_table_is_read_again(cluster: Cluster, loaded: Target) -> None:
    with early(loaded) as reader:
        reader.arrive("public", "empty")
        until(lambda: reader._readings)
        cluster.execute("SET track_counts = off; INSERT INTO empty VALUES (1)", loaded.database)
    assert "public.empty" not in readings(reader, loaded)


def test_a_locked_table_is_tried_again_and_others_do_not_wait(
    cluster: Cluster, loaded: Target
) -> None:
    with closing(cluster.connect(loaded.database)) as load, load.cursor() as cursor:
        load.autocommit = False
        cursor.execute("LOCK TABLE a")
        with early(loaded) as reader:
            reader.arrive("public", "a")
            reader.arrive("public", "empty")
            until(lambda: reader._readings)
            assert [str(each.proof) for _, each in reader._readings.values()] == ["public.empty"]
            load.commit()
            until(lambda: len(reader._readings) == 2)
            load.close()  # leaving the block waits for it


def test_a_table_that_cannot_be_read_does_not_end_it(cluster: Cluster, loaded: Target) -> None:
    with early(loaded) as reader:
        reader.arrive("public", "empty")
        until(lambda: reader._readings)  # it knows the tables now
        cluster.execute("DROP TABLE a", loaded.database)
        reader.arrive("public", "a")
        reader.arrive("public", "b c")
        until(lambda: len(reader._readings) == 2)


WRITES_ELSEWHERE = """
CREATE TABLE seen (n int); INSERT INTO seen VALUES (0);
CREATE TABLE t (id int) WITH (autovacuum_enabled = off); -- ANALYZE computes f too
INSERT INTO t SELECT generate_series(1, 1000);
CREATE FUNCTION note() RETURNS int LANGUAGE plpgsql AS $$
BEGIN UPDATE seen SET n = n + 1; RETURN 1; END $$;
CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM public.note(); RETURN $1; END $$;
ALTER FUNCTION note() SET search_path = public;
CREATE INDEX ON t (f(id));
UPDATE seen SET n = 0;
"""


def test_a_restore_notices_what_an_index_has_changed(
    inv: Callable[..., Any], cluster: Cluster, target: Target, tmp_path: Path
) -> None:
    cluster.psql(target.database, WRITES_ELSEWHERE)
    put_stamp(target)
    project = make_project(tmp_path / "shop", cluster.url(target.database))
    save(project)
    done = inv("db.restore", cwd=project)
    assert done.returncode == 5, done.stderr
    assert "public.seen" in done.stderr
    assert cluster.value("SELECT n FROM seen", target.database) == 0
