"""Copies: built beside from one snapshot, proven, swapped in, undone."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gates
import pytest
from consoles import Recorder
from projects import put_stamp
from restores import CONTENT, fill, logins, rows, sides
from schemas import EVERYTHING, load, tool
from servers import Cluster
from turmoil import one_moment, set_up, turmoil
from waiting import PATIENCE, meanwhile

from pgtasks.copy import Copied, CopyOptions, copy
from pgtasks.database.undo import undo
from pgtasks.errors import Failed, Refused, VersionMismatch
from pgtasks.host.local import HERE
from pgtasks.report import Console
from pgtasks.server import proof, reach
from pgtasks.server.identity import Identity
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Origin, Reached
from pgtasks.settings.target import Target

KEEP = CopyOptions(jobs=2, keep_owners=True, as_superuser=True, rows=True)


@pytest.fixture(scope="module")
def roles(cluster: Cluster) -> Iterator[list[str]]:
    """Return two plain roles."""
    names = [f"copier{os.getpid()}_{number}" for number in range(2)]
    for name in names:
        cluster.execute(f"CREATE ROLE {name} LOGIN")
    yield names
    for name in names:
        cluster.execute(f"DROP ROLE {name}")


def known(source: Target) -> Identity:
    """Return the identity of a source, as the guard sees it."""
    identity = reach.identify(source)
    assert identity
    return identity


def copied(source: Target, target: Target, options: CopyOptions = KEEP, **more: Any) -> Copied:
    """Copy one database over another one without a question."""
    with Lock(target, "db.copy") as lock:
        done = copy(
            *(Origin(Reached(source), known(source)), lock, HERE, replace(options, **more)),
            console=Recorder(),
            agreed=lambda plan: True,
        )
    assert isinstance(done, Copied)
    return done


def pair(one: Cluster, other: Cluster, fresh: Callable[..., str]) -> tuple[Target, Target]:
    """Return two new databases: a source, and a target with a stamp and one table."""
    source = one.target(fresh(one), environment="prod")
    target = other.target(fresh(other))
    other.execute("CREATE TABLE old AS SELECT 1", target.database)
    put_stamp(target)
    return source, target


def text(cluster: Cluster, database: str, by: Cluster | None = None) -> list[str]:
    """Return what pg_dump prints of the schema, without what is random."""
    printed = tool(cluster, "pg_dump", "--schema-only", f"--dbname={database}", by=by).decode()
    return [line for line in printed.splitlines() if not line.startswith(("\\", "-- Dumped"))]


def same_rows(source: Target, target: Target, *elsewhere: str) -> None:
    """Check that all rows are the same, but for tables whose rows may be in other partitions."""
    proofs = (proof.take(source), proof.take(target))
    differing = [each for each in proof.compare(*proofs).differences if each.name not in elsewhere]
    assert not differing, differing


def restored_text(source: Cluster, database: str, other: Cluster, fresh: Callable[..., str]) -> Any:
    """Return the text of the schema as pg_restore makes it: a server prints some things anew."""
    name = fresh(other)
    load(other, tool(source, "pg_dump", "-Fc", f"--dbname={database}", by=other), name)
    return text(other, name)


def test_everything_comes_through(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(source.database, EVERYTHING)
    before = text(cluster, source.database)
    done = copied(source, target)
    expected = restored_text(cluster, source.database, cluster, fresh_database)
    assert text(cluster, target.database) == expected
    same_rows(source, target)
    assert text(cluster, source.database) == before
    assert sides(cluster, target.database) == [done.swapped.kept]
    assert done.built.proven.comparison.tables > 20


def test_everything_comes_through_to_a_newer_version(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster18, fresh_database)
    cluster.psql(source.database, EVERYTHING)
    copied(source, target)
    expected = restored_text(cluster, source.database, cluster18, fresh_database)
    assert text(cluster18, target.database) == expected
    same_rows(source, target)


def test_an_older_version_is_refused(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster18, cluster, fresh_database)
    with pytest.raises(VersionMismatch, match="the same or a newer version"):
        copied(source, target)
    assert cluster.value("SELECT count(*) FROM old", target.database) == 1


AWKWARD = """
CREATE SCHEMA "a;
b";
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE "a;
b"."user 🐘""s" (id int PRIMARY KEY, "order" mood[], c int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO "a;
b"."user 🐘""s" SELECT i, '{sad,ok}' FROM generate_series(1, 50) i;
CREATE TABLE hashed (m mood, n int) PARTITION BY HASH (m);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT m, i FROM generate_series(1, 20) i, unnest(enum_range(NULL::mood)) m;
CREATE TABLE parent (id int PRIMARY KEY, t text);
CREATE TABLE child (more int, UNIQUE (id)) INHERITS (parent);
INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 30) i;
INSERT INTO child SELECT i, 'c', i FROM generate_series(1, 40) i;
CREATE TABLE keyed (id bigint GENERATED ALWAYS AS IDENTITY, k int NOT NULL, v regclass, d date);
INSERT INTO keyed (k, v, d) SELECT i, 'public.parent', '2024-02-01' FROM generate_series(1, 99) i;
ALTER TABLE keyed ADD CONSTRAINT keyed_pk PRIMARY KEY (id) INCLUDE (d);
CREATE UNIQUE INDEX keyed_k ON keyed (k);
ALTER TABLE keyed REPLICA IDENTITY USING INDEX keyed_k, CLUSTER ON keyed_pk;
ALTER TABLE keyed ADD CONSTRAINT later UNIQUE (d, id) DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX keyed_e ON keyed ((k + 1)) INCLUDE (v) WHERE k > 5;
ALTER INDEX keyed_e ALTER COLUMN 1 SET STATISTICS 200;
COMMENT ON CONSTRAINT keyed_pk ON keyed IS 'the key';
CREATE TABLE refers (id int REFERENCES parent, b bigint REFERENCES keyed);
INSERT INTO refers SELECT i, i FROM generate_series(1, 20) i;
CREATE TABLE only_generated (g int GENERATED ALWAYS AS (1) STORED);
INSERT INTO only_generated SELECT FROM generate_series(1, 7);
CREATE SEQUENCE alone START 7;
SELECT nextval('alone'), nextval('alone');
CREATE MATERIALIZED VIEW m1 AS SELECT count(*) AS n FROM keyed;
CREATE MATERIALIZED VIEW m2 AS SELECT n * 2 AS n FROM m1;
CREATE UNIQUE INDEX m2_n ON m2 (n);
CREATE MATERIALIZED VIEW m3 AS SELECT 1 WITH NO DATA;
SELECT lo_from_bytea(0, decode(repeat('ab', 100000), 'hex')), lo_from_bytea(4711, 'x');
COMMENT ON LARGE OBJECT 4711 IS 'large';
ALTER DATABASE {name} SET DateStyle = 'German';
"""


@pytest.mark.parametrize("newer", [False, True], ids=["same", "newer"])
def test_each_trap_comes_through(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str], newer: bool
) -> None:
    other = cluster18 if newer else cluster
    source, target = pair(cluster, other, fresh_database)
    cluster.psql(source.database, AWKWARD.replace("{name}", source.database))
    copied(source, target)
    expected = restored_text(cluster, source.database, other, fresh_database)
    assert text(other, target.database) == expected
    same_rows(source, target, "table public.hashed_0", "table public.hashed_1")
    values = "SELECT v::text, d::text FROM keyed LIMIT 1"
    assert other.execute(values, target.database) == [("parent", "2024-02-01")]
    assert other.execute("SELECT n FROM m2", target.database) == [(198,)]
    assert other.value("SELECT last_value FROM alone", target.database) == 8
    lost = "SELECT count(*) FROM hashed h WHERE h.m = 'ok'"
    assert other.value(lost, target.database) == 20
    analyzed = "SELECT reltuples FROM pg_class WHERE relname = 'keyed'"
    assert other.value(analyzed, target.database) == 99


def test_an_empty_database_and_many_tables(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    assert copied(source, target).built.proven.comparison.tables == 0
    cluster.execute(
        "DO $$ BEGIN FOR i IN 1..250 LOOP"
        " EXECUTE format('CREATE TABLE t%s AS SELECT %s AS n', i, i);"
        " EXECUTE format('ALTER TABLE t%s ADD PRIMARY KEY (n)', i); END LOOP; END $$",
        source.database,
    )
    assert copied(source, target).built.proven.comparison.identical_tables == 250


def test_undo_takes_the_old_one_back(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    fill(cluster, source.database)
    done = copied(source, target)
    assert rows(cluster, target.database) == 1000
    with Lock(target, "db.undo") as lock:
        undo(lock)
    assert cluster.value("SELECT count(*) FROM old", target.database) == 1
    assert done.swapped.kept not in sides(cluster, target.database)


def test_a_writer_that_never_stops_leaves_one_moment(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(
        "CREATE TABLE a (id bigserial PRIMARY KEY, n int); CREATE TABLE b (LIKE a INCLUDING ALL);"
        "INSERT INTO a (n) SELECT 1 FROM generate_series(1, 50000);"
        "INSERT INTO b (id, n) SELECT id, n FROM a",
        source.database,
    )
    both = "BEGIN; INSERT INTO a (n) VALUES (1); INSERT INTO b (id, n) SELECT max(id), 1 FROM a;"
    with meanwhile(lambda: cluster.execute(f"{both} COMMIT", source.database)):
        copied(source, target)
    counts = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT max(id) FROM a)"
    ((first, second, last),) = cluster.execute(counts, target.database)
    assert first == second >= 50000
    assert cluster.value("SELECT nextval('a_id_seq')", target.database) > last


def test_beside_a_turmoil_the_copy_is_one_moment(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    set_up(cluster, source.database)
    done = trials = 0
    latest = time.monotonic() + PATIENCE
    with turmoil(cluster, source.database, 7, 0.15):
        while trials < 4 or (not done and time.monotonic() < latest):
            trials += 1
            with suppress(Failed):  # somebody waited to alter a table each time
                copied(source, target)
                done += 1
            assert not done or one_moment(cluster, target.database) == []
    assert done


def test_owners_stay_behind_on_an_unprotected_target(
    cluster: Cluster, fresh_database: Callable[..., str], roles: list[str]
) -> None:
    owner, other = roles
    source, target = pair(cluster, cluster, fresh_database)
    cluster.execute(f'ALTER DATABASE "{target.database}" OWNER TO {owner}')
    fill(cluster, source.database)
    cluster.execute(
        f"ALTER TABLE people OWNER TO {other}; REVOKE ALL ON people FROM {other};"
        f"GRANT SELECT ON people TO {owner}",
        source.database,
    )
    done = copied(source, target, CopyOptions(jobs=2))
    assert done.built.plan.rights.mapped
    assert "grants: they were not copied" in done.built.proven.notes
    query = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert cluster.execute(query, target.database) == [(owner,)]
    assert logins(cluster, target.database) == []


def test_an_owner_that_may_not_insert_is_copied_as_it_is(
    cluster: Cluster, fresh_database: Callable[..., str], roles: list[str]
) -> None:
    owner, _ = roles
    source, target = pair(cluster, cluster, fresh_database)
    for name in (source.database, target.database):
        cluster.execute(f'ALTER DATABASE "{name}" OWNER TO {owner}')
        cluster.execute(f"ALTER SCHEMA public OWNER TO {owner}", name)
    session = cluster.connect(source.database, user=owner)
    with session.cursor() as cursor:
        cursor.execute(CONTENT + f"REVOKE INSERT ON people FROM {owner};")
    session.close()
    done = copied(source, target, CopyOptions(jobs=2))
    assert done.built.plan.rights.held
    expected = restored_text(cluster, source.database, cluster, fresh_database)
    assert text(cluster, target.database) == expected
    assert logins(cluster, target.database) == []


FOR_A_ROLE = """
CREATE TABLE t AS SELECT 1 AS n;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON t TO {role} USING (true);
COMMENT ON POLICY mine ON t IS 'mine';
CREATE POLICY all_of_us ON t USING (true);
CREATE FOREIGN DATA WRAPPER w;
CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE USER MAPPING FOR {role} SERVER s OPTIONS (password 's3cret');
CREATE USER MAPPING FOR PUBLIC SERVER s;
"""


def test_what_is_for_roles_that_are_not_there_stays_behind_or_stands_in_the_way(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str], roles: list[str]
) -> None:
    source, target = pair(cluster, cluster18, fresh_database)
    cluster.psql(source.database, FOR_A_ROLE.replace("{role}", roles[0]))
    try:
        with pytest.raises(Refused, match=f"role '{roles[0]}' of the source does not exist here"):
            copied(source, target)
        done = copied(source, target, CopyOptions(jobs=2, as_superuser=True))
        (note,) = [note for note in done.built.plan.notes if note.startswith("without ")]
        assert "mine" in note
        assert roles[0] in note
        assert cluster18.execute("SELECT polname FROM pg_policy", target.database) == [
            ("all_of_us",)
        ]
        mappings = "SELECT usename, umoptions FROM pg_user_mappings"
        assert cluster18.execute(mappings, target.database) == [("public", None)]
    finally:
        cluster.execute(
            f"DROP POLICY mine ON t; DROP USER MAPPING FOR {roles[0]} SERVER s", source.database
        )


def test_a_log_names_tables_done_and_indexes_being_built(
    cluster: Cluster,
    fresh_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(
        source.database,
        "CREATE TABLE t AS SELECT i, repeat('x', 99) FROM generate_series(1, 9000) i;"
        "CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        f" $$ BEGIN {gates.WAIT} RETURN $1; END $$;"
        "CREATE INDEX slowly ON t (slow(i)); CREATE TABLE u (i int);",
    )
    words = re.compile(r"  copy: .* of about .* 2 of 2 tables, building slowly\n")
    monkeypatch.setattr("pgtasks.report.Progress._EVERY", 0.0)
    with gates.shut(cluster) as opened, Lock(target, "db.copy") as lock:

        class Log(io.StringIO):
            """A log until whose line the index is not built."""

            def write(self, text: str) -> int:
                if words.search(text):
                    opened()
                return super().write(text)

        monkeypatch.setattr(sys, "stderr", log := Log())
        copy(
            *(Origin(Reached(source), known(source)), lock, HERE, KEEP),
            console=Console(),
            agreed=lambda plan: True,
        )
    assert words.search(log.getvalue()), log.getvalue()


CRON = """
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigint PRIMARY KEY, command text);
SELECT pg_catalog.pg_extension_config_dump('cron.job', '');
"""


def test_jobs_of_pg_cron_stay_where_they_are(
    cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    folder = cluster18.folder / "share" / "extension"
    folder.mkdir(parents=True)
    (folder / "pg_cron.control").write_text("default_version = '1.0'\n", encoding="utf-8")
    (folder / "pg_cron--1.0.sql").write_text(CRON, encoding="utf-8")
    for path in (folder.parent, folder, *folder.iterdir()):
        path.chmod(0o755)
    path = f"ALTER ROLE postgres SET extension_control_path = '$system:{folder.parent}'"
    cluster18.execute(path)
    try:
        source, target = pair(cluster18, cluster18, fresh_database)
        cluster18.execute("CREATE EXTENSION pg_cron; CREATE TABLE t AS SELECT 1", source.database)
        cluster18.execute("INSERT INTO cron.job VALUES (1, 'SELECT 1')", source.database)
        copied(source, target)
        assert cluster18.value("SELECT count(*) FROM cron.job", target.database) == 0
        with pytest.raises(Refused, match="the jobs of pg_cron would come with them"):
            copied(source, target, rows=False, template=True)
        assert cluster18.value("SELECT count(*) FROM t", target.database) == 1
    finally:
        cluster18.execute("ALTER ROLE postgres RESET extension_control_path")


def test_grants_on_a_language_are_counted_once_beside_large_objects(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    cluster.psql(
        source.database,
        "REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC; SELECT lo_from_bytea(4711, 'x');",
    )
    copied(source, target)
    assert text(cluster, target.database) == text(cluster, source.database)
    assert cluster.value("SELECT lo_get(4711)", target.database).tobytes() == b"x"


def test_what_an_owner_has_not_may_be_printed_otherwise_by_a_newer_server(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster18, fresh_database)
    cluster.psql(
        source.database,
        "CREATE TABLE nobodys (i int); REVOKE ALL ON nobodys FROM CURRENT_USER;"
        "CREATE TABLE less (i int); REVOKE DELETE ON less FROM CURRENT_USER;"
        "GRANT SELECT, TRIGGER ON less TO pg_monitor; GRANT ALL ON less TO PUBLIC;",
    )
    copied(source, target)
    acl = "SELECT relacl::text FROM pg_class WHERE relname = 'nobodys'"
    assert (
        cluster18.value(acl, target.database)
        == f"{{{cluster18.superuser}=m/{cluster18.superuser}}}"
    )
    assert cluster.value(acl, source.database) == "{}"
