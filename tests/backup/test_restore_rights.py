"""As whom a restore loads: what a backup's source wrote gets no superuser's rights by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rewriting
from projects import make_project, put_stamp
from psycopg2 import sql
from restores import logins, save
from servers import Cluster

from pgtasks.backup.store.local import LocalStore
from pgtasks.database import loader, properties, recover
from pgtasks.server import connection
from pgtasks.server.lock import Lock

Inv = Callable[..., Any]

# What the application's role of production plants. It runs while rows are loaded, where no
# security-restricted operation keeps SET ROLE from it, and while the index is built.
PLANTED = """
CREATE TABLE loot (n int);
CREATE FUNCTION planted(text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
  BEGIN
    PERFORM set_config('role', 'none', false);
    PERFORM set_config('session_authorization', 'default', false);
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  BEGIN
    EXECUTE 'CREATE ROLE planted_role';  -- of those who are here a superuser alone can
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  RETURN true;
END $f$;
CREATE FUNCTION indexed(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
AS 'BEGIN RETURN public.planted($1); END';
CREATE TABLE bait (name text CHECK (public.planted(name)));
CREATE INDEX ON bait (public.indexed(name));
INSERT INTO bait SELECT 'name ' || n FROM generate_series(1, 10) n;
"""


@pytest.fixture(scope="module")
def shop_plain(cluster: Cluster) -> Iterator[str]:
    """Make the role of production; its databases go before it, by their own fixtures."""
    cluster.execute("CREATE ROLE shop_plain LOGIN CREATEDB")
    yield "shop_plain"
    cluster.execute("DROP ROLE shop_plain")


@pytest.fixture
def people(shop_plain: str, cluster: Cluster, cluster18: Cluster) -> None:
    """Make the other roles of both servers."""
    cluster18.execute("DROP ROLE IF EXISTS shop_plain")
    for server in (cluster, cluster18):
        server.execute("DROP ROLE IF EXISTS dev_plain, planted_role")
        server.execute("CREATE ROLE dev_plain")


def got_through(cluster: Cluster) -> bool:
    """Return whether what was planted ran with the rights of a superuser."""
    return bool(cluster.execute("SELECT 1 FROM pg_roles WHERE rolname = 'planted_role'"))


def run_as_plain(cluster: Cluster, name: str, statements: str) -> None:
    with connection.session(replace(cluster.target(name), user="shop_plain")) as conn:
        connection.execute(conn, "SET search_path = public")
        connection.execute(conn, statements)


@pytest.fixture(scope="module")
def production(
    shop_plain: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a project with a backup of prod, the database of a plain role."""
    prod = cluster.create(owner=shop_plain)
    run_as_plain(cluster, prod, PLANTED)
    put_stamp(cluster.target(prod, environment="prod"))
    root = make_project(
        tmp_path_factory.mktemp("prod") / "shop", cluster.url(prod), environment="prod"
    )
    save(root, "--env", "prod")
    yield root
    cluster.drop(prod)


@pytest.fixture
def site(
    people: None,
    production: Path,
    cluster18: Cluster,
    fresh_database: Callable[..., str],
    tmp_path: Path,
) -> Path:
    """Return a copy of it, with a dev on another server that a superuser connects to."""
    dev = fresh_database(cluster18, owner="dev_plain")
    put_stamp(cluster18.target(dev))
    root = shutil.copytree(production, tmp_path / "shop")
    (root / "env" / "dev.yaml").write_text(f"url: '{cluster18.url(dev)}'\n")
    return root


@pytest.fixture
def mine(
    people: None, cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> tuple[str, Path]:
    """Return a database of a plain role, and a project that connects to it as a superuser."""
    name = fresh_database(cluster, owner="shop_plain")
    put_stamp(cluster.target(name))
    return name, make_project(tmp_path / "shop", cluster.url(name))


def backup_of(root: Path) -> str:
    (manifest,) = root.glob("backups/prod/*/*/manifest.json")
    return str(manifest.parent)


def database_of(root: Path, environment: str = "dev") -> str:
    text = (root / "env" / f"{environment}.yaml").read_text()
    return text.partition("/t")[2].partition("?")[0].join(("t", ""))


def test_production_into_dev_works_at_the_first_try_and_runs_nothing_as_a_superuser(
    site: Path, cluster18: Cluster, inv: Inv
) -> None:
    done = inv("db.restore", "--backup", backup_of(site), cwd=site)
    assert done.returncode == 0, done.stderr
    assert (
        "all objects will belong to 'dev_plain', without grants: role 'shop_plain' of the"
        in done.stderr
    )
    assert "identical" in done.stdout
    dev = database_of(site)
    owners = cluster18.execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", dev
    )
    assert owners == [("dev_plain",)]
    assert cluster18.value("SELECT count(*) FROM bait", dev) == 10
    assert not got_through(cluster18)
    assert logins(cluster18, dev) == []


def test_a_superusers_rights_are_asked_for(site: Path, cluster18: Cluster, inv: Inv) -> None:
    """Where the result would belong to a superuser; asked for, what was planted has its way."""
    dev = database_of(site)
    cluster18.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(dev)))
    args = ("db.restore", "--backup", backup_of(site))
    refused = inv(*args, cwd=site)
    assert refused.returncode == 2
    assert "would belong to 'postgres', a superuser: give the database a plain" in refused.stderr
    assert "--as-superuser" in refused.stderr
    assert not got_through(cluster18)
    done = inv(*args, "--as-superuser", "--confirm", dev, cwd=site)
    assert done.returncode == 0, done.stderr
    assert "runs with the rights of a superuser" in done.stderr
    assert got_through(cluster18)


