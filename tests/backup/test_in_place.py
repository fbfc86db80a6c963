"""`db.restore --in-place`: all of the content in one transaction, by a role without CREATEDB."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import rewriting
from conftest import Inv
from halting import Start, end_backends, halted, interrupt, kill, unlocked
from matrix import matrix
from projects import make_project, put_stamp, stamp_of
from restores import logins, save, sides
from schemas import tool
from servers import Cluster
from test_only_table import SHOP, dumped
from waiting import PATIENCE, until

from backups import local_backup
from pgtasks.backup.restore import RestoreOptions
from pgtasks.backup.restore.inplace import clear, script
from pgtasks.backup.restore.inplace import standing as live
from pgtasks.errors import Failed, Refused
from pgtasks.report import boundaries
from pgtasks.server import connection

# beside tables: what belongs to no schema, and what is set for all
MORE = """
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA "odd schema 🙂" GRANT ALL ON SEQUENCES TO PUBLIC;
CREATE PUBLICATION "it's new" FOR TABLE bill, hen;
CREATE TYPE pair AS (a int, b text);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE FUNCTION plus(pair, pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.a + $2.a';
CREATE OPERATOR "odd schema 🙂".+ (LEFTARG = pair, RIGHTARG = pair, FUNCTION = plus);
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE PROCEDURE nothing_at_all() LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
CREATE CAST (pair AS int) WITH FUNCTION made(pair) AS ASSIGNMENT;
CREATE COLLATION "own" (PROVIDER = libc, LOCALE = 'C');
CREATE TEXT SEARCH CONFIGURATION mine (COPY = simple);
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple, STOPWORDS = english);
CREATE TABLE pets (id int PRIMARY KEY, kind varchar(9) CHECK (kind IN ('cat', 'dog')));
CREATE VIEW cats AS SELECT * FROM pets;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM cats;
INSERT INTO pets SELECT i, 'cat' FROM generate_series(1, 200) i;
REFRESH MATERIALIZED VIEW counted;
SELECT lo_from_bytea(4711, '\\x00ff'), lo_from_bytea(4712, 'abc');
COMMENT ON LARGE OBJECT 4711 IS 'it''s large';
GRANT USAGE ON SCHEMA "odd schema 🙂" TO PUBLIC;
CREATE TABLE lines (text text);
INSERT INTO lines VALUES (E'\\\\.'), (E'a\\nb\\t\\\\'), ('COMMIT;'), (NULL), ('');
CREATE FUNCTION ends() RETURNS text LANGUAGE sql AS 'SELECT ''; COMMIT; --''';
"""
MORE = MORE.replace(
    "CREATE CAST",
    "CREATE FUNCTION made(pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.a';\nCREATE CAST",
)
OTHER = """
CREATE SCHEMA "newer one";
CREATE TABLE "newer one".things (id serial PRIMARY KEY, what text);
INSERT INTO "newer one".things (what) SELECT 'thing ' || i FROM generate_series(1, 500) i;
CREATE TABLE bill (other text);
INSERT INTO bill VALUES ('of now');
CREATE FUNCTION one() RETURNS text LANGUAGE sql AS 'SELECT ''another''';
CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT lo_from_bytea(4711, 'other');
ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC;
COMMENT ON SCHEMA public IS 'of now';
"""


@pytest.fixture(scope="module")
def tenant(cluster: Cluster) -> Iterator[str]:
    """Return a role that may not create databases, as a hosted database gives it."""
    name = f"tenant{os.getpid()}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    cluster.execute(f"DROP ROLE {name}")


def run_as(cluster: Cluster, database: str, role: str, text: str) -> None:
    session = cluster.connect(database, user=role)
    with session.cursor() as cursor:
        cursor.execute(text)
    session.close()


@pytest.fixture(scope="module")
def saved(
    cluster: Cluster, tenant: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Return the path of a backup, and what pg_dump prints of what pg_restore makes of it."""
    name = cluster.create(owner=tenant)
    run_as(cluster, name, tenant, SHOP)
    run_as(cluster, name, tenant, MORE)
    put_stamp(cluster.target(name))
    # a superuser, who reads a table with forced row policies
    path = save(make_project(tmp_path_factory.mktemp("saved") / "shop", cluster.url(name)))
    cluster.drop(name)
    copy = cluster.create(owner=tenant)
    tool(cluster, "pg_restore", "-e", "-d", copy, local_backup(Path(path)).dump)
    text = dumped(cluster, copy)
    cluster.drop(copy)
    return path, text


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, database: str, tenant: str) -> Path:
    """Return a project whose role owns its database, with other content, and may not make more."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {tenant}')
    put_stamp(cluster.target(database))
    run_as(cluster, database, tenant, OTHER)
    return make_project(tmp_path / "shop", replace(cluster.target(database), user=tenant).url())


@pytest.fixture
def restore(inv: Inv, project: Path, saved: tuple[str, str]) -> Callable[..., Any]:
    def run(*flags: str, code: int = 0, yes: bool = True) -> Any:
        words = ("--yes",) if yes else ()
        done = inv("db.restore", "--backup", saved[0], "--in-place", *words, *flags)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    return run


def test_the_content_becomes_that_of_the_backup(
    cluster: Cluster, database: str, restore: Callable[..., Any], saved: tuple[str, str]
) -> None:
    cluster.execute(
        f"COMMENT ON DATABASE {database} IS E'what a person wrote\\n{stamp_of(cluster, database)}'"
    )
    done = restore()
    assert dumped(cluster, database) == saved[1]
    assert sides(cluster, database) == []
    text, line = stamp_of(cluster, database).split("\n")
    assert text == "what a person wrote"
    assert "origin=dev/" in line
    assert "taken=" in line
    assert "role=" not in line
    assert "17 of 17 tables identical, 669 rows" in done.stdout
    assert "who read or wrote there waited up to" in done.stdout
    assert "there is nothing to undo" in done.stdout
    assert "undo     there is none: --backup-first keeps" in done.stderr
    assert "2 tables, 1 schema, 1 large object" in done.stderr
    assert "server prints it in a way of its own" in done.stderr  # CHECK (... IN ...)
    assert cluster.value("SELECT count(*) FROM pg_stats WHERE tablename = 'pets'", database)
    again = json.loads(restore("--json").stdout)
    assert again["proven"] is again["in_place"] is True
    assert again["side"] is None
    assert dumped(cluster, database) == saved[1]
    assert local_backup(Path(saved[0])).checks.proven


def test_the_plan_is_shown_and_nothing_is_changed(
    cluster: Cluster, database: str, inv: Inv, project: Path, saved: tuple[str, str]
) -> None:
    before = dumped(cluster, database)
    words = ("db.restore", "--backup", saved[0], "--in-place")
    local_backup(Path(saved[0])).record(recovery=370.0)
    done = inv(*words, "--dry")
    assert done.returncode == 0, done.stderr
    assert "without --dry it would" in done.stderr
    assert "load     into" in done.stdout
    assert "who reads or writes there waits (its last drill took 6 min 10 s)" in done.stdout
    refused = inv(*words)
    assert refused.returncode == 2
    assert "this cannot be undone and there is no terminal to ask on, add --yes" in refused.stderr
    settings = project / "env" / "dev.yaml"
    settings.write_text(settings.read_text() + "protected: true\n")
    for answer in ((), ("--yes",), ("--confirm", "another")):
        assert inv(*words, *answer).returncode == 2, answer
    assert dumped(cluster, database) == before
    assert inv(*words, "--confirm", database).returncode == 0
    assert dumped(cluster, database) == saved[1]


def test_without_it_the_way_is_named(
    cluster: Cluster, database: str, inv: Inv, project: Path, saved: tuple[str, str], tenant: str
) -> None:
    done = inv("db.restore", "--backup", saved[0])
    assert done.returncode == 2
    assert f"ALTER ROLE {tenant} CREATEDB, or --in-place, which has no undo" in done.stderr
    done = inv("db.restore", "--backup", saved[0], "--into", "beside")
    assert "--in-place" not in done.stderr


def test_a_backup_of_now_is_taken_first(
    cluster: Cluster,
    database: str,
    restore: Callable[..., Any],
    saved: tuple[str, str],
    inv: Inv,
    project: Path,
) -> None:
    done = restore("--backup-first")
    assert "before anything is dropped; what is written there between the two" in done.stderr
    assert "but for what was written after it was taken" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("what was there is"))
    assert dumped(cluster, database) == saved[1]
    id = line.split("--backup ")[1].split()[0]
    done = inv("db.restore", "--backup", id, "--in-place", "--yes", cwd=project)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT other FROM bill", database) == "of now"
    assert cluster.value('SELECT count(*) FROM "newer one".things', database) == 500


def test_flags_that_have_no_place() -> None:
    for flag, given in {
        "--only-table": {"only_tables": ("bill",)},
        "--into": {"into": "x"},
        "--as-superuser": {"as_superuser": True},
        "--with-settings": {"with_settings": True},
        "--leave-behind": {"leave_behind": True},
    }.items():
        with pytest.raises(Refused, match=f"^{flag} and --in-place exclude each other"):
            RestoreOptions(1, in_place=True, **given).check()  # type: ignore[arg-type]
    with pytest.raises(Refused, match="--masked and --in-place exclude"):
        RestoreOptions(1, in_place=True).check(masked=True)


def test_the_dump_of_somebody_else_and_a_superuser_are_refused(
    cluster: Cluster, database: str, project: Path, inv: Inv, tmp_path: Path, saved: tuple[str, str]
) -> None:
    (tmp_path / "dump.sql").write_text("CREATE TABLE a (id int);")
    words = ("db.restore", "--backup", str(tmp_path / "dump.sql"), "--in-place", "--yes")
    done = inv(*words)
    assert done.returncode == 2
    assert "--in-place is for backups" in done.stderr
    (project / "env" / "dev.yaml").write_text(f"url: '{cluster.url(database)}'\n")
    done = inv("db.restore", "--backup", saved[0], "--in-place", "--yes")
    assert done.returncode == 2
    assert "--in-place is for roles that may not create databases, 'postgres' may" in done.stderr


# ---- what others have there


def test_what_others_made_stays_and_what_depends_is_refused(
    cluster: Cluster,
    database: str,
    restore: Callable[..., Any],
    saved: tuple[str, str],
    tenant: str,
) -> None:
    cluster.execute(
        "CREATE SCHEMA audit; CREATE TABLE audit.log (n int); INSERT INTO audit.log VALUES (1);"
        f"GRANT ALL ON audit.log TO {tenant};"
        'CREATE EXTENSION vector SCHEMA "newer one";'
        "CREATE VIEW audit.names AS SELECT other FROM bill;"
        'CREATE TABLE audit.refers (n int REFERENCES "newer one".things);'
        "CREATE INDEX indexed ON audit.log (same(n));"
        "CREATE RULE ruled AS ON DELETE TO audit.log DO DELETE FROM bill;"
        "CREATE DOMAIN audit.checked AS int CHECK (same(VALUE) > 0);"
        "CREATE PUBLICATION of_admin FOR TABLE bill;"
        "SELECT lo_from_bytea(99, 'of admin')",
        database,
    )
    before = dumped(cluster, database)
    said = restore(code=2).stderr
    assert "view audit.names is of role 'postgres' and depends on what would be dropped" in said
    assert "constraint refers_n_fkey on table audit.refers is of role 'postgres'" in said
    for words in ("publication", "index audit.indexed", "rule ruled", "1 large object"):
        assert words in said
    assert "constraint checked_check" in said
    assert dumped(cluster, database) == before
    cluster.execute(
        "DROP VIEW audit.names; DROP TABLE audit.refers; DROP PUBLICATION of_admin;"
        "DROP INDEX audit.indexed; DROP RULE ruled ON audit.log; DROP DOMAIN audit.checked;"
        "SELECT lo_unlink(99)",
        database,
    )
    done = restore()
    assert "keep     extension 'vector' of 'postgres', as it is" in done.stderr
    assert "'newer one' of" in done.stderr
    assert cluster.value("SELECT n FROM audit.log", database) == 1
    assert cluster.value(
        "SELECT has_table_privilege(%s, 'audit.log', 'INSERT')", database, (tenant,)
    )
    query = "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace"
    assert cluster.value(f"{query} WHERE extname = 'vector'", database) == "newer one"
    cluster.execute('DROP EXTENSION vector; DROP SCHEMA "newer one", audit CASCADE', database)
    assert dumped(cluster, database) == saved[1]


def test_what_depends_is_looked_at_again_under_the_lock(
    cluster: Cluster, database: str, project: Path, saved: tuple[str, str], start_inv: Start
) -> None:
    words = ("db.restore", "--backup", saved[0], "--in-place", "--yes")
    process = halted(start_inv, "in-place.checked", *words)
    cluster.execute("CREATE VIEW late AS SELECT other FROM bill", database)
    before = dumped(cluster, database)
    os.kill(process.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "altered since the plan, nothing was changed" in said
    assert dumped(cluster, database) == before


def test_what_is_of_others_is_counted_before_and_after(
    cluster: Cluster, database: str, project: Path, tenant: str
) -> None:
    """Somebody makes it between the last look and the drop."""
    with connection.session(replace(cluster.target(database), user=tenant)) as conn:
        standing = live.read(conn)
        assert standing.dependent == ()
        cluster.execute("CREATE VIEW late AS SELECT other FROM bill", database)
        connection.execute(conn, "BEGIN")
        with pytest.raises(Failed, match="1 object of other roles would have been dropped"):
            clear.clear(conn, standing)


@pytest.mark.parametrize(
    ("own", "others", "words"),
    [
        (
            "CREATE FUNCTION f(audit.t) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.a::text'",
            "CREATE CAST (audit.t AS text) WITH FUNCTION public.f(audit.t)",
            "cast from audit.t to text is of role",
        ),
        (
            "CREATE DOMAIN d AS int",
            "CREATE TABLE audit.parts (i int, d public.d) PARTITION BY LIST (i)",
            "table audit.parts is of role",
        ),
        (
            "CREATE TABLE child (i int)",
            "CREATE TABLE audit.parts (i int) PARTITION BY LIST (i);"
            "ALTER TABLE audit.parts ATTACH PARTITION child DEFAULT",
            "table audit.parts, with rows in public.child is of role",
        ),
        (
            "CREATE SERVER far FOREIGN DATA WRAPPER audit",
            "CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'x')",
            "user mapping for postgres on server far is of role",
        ),
    ],
    ids=["cast", "partitioned", "partition", "user mapping"],
)
def test_more_of_others_that_would_go(
    cluster: Cluster,
    database: str,
    project: Path,
    tenant: str,
    restore: Callable[..., Any],
    own: str,
    others: str,
    words: str,
) -> None:
    made = "CREATE SCHEMA audit; CREATE TYPE audit.t AS (a int); CREATE FOREIGN DATA WRAPPER audit"
    cluster.execute(
        f"{made}; GRANT USAGE ON SCHEMA audit TO {tenant};"
        f"GRANT USAGE ON FOREIGN DATA WRAPPER audit TO {tenant}",
        database,
    )
    run_as(cluster, database, tenant, own)
    cluster.execute(others, database)
    before = dumped(cluster, database)
    assert words in restore(code=2).stderr
    assert dumped(cluster, database) == before


def test_a_column_of_others_is_counted_before_and_after(
    cluster: Cluster, database: str, project: Path, tenant: str
) -> None:
    """Its table stays when its type goes."""
    run_as(cluster, database, tenant, "CREATE DOMAIN d AS int")
    with connection.session(replace(cluster.target(database), user=tenant)) as conn:
        standing = live.read(conn)
        cluster.execute("CREATE SCHEMA audit; CREATE TABLE audit.late (d public.d)", database)
        connection.execute(conn, "BEGIN")
        with pytest.raises(Failed, match="1 column of tables of other roles would have been"):
            clear.clear(conn, standing)


def test_a_reader_waits_or_ends_it(
    cluster: Cluster, database: str, restore: Callable[..., Any], saved: tuple[str, str]
) -> None:
    with cluster.connect(database, application_name="a long report") as reader:
        reader.autocommit = False
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bill")
            done = restore(code=6)
    assert "in use, nothing was changed: public.bill by process" in done.stderr
    assert "a long report" in done.stderr
    assert cluster.value("SELECT other FROM bill", database) == "of now"


# ---- no fault leaves anything but the old or the new

_STEPS = [*boundaries.RESTORE_IN_PLACE]


def test_the_wait_for_a_lock_is_told_too(
    cluster: Cluster, database: str, restore: Callable[..., Any]
) -> None:
    """Who comes later waits behind it."""
    reader = cluster.connect(database)
    with reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT FROM bill")

        def release() -> None:
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
            until(lambda: cluster.value(waits, database, parameters=("bill",)) > 0)
            cursor.execute("SELECT pg_sleep(1); ROLLBACK")

        thread = threading.Thread(target=release)
        thread.start()
        done = restore("--json")
        thread.join()
    reader.close()
    assert json.loads(done.stdout)["locked_seconds"] > 1


@matrix(step=_STEPS, fault=[kill, interrupt, end_backends])
def test_an_interrupted_run_leaves_old_or_new(
    cluster: Cluster,
    database: str,
    project: Path,
    saved: tuple[str, str],
    inv: Inv,
    start_inv: Start,
    step: str,
    fault: Callable[..., None],
) -> None:
    old = dumped(cluster, database)
    words = ("db.restore", "--backup", saved[0], "--in-place", "--yes")
    process = halted(start_inv, step, *words)
    fault(process, cluster)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if fault is kill else 130), said
    committed = step == "in-place.committed"
    if fault is not kill:
        state = "is restored, that was committed" if committed else "is as it was"
        assert f"interrupted: {database!r} {state}" in said, said
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert dumped(cluster, database) == (saved[1] if committed else old)
    assert sides(cluster, database) == []
    assert logins(cluster, database) == []


def rewritten(
    path: str, folder: Path, desc: bytes, tag: bytes, change: Callable[[bytes], bytes]
) -> str:
    """Return a copy of a backup with another definition of one entry, written as one of ours."""
    copy = Path(shutil.copytree(path, folder / Path(path).name))
    made = local_backup(copy)
    contents = rewriting.Contents((made.dump / "toc.dat").read_bytes())
    (row,) = (r for r in contents.rows if r.desc == desc and r.tag == tag)
    row.definition = change(row.definition or b"")
    made = rewriting.put(made, contents.bytes(contents.rows))
    rewriting.put_json(made, "proof.json", {"schema": {"view public.none": ["a", "b", "c"]}})
    return str(copy)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (b"COMMIT; SELECT 1 / 0;", 1, "division by zero"),
        (b"COMMIT AND CHAIN; BEGIN; SELECT 1 / 0;", 1, "division by zero"),
        (b"ROLLBACK; SELECT 1;", 5, "the dump has a ROLLBACK"),
        (b"PREPARE TRANSACTION 'x';", 5, "PREPARE TRANSACTION"),
        (b"DO $$ BEGIN COMMIT; END $$;", 1, "invalid transaction termination"),
        (b"\\! touch /tmp/never\n", 5, "the dump has a command for psql"),
        (b"COPY public.lines TO PROGRAM 'cat';", 5, "COPY PROGRAM"),
        (b"DELETE FROM public.lines;", 5, "table public.lines: 5 rows expected, 0 found"),
        (b"ALTER DATABASE postgres SET a.b = 'c';", 5, "ALTER DATABASE"),
        (
            b"SELECT set_config('standard_conforming_strings', 'off', false);\n"
            b"SELECT 'a\\''; DELETE FROM pg_temp.pgtasks_whole; COMMIT; --';",
            *(5, "standard_conforming_strings"),
        ),
        (
            b"SELECT set_config('client_encoding', 'SJIS', false);\n"
            b"SELECT E'\x95\\'; DELETE FROM pg_temp.pgtasks_whole; COMMIT; --';",
            *(5, "client_encoding"),
        ),
        (
            b"CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS"
            b" 'BEGIN DELETE FROM public.lines; RETURN NULL; END';\n"
            b"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.lines"
            b" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.late();\n"
            b"INSERT INTO public.lines VALUES ('late');",
            *(5, "table public.lines: 5 rows expected, 0 found"),
        ),
    ],
)
def test_a_crafted_archive_commits_nothing(
    cluster: Cluster,
    database: str,
    project: Path,
    saved: tuple[str, str],
    tmp_path: Path,
    inv: Inv,
    more: bytes,
    code: int,
    words: str,
) -> None:
    old = dumped(cluster, database)
    path = rewritten(saved[0], tmp_path, b"TRIGGER", b"bill a", lambda text: text + more)
    done = inv("db.restore", "--backup", path, "--in-place", "--yes")
    assert dumped(cluster, database) == old
    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_a_commit_that_the_lexer_does_not_see(cluster: Cluster, database: str) -> None:
    conn = cluster.connect(database)
    with conn.cursor() as cursor:
        cursor.execute("CREATE TABLE here (n int)")
        cursor.execute("BEGIN; DROP TABLE here")
        script.guard(conn)
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute("COMMIT")
        cursor.execute("SELECT count(*) FROM here")
        cursor.execute("BEGIN; DROP TABLE here")
        script.guard(conn)
        script.whole(conn)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("COMMIT")
        cursor.execute("SELECT to_regclass('here')")
        assert cursor.fetchone() == (None,)
    conn.close()


def test_code_in_the_backup_drops_no_table_of_others(
    cluster: Cluster,
    database: str,
    project: Path,
    saved: tuple[str, str],
    tenant: str,
    tmp_path: Path,
    inv: Inv,
) -> None:
    """It gives up the owner's role for that of the login, a member of another role too."""
    owner, other = f"owner_{tenant}", f"other_{tenant}"
    cluster.execute(
        f"CREATE ROLE {owner} ROLE {tenant}; CREATE ROLE {other} ROLE {tenant};"
        f"ALTER DATABASE {database} OWNER TO {owner}; REASSIGN OWNED BY {tenant} TO {owner};"
        f"CREATE SCHEMA audit AUTHORIZATION {other}; CREATE TABLE audit.log (a int);"
        f"ALTER TABLE audit.log OWNER TO {other}",
        database,
    )
    more = b"SELECT set_config('role', 'none', false); DO 'BEGIN DROP TABLE audit.log; END';"
    path = rewritten(saved[0], tmp_path, b"TRIGGER", b"bill a", lambda text: text + more)
    try:
        done = inv("db.restore", "--backup", path, "--in-place", "--yes", "--no-owner")
        assert "1 table of other roles went during the load" in done.stderr
        assert cluster.value("SELECT to_regclass('audit.log') IS NOT NULL", database)
    finally:
        cluster.execute(f"REASSIGN OWNED BY {owner}, {other} TO {tenant}", database)
        cluster.execute(f"DROP ROLE {owner}, {other}", database)


