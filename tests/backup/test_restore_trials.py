"""What stops a restore and shows only when it is tried, or in the server's own folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rewriting
from paths import TEMPORARY
from projects import make_project, put_stamp
from servers import Cluster

from backups import local_backup
from pgtasks.backup.format import names

# as pg_cron: it can be created in the database of one name
FUSSY = """
DO $$ BEGIN
  IF current_database() <> '{name}' THEN
    RAISE EXCEPTION 'can only create extension in database {name}';
  END IF;
END $$;
CREATE TABLE fussy_job (n serial, what text);
SELECT pg_extension_config_dump('fussy_job', '');
SELECT pg_extension_config_dump('fussy_job_n_seq', '');
"""


@pytest.fixture
def fussy(cluster18: Cluster) -> Iterator[str]:
    """Return the name of a database with an extension that wants to be in that one alone."""
    folder = Path(tempfile.mkdtemp(prefix="pgt-ext-", dir=TEMPORARY))
    folder.chmod(0o755)
    place = folder / "extension"
    place.mkdir(mode=0o755)
    name = cluster18.create()
    (place / "fussy.control").write_text("default_version = '1.0'\nrelocatable = false\n")
    (place / "fussy--1.0.sql").write_text(FUSSY.replace("{name}", name))
    cluster18.execute(f"ALTER SYSTEM SET extension_control_path = '$system:{folder}'")
    cluster18.execute("SELECT pg_reload_conf()")
    try:
        cluster18.execute(
            """
            CREATE EXTENSION fussy;
            INSERT INTO fussy_job (what) VALUES ('every night');
            CREATE TABLE own AS SELECT 1 AS n;
            """,
            name,
        )
        put_stamp(cluster18.target(name))
        yield name
    finally:
        cluster18.drop(name)
        cluster18.execute("ALTER SYSTEM RESET extension_control_path")
        cluster18.execute("SELECT pg_reload_conf()")
        shutil.rmtree(folder)


def test_an_extension_that_wants_its_own_database_is_named_before_any_row_is_loaded(
    cluster18: Cluster, fussy: str, inv: Any, tmp_path: Path
) -> None:
    root = make_project(tmp_path / "shop", cluster18.url(fussy))
    assert inv("db.backup", cwd=root).returncode == 0
    plan = inv("db.restore", "--dry", cwd=root)
    assert "not tried under --dry: CREATE EXTENSION fussy" in plan.stdout
    refused = inv("db.restore", cwd=root)
    assert refused.returncode == 2
    assert "extension fussy cannot be created in a database beside" in refused.stderr
    assert f"can only create extension in database {fussy}" in refused.stderr
    assert "loaded" not in refused.stderr
    assert [name for name in cluster18.databases() if name.startswith(f"{fussy}__")] == []
    flags = ("--leave-out", "extension fussy", "--confirm", fussy)
    done = inv("db.restore", *flags, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "without  table data public.fussy_job" in done.stderr
    assert cluster18.value("SELECT count(*) FROM own", fussy) == 1
    cluster18.execute("CREATE EXTENSION fussy", fussy)


def test_a_tablespace_that_is_not_here_is_done_without(
    cluster: Cluster, cluster18: Cluster, database: str, project: Path, inv: Any
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pgt-space-", dir=TEMPORARY))
    shutil.chown(folder, user=(cluster.folder / "data").stat().st_uid)
    cluster.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    other = cluster18.create()
    (project / "env" / "test.yaml").write_text(f"url: '{cluster18.url(other)}'\n")
    try:
        cluster.execute(
            "CREATE TABLE t (n int PRIMARY KEY) TABLESPACE elsewhere; INSERT INTO t VALUES (1)",
            database,
        )
        assert inv("db.backup").returncode == 0
        (backup,) = project.glob("backups/dev/*/*/manifest.json")
        args = ("--env", "test", "--backup", str(backup.parent))
        done = inv("db.restore", *args, "--as-superuser", "--confirm", other)
        assert done.returncode == 0, done.stderr
        assert "tablespace 'elsewhere' is not here to use" in done.stderr
        assert cluster18.value("SELECT count(*) FROM t", other) == 1
    finally:
        cluster18.drop(other)
        cluster.execute("DROP TABLE IF EXISTS t", database)
        cluster.execute("DROP TABLESPACE elsewhere")
        shutil.rmtree(folder)


def test_a_lost_database_comes_back_without_its_own_tablespace(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pgt-space-", dir=TEMPORARY))
    shutil.chown(folder, user=(cluster.folder / "data").stat().st_uid)
    cluster.execute(f"CREATE TABLESPACE home LOCATION '{folder}'")
    try:
        cluster.execute("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)", database)
        cluster.execute(f'ALTER DATABASE "{database}" SET TABLESPACE home')
        assert inv("db.backup").returncode == 0
    finally:
        cluster.drop(database)
        cluster.execute("DROP TABLESPACE home")
        shutil.rmtree(folder)
    done = inv("db.restore", "--as-superuser", "--confirm", database)
    assert done.returncode == 0, done.stderr
    assert "the database's tablespace 'home' is not here to use: it is in pg_default" in done.stderr
    assert cluster.value("SELECT count(*) FROM t", database) == 1


def test_a_lost_database_whose_locale_is_not_here_names_the_way_on(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.execute("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)", database)
    assert inv("db.backup").returncode == 0
    (manifest,) = project.glob("backups/dev/*/*/manifest.json")
    klingon = dict.fromkeys(("collate", "ctype"), "tlh_QO.UTF-8")
    rewriting.put_json(local_backup(manifest.parent), names.DATABASE, klingon)
    cluster.drop(database)
    flags = ("--as-superuser", "--confirm", database)
    refused = inv("db.restore", *flags)
    assert refused.returncode == 2
    assert "the database's locale cannot be had here" in refused.stderr
    assert "tlh_QO" in refused.stderr
    assert inv("db.create").returncode == 0
    done = inv("db.restore", *flags)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(*) FROM t", database) == 1


ACTING = """
CREATE TABLE part (id int, v text) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
INSERT INTO part SELECT 1 + i % 2, 'as it was' FROM generate_series(1, 50000) i;
CREATE TABLE parent (v int);
CREATE TABLE child () INHERITS (parent);
INSERT INTO child SELECT -i FROM generate_series(1, 50000) i;
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN NEW.v := ''changed''; RETURN NEW; END';
CREATE TRIGGER changing BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION change();
ALTER TABLE parent ADD CONSTRAINT positive CHECK (v > 0) NOT VALID;
COMMENT ON TRIGGER changing ON part IS 'from now on';
"""


def test_what_a_parent_has_does_not_act_on_rows_that_are_loaded(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.psql(database, ACTING)
    assert inv("db.backup").returncode == 0
    done = inv("db.restore", "--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert "proven in" in done.stderr
    cluster.execute("INSERT INTO part VALUES (1, 'new')", database)
    assert cluster.value("SELECT count(*) FROM part WHERE v = 'changed'", database) == 1


HOSTILE = {
    **dict.fromkeys(("quote_all_identifiers", "transform_null_equals", "exit_on_error"), "on"),
    **dict.fromkeys(("array_nulls", "standard_conforming_strings"), "off"),
    "default_transaction_isolation": "serializable",
    **dict.fromkeys(("idle_session_timeout", "idle_in_transaction_session_timeout"), "1"),
}


def test_settings_of_the_database_do_not_change_what_is_loaded(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.psql(
        database,
        r"""
        CREATE TABLE odd (a int[], t text DEFAULT 'a\b');
        INSERT INTO odd VALUES ('{1,NULL}');
        CREATE VIEW empty AS SELECT * FROM odd WHERE a = NULL;
        CREATE FUNCTION twice(x text DEFAULT 'q\') RETURNS text LANGUAGE sql AS $$ SELECT x || x $$;
        """,
    )
    for name, value in HOSTILE.items():
        cluster.execute(f"ALTER DATABASE \"{database}\" SET {name} TO '{value}'")
    assert inv("db.backup").returncode == 0
    done = inv("db.restore")
    assert done.returncode == 0, done.stderr
    assert "proven in" in done.stderr
    assert "printed differently" not in done.stderr
    cluster.execute(f'ALTER DATABASE "{database}" RESET ALL')  # a millisecond ends our own session
    assert cluster.value("SELECT count(*) FROM empty", database) == 0


def test_rows_that_belong_into_another_partition_now_are_compared_with_the_whole(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    partitions = "".join(
        f'CREATE TABLE part_{n} PARTITION OF "a.b"."odd ""name" FOR VALUES'
        f" WITH (MODULUS 8, REMAINDER {n});"
        for n in range(8)
    )
    cluster.psql(
        database,
        f"""
        CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
        CREATE SCHEMA "a.b";
        CREATE TABLE "a.b"."odd ""name" (c colour, n int) PARTITION BY HASH (c);
        {partitions}
        INSERT INTO "a.b"."odd ""name" VALUES ('red', 1), ('green', 2), ('green', 3), ('blue', 4);
        """,
    )
    assert inv("db.backup").returncode == 0
    for _ in range(3):  # the hashes are of OIDs, which are others each time
        done = inv("db.restore")
        assert done.returncode == 0, done.stderr
        assert "1 of 1 table identical, 4 rows" in done.stderr