def test_owners_are_kept_where_that_is_asked_for(site: Path, cluster18: Cluster, inv: Inv) -> None:
    args = ("db.restore", "--backup", backup_of(site), "--keep-owners")
    refused = inv(*args, cwd=site)
    assert refused.returncode == 2
    assert "role 'shop_plain' does not exist here" in refused.stderr
    cluster18.execute("CREATE ROLE shop_plain")
    refused = inv(*args, cwd=site)
    assert refused.returncode == 2
    assert (
        "role 'shop_plain' owning something in it beside the owner, 'dev_plain'" in refused.stderr
    )
    assert "or --as-superuser" in refused.stderr
    dev = database_of(site)
    done = inv(*args, "--as-superuser", "--confirm", dev, cwd=site)
    assert done.returncode == 0, done.stderr
    owner = cluster18.value("SELECT tableowner FROM pg_tables WHERE tablename = 'bait'", dev)
    assert owner == "shop_plain"


def test_a_restore_of_ones_own_runs_as_the_plain_owner_too(
    site: Path, cluster: Cluster, inv: Inv
) -> None:
    """A superuser connects, the database is a plain role's: what it planted waits in vain."""
    prod = database_of(site, "prod")
    done = inv("db.restore", "--env", "prod", "--confirm", prod, cwd=site)
    assert done.returncode == 0, done.stderr
    assert not got_through(cluster)
    owner = cluster.value("SELECT tableowner FROM pg_tables WHERE tablename = 'bait'", prod)
    assert owner == "shop_plain"
    assert logins(cluster, prod) == []


