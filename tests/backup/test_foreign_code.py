"""What a database's owner wrote, and a backup by a mightier role does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from servers import Cluster

from backups import make
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.views import BackupMade, BackupShown
from pgtasks.server import connection, proof

Fresh = Callable[..., str]

# what each would do with the rights of who runs it
SPEAKS = """
CREATE FUNCTION speak() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF current_user <> 'plain_owner' THEN RAISE EXCEPTION 'ran as %', current_user; END IF;
  RETURN 1;
END $$;
CREATE TYPE mood AS ENUM ('a', 'b');
"""
# quietly, as no volatile function may be named there
QUIET = """
CREATE FUNCTION quiet(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RETURN $1 + public.speak() - 1; END $$;
"""
CAST = """
CREATE FUNCTION told(mood) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM public.speak(); RETURN 'x'; END $$;
CREATE CAST (mood AS text) WITH FUNCTION told(mood);
"""
WAYS = {
    "a cast": f"{SPEAKS}{CAST} CREATE TABLE t (m mood); INSERT INTO t VALUES ('a'), (NULL)",
    "a cast below a domain": f"{SPEAKS}{CAST} CREATE DOMAIN d AS mood; CREATE TABLE t (m d);"
    "INSERT INTO t VALUES ('a'), (NULL)",
    "a cast of an array": f"{SPEAKS}"
    "CREATE FUNCTION told(mood[]) RETURNS text LANGUAGE plpgsql AS $$"
    "BEGIN PERFORM public.speak(); RETURN 'x'; END $$;"
    "CREATE CAST (mood[] AS text) WITH FUNCTION told(mood[]);"
    "CREATE TABLE t (m mood[]); INSERT INTO t VALUES ('{a}'), (NULL)",
    "a foreign key's cast": f"{SPEAKS}"
    "CREATE FUNCTION told(mood) RETURNS int LANGUAGE plpgsql AS $$"
    "BEGIN PERFORM public.speak(); RETURN 1; END $$;"
    "CREATE CAST (mood AS int) WITH FUNCTION told(mood) AS IMPLICIT;"
    "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);"
    "CREATE TABLE t (m mood REFERENCES p); INSERT INTO t VALUES ('a')",
    "an index's expression": f"{SPEAKS}{QUIET} CREATE TABLE t (a int); INSERT INTO t VALUES (1);"
    "CREATE INDEX ON t ((a + quiet(1)))",
    "an index's condition": f"{SPEAKS}{QUIET} CREATE TABLE t (a int); INSERT INTO t VALUES (1);"
    "CREATE INDEX ON t (a) WHERE a > quiet(1)",
    "statistics": f"{SPEAKS}{QUIET} CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2);"
    "CREATE STATISTICS s ON (a + quiet(1)), b FROM t",
    "a version table's index": f"{SPEAKS}{QUIET} CREATE TABLE t (version_num varchar);"
    "INSERT INTO t VALUES ('a1'); CREATE INDEX ON t ((length(version_num) + quiet(1)))",
}


@pytest.fixture
def owned(cluster: Cluster, fresh_database: Fresh) -> str:
    """Return a database of a plain role."""
    if not cluster.value("SELECT count(*) FROM pg_roles WHERE rolname = 'plain_owner'"):
        cluster.execute("CREATE ROLE plain_owner LOGIN")
    name = fresh_database(cluster, owner="plain_owner")
    cluster.execute("GRANT ALL ON SCHEMA public TO plain_owner", name)
    return name


@pytest.mark.parametrize("way", WAYS)
def test_a_backup_by_a_superuser_runs_none_of_it(
    cluster: Cluster, owned: str, tmp_path: Path, way: str
) -> None:
    cluster.execute(f"SET ROLE plain_owner; {WAYS[way]}", owned)
    made = make(cluster.target(owned), tmp_path)
    unproven = made.proof().unproven  # type: ignore[union-attr]
    assert not any("ran as" in item.reason for item in unproven)
    named = {item.object for item in unproven}
    planned = way.startswith(("an index", "statistics", "a version"))
    assert named == ({"table public.t"} if planned else set())
    # its owner, whose code it is, proves it all
    own = proof.take(replace(cluster.target(owned), user="plain_owner"))
    assert own.unproven == ()


def test_a_backup_says_that_it_has_not_counted_a_table(
    cluster: Cluster, owned: str, tmp_path: Path
) -> None:
    rows = "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1), (2), (3)"
    cluster.execute(f"SET ROLE plain_owner; {WAYS['statistics']}; {rows}", owned)
    cluster.execute("CREATE TABLE left_out (a int)", owned)
    made = make(cluster.target(owned), tmp_path, exclude_table_data=("left_out",))
    assert ": 3 tables, 3 rows (1 table not counted), " in BackupMade(made).lines()[0]
    assert "rows      3 (1 table not counted)" in BackupShown(made).lines()
    assert "3 tables, 3 rows (1 table not counted).\n" in (made.path / "README.txt").read_text()
    (read,) = LocalStore(tmp_path).list().backups
    assert (read.manifest.shown_rows, read.manifest.uncounted) == ("3+", 1)
    cluster.execute(
        "DROP TABLE left_out", owned
    )  # of a superuser, whose data its owner may not read
    own = make(replace(cluster.target(owned), user="plain_owner"), tmp_path)
    assert (own.manifest.shown_rows, own.manifest.uncounted) == (4, 0)
    assert "uncounted" not in own.manifest.as_json()


def test_it_would_have_run(cluster: Cluster, owned: str) -> None:
    cluster.execute(f"SET ROLE plain_owner; {WAYS['statistics']}", owned)
    with pytest.raises(Exception, match="ran as postgres"):
        cluster.execute("SELECT count(*) FROM t", owned)


def test_a_type_of_ones_own_has_the_hash_of_its_text(
    any_cluster: Cluster, fresh_database: Fresh
) -> None:
    """By the output function as by the cast, where nobody made one: old proofs are compared so."""
    name = fresh_database(any_cluster)
    any_cluster.execute(
        "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN d AS int; CREATE TYPE r AS RANGE (subtype = int);"
        "CREATE TABLE t (a mood, b mood[], c pair, d d, e r, f pair[]);"
        "INSERT INTO t VALUES ('a', '{a,NULL}', '(1,x)', 3, '[1,2)', '{\"(1,)\"}'),"
        " (NULL, NULL, NULL, NULL, NULL, NULL), ('b', '{}', '(,)', NULL, 'empty', '{}')",
        name,
    )
    (table,) = proof.take(any_cluster.target(name)).tables
    by_cast = any_cluster.value(
        "SELECT sum(hash_numeric_extended(hash_record_extended(ROW("
        + ", ".join(f'{column}::text COLLATE "C"' for column in "abcdef")
        + "), 0), 0))::text FROM t",
        name,
    )
    assert table.fingerprint == by_cast


def test_a_view_that_takes_a_tables_name_is_not_read(any_cluster: Cluster, target: Any) -> None:
    known = "SELECT count(*) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"
    if not any_cluster.value(known):
        pytest.skip("this release does not know it")
    with connection.session(any_cluster.target()) as conn:
        assert (
            connection.value(conn, "SHOW restrict_nonsystem_relation_kind") == "view, foreign-table"
        )
    with connection.session(any_cluster.target(), own_path=True) as conn:
        assert connection.value(conn, "SHOW restrict_nonsystem_relation_kind") == ""


# a table's owner says whom a policy is for, and may keep himself to it
POLICY = """
CREATE FUNCTION told() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN PERFORM public.speak(); RETURN true; END $$;
CREATE TABLE t (a int); INSERT INTO t VALUES (1);
CREATE POLICY p ON t USING (told());
ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
"""
# read without ONLY, the table of the usual name would plan it
CHILD = """
CREATE TABLE alembic_version (version_num varchar);
CREATE TABLE t (CHECK (true)) INHERITS (alembic_version);
INSERT INTO t VALUES ('a1');
CREATE INDEX ON t ((length(version_num) + quiet(1)));
"""
# a key of a table that a backup leaves out, and of partitions by an expression
LEFT_OUT = """
CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p);
CREATE INDEX ON t ((a + quiet(1)));
"""
PARTED = """
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE t (a int REFERENCES p) PARTITION BY RANGE ((a + quiet(1)));
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
"""


def spoke(cluster: Cluster) -> int:
    """Return how often somebody else's rights were noticed, as the server's log has it."""
    return (cluster.folder / "log").read_text(errors="replace").count("ERROR:  ran as ")


@pytest.fixture
def deploy(cluster: Cluster) -> str:
    """Return a role that is a member of the owner, and no superuser."""
    if not cluster.value("SELECT count(*) FROM pg_roles WHERE rolname = 'plain_deploy'"):
        cluster.execute("CREATE ROLE plain_deploy LOGIN CREATEDB IN ROLE pg_read_all_data")
    cluster.execute("GRANT plain_owner TO plain_deploy")
    return "plain_deploy"


def test_setup_by_a_superuser_runs_none_of_it(
    inv: Any, cluster: Cluster, owned: str, tmp_path: Path
) -> None:
    cluster.execute(f"SET ROLE plain_owner; {WAYS['an index' + chr(39) + 's expression']}", owned)
    cluster.execute("SET ROLE plain_owner; CREATE TABLE u (a int); INSERT INTO u VALUES (1)", owned)
    put_stamp(cluster.target(owned))
    root = make_project(tmp_path / "shop", cluster.target(owned).url())
    before = spoke(cluster)
    done = inv("setup", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    assert spoke(cluster) == before
    check = json.loads(done.stdout)["steps"][-1]
    assert check["details"] == {"tables": 2, "rows": 1, "uncounted": ["public.t"]}
    assert "1 row in 2 tables, without those of public.t: " in check["text"]


def test_no_count_runs_a_row_policy(
    inv: Any, cluster: Cluster, owned: str, deploy: str, tmp_path: Path
) -> None:
    cluster.execute("SET ROLE plain_owner; CREATE TABLE u (a int)", owned)
    target = replace(cluster.target(owned), user=deploy)
    put_stamp(cluster.target(owned))
    root = make_project(tmp_path / "shop", target.url())
    assert inv("db.backup", cwd=root).returncode == 0
    cluster.execute(f"SET ROLE plain_owner; {SPEAKS} {POLICY}", owned)
    before = spoke(cluster)
    for task in (("db.restore", "--dry"), ("setup",)):
        done = inv(*task, cwd=root)
        assert done.returncode == 0, done.stderr
    assert spoke(cluster) == before
    # it would have
    with (
        cluster.connect(owned, user=deploy).cursor() as cursor,
        pytest.raises(Exception, match="ran as"),
    ):
        cursor.execute("SELECT count(*) FROM t")


@pytest.mark.parametrize(("made", "without"), [(CHILD, ()), (LEFT_OUT, ("t",)), (PARTED, ())])
def test_nothing_that_a_backup_asks_beside_the_proof_runs_any(
    cluster: Cluster, owned: str, tmp_path: Path, made: str, without: tuple[str, ...]
) -> None:
    cluster.execute(f"SET ROLE plain_owner; {SPEAKS} {QUIET} {made}", owned)
    before = spoke(cluster)
    make(cluster.target(owned), tmp_path, exclude_table_data=without)
    assert spoke(cluster) == before


def test_no_session_of_ours_plans_constraints_or_runs_policies(
    any_cluster: Cluster, fresh_database: Fresh
) -> None:
    name = fresh_database(any_cluster)
    for setting in ("row_security", "constraint_exclusion"):
        any_cluster.execute(f'ALTER DATABASE "{name}" SET {setting} = on')
    with connection.session(any_cluster.target(name)) as conn:
        assert connection.value(conn, "SHOW row_security") == "off"
        assert connection.value(conn, "SHOW constraint_exclusion") == "off"