def test_code_in_the_backup_cannot_alter_the_database(
    cluster: Cluster, database: str, project: Path, saved: tuple[str, str], tmp_path: Path, inv: Inv
) -> None:
    """Its functions run as the owner, who may alter the database from within."""
    alter = (
        b"DO $x$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET work_mem = 65';"
        b" END $x$;"
    )
    path = rewritten(saved[0], tmp_path, b"TRIGGER", b"bill a", lambda text: text + alter)
    done = inv("db.restore", "--backup", path, "--in-place", "--yes")
    assert "setting work_mem" in done.stdout, done.stderr
    query = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
    assert cluster.value(f"{query} WHERE d.datname = %s", parameters=(database,)) == 0


@pytest.mark.parametrize("server", ["cluster15", "cluster18"])
def test_on_another_major(
    server: str,
    request: pytest.FixtureRequest,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    inv: Inv,
) -> None:
    there: Cluster = request.getfixturevalue(server)
    role = f"tenant{os.getpid()}"
    there.execute(f"CREATE ROLE {role} LOGIN")
    try:
        name = fresh_database(there, owner=role)
        put_stamp(there.target(name))
        run_as(there, name, role, SHOP.replace("ALTER TABLE secret FORCE", "--"))
        run_as(there, name, role, MORE)
        url = replace(there.target(name), user=role).url()
        shop = make_project(tmp_path / "shop", url)
        assert inv("db.backup", cwd=shop).returncode == 0
        before = rows_of(there, name)
        run_as(there, name, role, "DROP TABLE bill CASCADE; CREATE TABLE another (id int)")
        done = inv("db.restore", "--in-place", "--yes", cwd=shop)
        assert done.returncode == 0, done.stderr
        assert rows_of(there, name) == before
    finally:
        there.drop(name)
        there.execute(f"DROP ROLE {role}")


def rows_of(cluster: Cluster, database: str) -> list[tuple[str, int]]:
    """Return each table with its rows."""
    names = cluster.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname !~ '^(pg_|information)' ORDER BY 1",
        database,
    )
    return [(name, cluster.value(f"SELECT count(*) FROM {name}", database)) for (name,) in names]


def test_where_no_other_database_may_be_entered(
    cluster: Cluster, database: str, project: Path, saved: tuple[str, str], inv: Inv
) -> None:
    """A hosted role often may connect to its own database alone."""
    cluster.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        settings = project / "env" / "dev.yaml"
        settings.write_text(f"{settings.read_text()}maintenance: {database}\n")
        done = inv("db.restore", "--backup", saved[0], "--in-place", "--yes")
        assert done.returncode == 0, done.stderr
    finally:
        cluster.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    assert dumped(cluster, database) == saved[1]