def test_what_only_a_superuser_restores_is_named_before_anything_is_touched(
    mine: tuple[str, Path], cluster: Cluster, inv: Inv
) -> None:
    name, root = mine
    cluster.execute(
        """
        CREATE FUNCTION one(integer) RETURNS integer LANGUAGE internal STRICT AS 'int4abs';
        CREATE PUBLICATION every FOR ALL TABLES;
        CREATE TYPE later;
        GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO shop_plain;
        CREATE TABLE t (n int);
        ALTER TABLE t OWNER TO shop_plain;
        CREATE FUNCTION tight(integer) RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT $1';
        CREATE FUNCTION loose(integer) RETURNS integer LANGUAGE plpgsql AS $$
        BEGIN
            /*
    LANGUAGE sql LEAKPROOF SUPPORT x */
            RETURN $1;
        END $$;
        CREATE FUNCTION helped(integer, integer) RETURNS SETOF integer LANGUAGE sql
          SUPPORT pg_catalog.generate_series_int4_support AS 'SELECT $1';
        CREATE OPERATOR FAMILY own USING btree;
        CREATE OPERATOR CLASS own FOR TYPE integer USING btree FAMILY own
          AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
             FUNCTION 1 btint4cmp(integer, integer);
        CREATE TEXT SEARCH PARSER words (START = prsd_start, GETTOKEN = prsd_nexttoken,
          END = prsd_end, LEXTYPES = prsd_lextype);
        CREATE TEXT SEARCH TEMPLATE plain (INIT = dsimple_init, LEXIZE = dsimple_lexize);
        GRANT SELECT ON t TO dev_plain WITH GRANT OPTION;
        SET ROLE dev_plain;
        GRANT SELECT ON t TO PUBLIC;
        """,
        name,
    )
    assert inv("db.backup", cwd=root).returncode == 0
    refused = inv("db.restore", cwd=root)
    assert refused.returncode == 2
    assert "function public.one(integer): is written in C" in refused.stderr
    assert "publication every: is for all tables" in refused.stderr
    assert ": --leave-out 'publication every' restores without, or --as-super" in refused.stderr
    for words in (
        "function public.tight(integer): is leakproof",
        "function public.helped(integer, integer): has a support function",
        "operator class public.own: it is of kind",
        "operator family public.own: it is of kind",
        "text search parser public.words: it is of kind",
        "text search template public.plain: it is of kind",
        "type public.later: is a shell type",
        "public.t: is granted by another role than the owner",
    ):
        assert words in refused.stderr, refused.stderr
    assert "loose" not in refused.stderr
    assert "pg_reload_conf(): it grants what is in pg_catalog" in refused.stderr
    assert "role 'postgres' owning something in it beside the owner" in refused.stderr
    done = inv("db.restore", "--as-superuser", "--confirm", name, cwd=root)
    assert done.returncode == 0, done.stderr


def test_what_shows_only_in_the_load_names_the_way_out(
    mine: tuple[str, Path], cluster: Cluster, inv: Inv
) -> None:
    name, root = mine
    cluster.execute(
        """
        CREATE FUNCTION quiet() RETURNS integer LANGUAGE sql SET log_statement = 'none'
          AS 'SELECT 1';
        ALTER FUNCTION quiet() OWNER TO shop_plain;
        """,
        name,
    )
    assert inv("db.backup", cwd=root).returncode == 0
    failed = inv("db.restore", cwd=root)
    assert failed.returncode == 1
    assert "'shop_plain' may not restore it: --as-superuser restores it" in failed.stderr
    assert "--no-owner" not in failed.stderr
    assert logins(cluster, name) == []
    done = inv("db.restore", "--as-superuser", "--confirm", name, cwd=root)
    assert done.returncode == 0, done.stderr


def test_the_login_of_a_killed_restore_goes_with_the_next_run(
    site: Path, cluster18: Cluster, inv: Inv
) -> None:
    dev = database_of(site)
    role = loader.name(dev, "261128085905d4")
    other = loader.name("another", "261128085905d4")
    for each in (role, other):
        cluster18.execute(f"CREATE ROLE {each} LOGIN IN ROLE dev_plain")
        cluster18.execute(f"COMMENT ON ROLE {each} IS '{loader.MARK}'")
    try:
        checked = inv("db.check", cwd=site).stdout
        assert f"role '{role}', the login of a restore: inv db.recover drops it" in checked
        assert other not in checked
        done = inv("db.recover", cwd=site)
        assert f"dropped role '{role}', the login of a restore" in done.stdout
        assert logins(cluster18, dev) == []
        assert logins(cluster18, "another") == [(other,)]
    finally:
        cluster18.execute(f"DROP ROLE {other}")


