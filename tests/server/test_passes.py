"""What pg_restore loads in one run, and what in several, because its jobs would disturb another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from schemas import EVERYTHING, contents, dump
from servers import Cluster

from pgtasks.server.dump.passes import passes
from pgtasks.server.proof.toc import Entry

Fresh = Callable[[Cluster], str]

ONE_LEVEL = """
CREATE TABLE event (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE event_2024 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
"""
TWO_LEVELS = """
CREATE TABLE "ev ATTACH PARTITION ent" (id int, at date, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE "mid ;
dle" PARTITION OF "ev ATTACH PARTITION ent" DEFAULT PARTITION BY LIST (id);
CREATE TABLE low PARTITION OF "mid ;
dle" DEFAULT;
"""
UNCHECKED = """
CREATE DOMAIN few AS int;
CREATE TABLE part (id few, v int) PARTITION BY RANGE (id);
CREATE TABLE part_all PARTITION OF part DEFAULT;
CREATE TABLE above (v int);
CREATE TABLE below () INHERITS (above);
CREATE TABLE alone (v int PRIMARY KEY, other int);
INSERT INTO part VALUES (10, -1);
INSERT INTO below VALUES (-1);
INSERT INTO alone VALUES (1, 2);
ALTER DOMAIN few ADD CONSTRAINT small CHECK (VALUE < 9) NOT VALID;
ALTER TABLE part ADD CONSTRAINT "par;t" CHECK (v > 0) NOT VALID;
ALTER TABLE above ADD CONSTRAINT more CHECK (v > 0) NOT VALID;
ALTER TABLE alone ADD CONSTRAINT key FOREIGN KEY (other) REFERENCES alone NOT VALID;
COMMENT ON CONSTRAINT "par;t" ON part IS 'later';
CREATE INDEX ON part (v);
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := 0; RETURN NEW; END';
CREATE TRIGGER changing BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION changed();
CREATE TABLE part_mid PARTITION OF part FOR VALUES FROM (1) TO (3) PARTITION BY LIST (id);
CREATE TABLE part_low PARTITION OF part_mid DEFAULT;
ALTER TABLE part_low DISABLE TRIGGER changing;
CREATE TRIGGER one BEFORE INSERT ON alone FOR EACH ROW EXECUTE FUNCTION changed();
"""


def archive_of(cluster: Cluster, database: str, schema: str) -> list[Entry]:
    cluster.psql(database, schema)
    return contents(dump(cluster, database))


def test_one_run_is_enough_for_partitions(cluster: Cluster, database: str) -> None:
    archive = archive_of(cluster, database, ONE_LEVEL)
    assert "INDEX ATTACH" in {entry.desc for entry in archive}
    (run,) = passes(archive)
    assert (run.entries, run.serial) == (archive, False)


@pytest.mark.parametrize("schema", [EVERYTHING, TWO_LEVELS], ids=["everything", "odd names"])
def test_one_job_attaches_the_indexes_of_subpartitions(
    cluster: Cluster, database: str, schema: str
) -> None:
    archive = archive_of(cluster, database, schema)
    runs = passes(archive)
    done: set[int] = set()
    everything = {entry.number for entry in archive}
    for run in runs:
        attaches = {entry.desc == "INDEX ATTACH" for entry in run.entries}
        assert True not in attaches or (attaches == {True} and run.serial)
        numbers = {entry.number for entry in run.entries}
        assert run.listed == b"".join(b"%d;\n" % entry.number for entry in run.entries)
        # what they depend on is in an earlier run, or in the same
        assert all(entry.needs & everything <= done | numbers for entry in run.entries)
        assert not done & numbers
        done |= numbers
    assert done == everything


def test_what_acts_on_rows_of_other_tables_waits_for_all_rows(
    cluster: Cluster, database: str
) -> None:
    archive = archive_of(cluster, database, UNCHECKED)
    runs = passes(archive)
    first, last = runs[0], runs[-1]
    assert (first.serial, last.serial) == (False, True)
    assert {entry.desc for entry in first.entries} >= {"TABLE DATA", "INDEX"}
    late = {(entry.desc, entry.tag) for entry in last.entries}
    assert late == {
        ("CHECK CONSTRAINT", "few small"),
        ("CHECK CONSTRAINT", "part par;t"),
        ("CHECK CONSTRAINT", "above more"),
        ("COMMENT", 'CONSTRAINT "par;t" ON part'),
        ("TRIGGER", "part changing"),
        ("TRIGGER", "part_low changing"),
    }
    assert sum(len(run.entries) for run in runs) == len(archive)


def test_no_run_without_entries() -> None:
    assert passes([]) == []
