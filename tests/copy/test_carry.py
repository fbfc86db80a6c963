"""Copies made of two databases: --schema-only, --data-only and --tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from restores import sides
from servers import Cluster
from test_copy import KEEP, copied, pair, restored_text, text
from test_subset import hold

from pgtasks.copy import Copied, scope_of
from pgtasks.database.undo import undo
from pgtasks.errors import Failed, Refused, VersionMismatch
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

Pair = tuple[Target, Target]
NEW = """
CREATE TABLE person (added text DEFAULT 'new' NOT NULL, name text NOT NULL, id bigint PRIMARY KEY
  GENERATED ALWAYS AS IDENTITY, long text GENERATED ALWAYS AS (name || '!') STORED);
CREATE TABLE "it's, 🐘" (person bigint REFERENCES person, n numeric, "a ""b" text);
CREATE TABLE log (at date NOT NULL, text text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE more (id int PRIMARY KEY);
CREATE MATERIALIZED VIEW people AS SELECT count(*) AS n FROM person;
CREATE SEQUENCE alone;
CREATE INDEX ON person (name);
INSERT INTO person (name) SELECT 's' || i FROM generate_series(1, 30) i;
INSERT INTO "it's, 🐘" SELECT i, i, 's' FROM generate_series(1, 30) i;
INSERT INTO log VALUES ('2024-05-05', 's');
INSERT INTO more VALUES (1);
SELECT setval('alone', 500), lo_from_bytea(100, 'source');
"""
OLD = """
DROP TABLE old;
CREATE TABLE person (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name varchar(30));
CREATE TABLE "it's, 🐘" (n int, "a ""b" varchar, person int REFERENCES person);
CREATE TABLE log (at date NOT NULL, text text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE SEQUENCE alone;
INSERT INTO person (name) SELECT 't' || i FROM generate_series(1, 20) i;
INSERT INTO "it's, 🐘" SELECT i, E'\\t\\\\N "', i FROM generate_series(1, 20) i;
INSERT INTO log VALUES ('2024-06-06', 't'), ('2024-06-07', 't');
SELECT setval('alone', 70), lo_from_bytea(200, 'target');
"""


@pytest.fixture
def both(cluster: Cluster, fresh_database: Callable[..., str]) -> Pair:
    """Return a source, and a target with an older schema."""
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(NEW, source.database)
    cluster.execute(OLD, target.database)
    return source, target


def taken(both: Pair, **flags: Any) -> Copied:
    return copied(*both, KEEP, scope=scope_of(**flags))


def test_the_schema_with_the_rows_of_the_target(
    cluster: Cluster, both: Pair, fresh_database: Callable[..., str]
) -> None:
    source, target = both
    done = taken(both, schema_only=True)
    expected = restored_text(cluster, source.database, cluster, fresh_database)
    assert text(cluster, target.database) == expected
    rows = "SELECT added, name, id, long FROM person ORDER BY id"
    people = cluster.execute(rows, target.database)
    assert people == [("new", f"t{i}", i, f"t{i}!") for i in range(1, 21)]
    odd = 'SELECT person, n, "a ""b" FROM "it\'s, 🐘" ORDER BY n'
    assert cluster.execute(odd, target.database)[0] == (1, 1, '\t\\N "')
    assert cluster.value("SELECT count(*) FROM more", target.database) == 0
    assert cluster.value("SELECT count(*) FROM log WHERE text = 't'", target.database) == 2
    assert cluster.value("SELECT n FROM people", target.database) == 20
    assert cluster.value("SELECT last_value FROM alone", target.database) == 70
    cluster.execute("INSERT INTO person (name) VALUES ('next')", target.database)
    assert cluster.value("SELECT max(id) FROM person", target.database) == 21
    large = "SELECT oid::int, lo_get(oid)::text FROM pg_largeobject_metadata"
    assert cluster.execute(large, target.database) == [(200, "\\x746172676574")]
    hold(cluster, target.database)
    comparison = done.built.proven.comparison
    assert comparison is not None
    assert comparison.tables == comparison.identical_tables == 4
    assert cluster.value("SELECT count(*) FROM person", source.database) == 30
    with Lock(target, "db.undo") as lock:
        undo(lock)
    assert cluster.value("SELECT count(*) FROM person", target.database) == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE person ADD gone int", "person.gone has no place"),
        ("CREATE TABLE gone AS SELECT 1", "not in the new schema: public.gone"),
        ("INSERT INTO person (name) VALUES (NULL)", "person.name has nulls, and is NOT NULL"),
        ("ALTER TABLE person ALTER id TYPE numeric", "person.id changes from numeric to bigint"),
    ],
)
def test_what_cannot_be_carried_is_listed_before(
    cluster: Cluster, both: Pair, change: str, words: str
) -> None:
    if "numeric" in change:
        change = f"ALTER TABLE person ALTER id DROP IDENTITY; {change}"
    cluster.execute(change, both[1].database)
    with pytest.raises(Refused, match=words):
        taken(both, schema_only=True)
    assert sides(cluster, both[1].database) == []
    if "gone" in change:
        taken(both, schema_only=True, lossy=True)
        assert cluster.value("SELECT count(*) FROM person", both[1].database) == 20


def test_a_new_column_without_a_value_is_refused(cluster: Cluster, both: Pair) -> None:
    cluster.execute("ALTER TABLE person ADD must int NOT NULL DEFAULT 1", both[0].database)
    cluster.execute("ALTER TABLE person ALTER must DROP DEFAULT", both[0].database)
    with pytest.raises(Refused, match=r"person\.must is NOT NULL and has no default"):
        taken(both, schema_only=True)
    cluster.execute('DELETE FROM "it\'s, 🐘"; DELETE FROM person', both[1].database)
    taken(both, schema_only=True)


def test_rows_that_break_the_new_schema_leave_the_old(cluster: Cluster, both: Pair) -> None:
    checks = "ALTER TABLE person ADD CONSTRAINT short CHECK (name ~ '^s')"
    cluster.execute(checks, both[0].database)
    with pytest.raises(Refused, match=r"rows of public\.person break the check constraint short"):
        taken(both, schema_only=True)
    cluster.execute(
        "ALTER TABLE person DROP CONSTRAINT short; CREATE FUNCTION fits(text) RETURNS bool"
        " LANGUAGE sql AS $$ SELECT $1 ~ '^s' $$; ALTER TABLE person ADD CHECK (fits(name))",
        both[0].database,
    )
    with pytest.raises(Failed, match="person"):
        taken(both, schema_only=True)
    assert cluster.value("SELECT count(*) FROM person", both[1].database) == 20
    assert sides(cluster, both[1].database) == []


def test_rows_that_a_new_key_does_not_allow_are_listed(cluster: Cluster, both: Pair) -> None:
    source, target = both[0].database, both[1].database
    cluster.execute(
        "ALTER TABLE person ADD key int REFERENCES more;"
        "ALTER TABLE log ADD person int;"
        "ALTER TABLE log_1 ADD FOREIGN KEY (person) REFERENCES person",
        source,
    )
    cluster.execute("ALTER TABLE person ADD key int; ALTER TABLE log ADD person int", target)
    taken(both, schema_only=True)
    cluster.execute(
        "ALTER TABLE person DROP CONSTRAINT person_key_fkey; UPDATE person SET key = 4;"
        "ALTER TABLE log_1 DROP CONSTRAINT log_1_person_fkey; UPDATE log_1 SET person = 77;"
        "DROP TABLE more",
        target,
    )
    with pytest.raises(Refused) as caught:
        taken(both, schema_only=True)
    lines = f"{caught.value} {caught.value.hint}"
    assert "rows of public.person break the foreign key person_key_fkey" in lines
    assert "rows of public.log_1 break the foreign key log_1_person_fkey" in lines
    assert sides(cluster, target)[1:] == []


def test_a_new_sequence_goes_on_after_the_rows(cluster: Cluster, both: Pair) -> None:
    cluster.execute(
        'ALTER SEQUENCE person_id_seq RENAME TO others; UPDATE "it\'s, 🐘" SET person = 5',
        both[1].database,
    )
    taken(both, schema_only=True)
    cluster.execute("INSERT INTO person (name) VALUES ('next')", both[1].database)
    assert cluster.value("SELECT max(id) FROM person", both[1].database) == 21


SEQUENCES = """
CREATE SEQUENCE kept; CREATE SEQUENCE common; CREATE SEQUENCE falling INCREMENT -1;
CREATE SEQUENCE parts; CREATE SEQUENCE ahead; CREATE SEQUENCE free;
CREATE TABLE comes (a bigint DEFAULT nextval('common'), b bigint DEFAULT nextval('falling'),
  c bigint DEFAULT nextval('ahead'), d bigserial);
"""
USERS = """
CREATE TABLE stays (a bigint DEFAULT nextval('common'), b bigint DEFAULT nextval('falling'),
  c bigint DEFAULT nextval('ahead'), d bigint DEFAULT nextval('kept'));
CREATE TABLE whole (id bigint DEFAULT nextval('parts')) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF whole DEFAULT;
ALTER TABLE part ALTER id DROP DEFAULT;
"""


@pytest.mark.parametrize("flags", [{"data_only": True}, {"tables": ["comes"]}])
def test_no_sequence_goes_back_under_rows_that_stay(
    cluster: Cluster, fresh_database: Callable[..., str], flags: dict[str, Any]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    for database, more, numbers in (
        (source.database, "", (5, 5, -5, 5, 900, 5, 5)),
        (target.database, USERS, (100, 100, -100, 100, 100, 100, 100)),
    ):
        cluster.execute(SEQUENCES + more, database)
        names = ("kept", "common", "falling", "parts", "ahead", "free", "comes_d_seq")
        for name, number in zip(names, numbers, strict=True):
            cluster.execute("SELECT setval(%s, %s)", database, (name, number))
    copied(source, target, KEEP, scope=scope_of(**flags))
    whole = "data_only" in flags
    for name, number in {
        "kept": 100,
        "common": 100,
        "falling": -100,
        "parts": 100,
        "ahead": 900 if whole else 100,  # --tables brings only those that belong to a column
        "free": 5 if whole else 100,
        "comes_d_seq": 5,
    }.items():
        assert cluster.value(f"SELECT last_value FROM {name}", target.database) == number, name


def test_across_versions(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster18, fresh_database)
    cluster.execute(NEW, source.database)
    cluster18.execute(OLD, target.database)
    copied(source, target, KEEP, scope=scope_of(schema_only=True))
    assert cluster18.value("SELECT count(*) FROM person", target.database) == 20
    copied(source, target, KEEP, scope=scope_of(data_only=True))
    assert cluster18.value("SELECT count(*) FROM person", target.database) == 30
    with pytest.raises(VersionMismatch, match="the same or a newer version"):
        copied(target, source, KEEP, scope=scope_of(tables=["person"]))


def same_schema(cluster: Cluster, both: Pair) -> None:
    """Give the target the schema of the source, with rows of its own."""
    taken(both, schema_only=True)
    cluster.execute("INSERT INTO more VALUES (7), (8)", both[1].database)
    cluster.execute("CREATE TABLE own AS SELECT 1 AS n", both[1].database)


def test_the_rows_in_the_schema_of_the_target(cluster: Cluster, both: Pair) -> None:
    source, target = both
    same_schema(cluster, both)
    cluster.execute("ALTER TABLE person ADD here int DEFAULT 5", target.database)
    before = text(cluster, target.database)
    done = taken(both, data_only=True)
    assert text(cluster, target.database) == before
    people = cluster.execute("SELECT name, id, here FROM person ORDER BY id", target.database)
    assert people == [(f"s{i}", i, 5) for i in range(1, 31)]
    assert cluster.value("SELECT n FROM people", target.database) == 30
    assert cluster.value("SELECT count(*) FROM own", target.database) == 1
    assert cluster.value("SELECT last_value FROM alone", target.database) == 500
    large = "SELECT oid::int FROM pg_largeobject_metadata"
    assert cluster.execute(large, target.database) == [(100,)]
    hold(cluster, target.database)
    assert "the rows of 4 tables, in the schema of the target" in "\n".join(done.built.plan.lines())
    assert f"origin={source.environment}/{source.database}" in str(
        cluster.value(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            parameters=(target.database,),
        )
    )


def test_rows_that_do_not_fit_the_target_are_listed(cluster: Cluster, both: Pair) -> None:
    with pytest.raises(Refused) as caught:
        taken(both, data_only=True)
    lines = f"{caught.value} {caught.value.hint}"
    assert "person.added has no place" in lines
    assert "person.id changes from bigint to integer" in lines
    assert "the target has no public.more" in lines
    assert sides(cluster, both[1].database) == []


def test_one_table_and_all_else_stays(cluster: Cluster, both: Pair) -> None:
    target = both[1].database
    same_schema(cluster, both)
    taken(both, tables=["more,log"])
    assert cluster.execute("SELECT id FROM more", target) == [(1,)]
    assert cluster.execute("SELECT text FROM log", target) == [("s",)]
    assert cluster.value("SELECT count(*) FROM person", target) == 20
    assert cluster.value("SELECT count(*) FROM own", target) == 1
    assert cluster.value("SELECT last_value FROM alone", target) == 70
    assert cluster.execute("SELECT oid::int FROM pg_largeobject_metadata", target) == [(200,)]
    taken(both, tables=["person", "it*"])
    assert cluster.value("SELECT last_value FROM person_id_seq", target) == 30
    hold(cluster, target)


def test_a_condition_of_a_table_that_does_not_come_is_refused(cluster: Cluster, both: Pair) -> None:
    same_schema(cluster, both)
    for more in ({"where": ["person=id < 3"]}, {"where": ["log=true"], "follow": ["person"]}):
        with pytest.raises(Refused, match="'person' is for no table of --tables: add it there"):
            taken(both, tables=["log"], **more)
    assert cluster.value("SELECT count(*) FROM person", both[1].database) == 20


def test_a_table_that_others_need_is_not_emptied(cluster: Cluster, both: Pair) -> None:
    target = both[1].database
    same_schema(cluster, both)
    odd = '"it\'s, 🐘"'
    cluster.execute(f"DELETE FROM {odd}; DELETE FROM person WHERE id < 15", both[0].database)
    with pytest.raises(Failed) as caught:
        taken(both, tables=["person"])
    assert "violates foreign key constraint" in f"{caught.value} {caught.value.hint}"
    assert cluster.value("SELECT count(*) FROM person", target) == 20
    assert cluster.value(f"SELECT count(*) FROM {odd}", target) == 20
    cluster.execute("CREATE TABLE elsewhere (n int)", both[0].database)
    with pytest.raises(Refused, match=r"the target has no public\.elsewhere"):
        taken(both, tables=["elsewhere"])
    with pytest.raises(Refused, match="did you mean 'person'"):
        taken(both, tables=["persn"])


def test_flags_that_contradict_each_other_are_refused(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    for flags in ({"data_only": True}, {"tables": ["x"]}, {"where": ["a=b"]}, {"sample": "5"}):
        with pytest.raises(Refused, match="copies no rows"):
            scope_of(schema_only=True, **flags)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="--lossy is for"):
        scope_of(lossy=True)
    source = cluster.target(fresh_database(cluster), environment="prod")
    absent = cluster.target(f"{source.database}_absent")
    cluster.execute(NEW, source.database)
    with pytest.raises(Refused, match="has no schema to keep"):
        copied(source, absent, KEEP, scope=scope_of(data_only=True))
    try:
        copied(source, absent, KEEP, scope=scope_of(schema_only=True))
        assert cluster.value("SELECT count(*) FROM person", absent.database) == 0
    finally:
        cluster.drop(absent.database)