def test_a_login_that_is_left_stops_no_plain_role(
    people: None, cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    """What a superuser's killed restore left a plain role names; what has no mark nobody drops."""
    name = fresh_database(cluster, owner="shop_plain")
    target = replace(cluster.target(name), user="shop_plain")
    role, unmarked = (loader.name(name, f"2611280859{end}") for end in ("05d4", "06d4"))
    try:
        for each in (role, unmarked):
            cluster.execute(f"CREATE ROLE {each} LOGIN IN ROLE shop_plain")
        cluster.execute(f"COMMENT ON ROLE {role} IS '{loader.MARK}'")
        with Lock(target, "test") as lock:
            (line,) = recover.heal(lock)
        assert f"left role '{role}', the login of a restore that was interrupted: " in line
        assert "permission denied" in line
        with Lock(cluster.target(name), "test") as lock:
            assert recover.heal(lock) == [line.replace("left", "dropped").partition(": ")[0]]
        assert logins(cluster, name) == [(unmarked,)]
    finally:
        cluster.execute(f"DROP ROLE IF EXISTS {role}, {unmarked}")


def test_settings_that_lead_others_come_with_a_strangers_backup_only_if_asked_for(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    name = sql.Identifier(database)
    for statement in (
        "ALTER DATABASE {} SET work_mem = '7MB'",
        "ALTER ROLE postgres IN DATABASE {} SET search_path = 'planted'",
        "ALTER DATABASE {} SET session_replication_role = 'origin'",
    ):
        cluster.execute(sql.SQL(statement).format(name))
    assert inv("db.backup").returncode == 0
    cluster.drop(database)
    (project / "backups" / "journal.jsonl").unlink()
    done = inv("db.restore", "--as-superuser", "--confirm", database)
    assert done.returncode == 0, done.stderr
    assert "setting  work_mem = '7MB'" in done.stderr
    not_laid = "setting  not laid, --with-settings does: "
    assert f"{not_laid}session_replication_role = 'origin'" in done.stderr
    assert f"{not_laid}search_path = 'planted' for role 'postgres'" in done.stderr
    laid = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
    assert cluster.execute(f"{laid} WHERE datname = %s", parameters=(database,)) == [
        (["work_mem=7MB"],)
    ]


@pytest.mark.parametrize("mighty", ["pg_execute_server_program", "another_superuser"])
def test_an_owner_with_a_superusers_rights_by_membership_is_no_plain_one(
    site: Path, cluster18: Cluster, inv: Inv, mighty: str
) -> None:
    cluster18.execute("CREATE ROLE another_superuser SUPERUSER")
    try:
        cluster18.execute(
            f"CREATE ROLE between; GRANT {mighty} TO between; GRANT between TO dev_plain"
        )
        refused = inv("db.restore", "--backup", backup_of(site), cwd=site)
        assert refused.returncode == 2
        assert f"would belong to 'dev_plain', a member of '{mighty}': give the" in refused.stderr
        assert not got_through(cluster18)
    finally:
        cluster18.execute("DROP ROLE between, another_superuser")


def test_a_drop_can_be_undone_where_another_role_owns_the_kept_one(
    site: Path, cluster18: Cluster, inv: Inv
) -> None:
    """The target's owner would tell that the kept one is ours, and goes with the target."""
    dev = database_of(site)
    assert inv("db.restore", "--backup", backup_of(site), cwd=site).returncode == 0
    dropped = inv("db.drop", "--yes", cwd=site)
    assert dropped.returncode == 0, dropped.stderr
    assert "inv db.undo brings it back" in dropped.stdout
    undone = inv("db.undo", cwd=site)
    assert undone.returncode == 0, undone.stderr
    assert dev in cluster18.databases()


PLANTING = """
CREATE FUNCTION planted(text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
  IF position('__new_' IN current_database()) > 0 THEN
    %s
  END IF;
  RETURN true;
END $f$;
CREATE TABLE bait (name text CHECK (public.planted(name)));
INSERT INTO bait VALUES ('x');
"""


@pytest.fixture
def owned(mine: tuple[str, Path], cluster: Cluster, inv: Inv) -> Callable[[str], tuple[str, Path]]:
    """Return what makes a backup of the plain role's database whose load runs statements."""

    def make(statements: str) -> tuple[str, Path]:
        name, root = mine
        setup = (
            "ALTER DATABASE {0} SET work_mem = '7MB'; GRANT CREATE ON DATABASE {0} TO dev_plain;"
            "REVOKE CREATE ON DATABASE {0} FROM shop_plain"
        )
        run_as_plain(cluster, name, PLANTING % statements.replace("LIVE", name))
        cluster.execute(sql.SQL(setup).format(sql.Identifier(name)))
        assert inv("db.backup", cwd=root).returncode == 0
        return name, root

    return make


ALTERED = """
EXECUTE format('ALTER DATABASE %I SET search_path = evil', current_database());
EXECUTE format('ALTER DATABASE %I RESET work_mem', current_database());
EXECUTE format('GRANT CREATE ON DATABASE %I TO PUBLIC', current_database());
EXECUTE format('REVOKE ALL ON DATABASE %I FROM shop_plain', current_database());
EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
"""


def test_what_a_load_does_to_its_database_is_put_back(
    owned: Callable[[str], tuple[str, Path]], cluster: Cluster, inv: Inv
) -> None:
    """The owner may grant on the side database and alter it; so may what runs as the owner."""
    name, root = owned(ALTERED)
    before = facts(cluster, name)
    done = inv("db.restore", cwd=root)
    assert done.returncode == 0, done.stderr
    for what in ("setting search_path", "setting work_mem", "grants on the data", "IS_TEMPLATE"):
        assert f"put back: {what}" in done.stderr
    assert facts(cluster, name) == before
    cluster.execute("UPDATE pg_database SET datacl = NULL WHERE datname = %s", parameters=(name,))
    assert "put back: grants" in inv("db.restore", cwd=root).stderr
    for role, wanted in (("dev_plain", [True, True, False]), ("shop_plain", [True] * 3)):
        by_default = cluster.execute(
            "SELECT has_database_privilege(%s, %s, p) FROM unnest(%s) p",
            parameters=(role, name, ["CONNECT", "TEMPORARY", "CREATE"]),
        )
        assert [granted for (granted,) in by_default] == wanted


def test_what_a_load_does_to_the_target_is_said(
    owned: Callable[[str], tuple[str, Path]], cluster: Cluster, inv: Inv
) -> None:
    name, root = owned(
        "ALTER DATABASE LIVE SET search_path = evil; CREATE TABLE public.not_in_the_backup ();"
    )
    failed = inv("db.restore", cwd=root)
    assert failed.returncode == 5, failed.stderr
    words = f"warning: '{name}' was altered during the load: setting search_path\n"
    assert words in failed.stderr


def test_a_target_that_a_load_drops_is_not_said_to_be_as_it_was(
    owned: Callable[[str], tuple[str, Path]], cluster: Cluster, inv: Inv
) -> None:
    """A function cannot drop a database; an entry of an archive that somebody rewrote can."""
    name, root = owned("")
    cluster.execute("COMMENT ON TABLE bait IS 'a'; COMMENT ON COLUMN bait.name IS 'b'", name)
    assert inv("db.backup", cwd=root).returncode == 0
    assert inv("db.restore", cwd=root).returncode == 0
    (kept,) = (each for each in cluster.databases() if each.startswith(f"{name}__old_"))
    made = LocalStore(root / "backups").list().backups[0]
    contents = rewriting.Contents((made.dump / "toc.dat").read_bytes())
    comments = [row for row in contents.rows if row.desc == b"COMMENT" and b"bait" in row.tag]
    for row, dropped in zip(comments, (name, kept), strict=False):
        row.definition = f'DROP DATABASE "{dropped}" WITH (FORCE)'.encode()
    made = rewriting.put(made, contents.bytes(contents.rows))
    rewriting.put_json(made, "proof.json", {"schema": {"view public.none": ["a", "b", "c"]}})
    failed = inv("db.restore", "--confirm", name, cwd=root)
    assert failed.returncode == 1, failed.stderr
    error = failed.stderr.splitlines()[-1]
    assert error.startswith(f"error: '{name}' was dropped during the load; ")
    assert f"warning: '{kept}', kept for undo, was dropped meanwhile" in failed.stderr


def facts(cluster: Cluster, name: str) -> properties.DatabaseProperties:
    with closing(cluster.connect()) as conn:
        return properties.read(conn, name)


def test_a_backup_that_nobody_here_made_is_said_to_be_so(site: Path, inv: Inv) -> None:
    words = "no run of this project made this backup"
    plan = ("db.restore", "--dry", "--backup")
    known = inv(*plan, backup_of(site), "--json", cwd=site)
    assert not any(words in note for note in json.loads(known.stdout)["notes"])
    shutil.rmtree(site / "backups" / "dev", ignore_errors=True)
    (site / "backups" / "journal.jsonl").unlink()
    foreign = inv(*plan, backup_of(site), "--json", cwd=site)
    assert any(words in note for note in json.loads(foreign.stdout)["notes"])
