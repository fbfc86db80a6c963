"""Drills: restored elsewhere, proven, asserted, dropped, recorded; killed at every step."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from halting import Start, halted, unlocked
from projects import make_project, put_stamp, stamp_of
from restores import logins, save, sides
from rewriting import put_json
from schemas import EVERYTHING
from servers import Cluster
from waiting import PATIENCE, until

from backups import local_backup, processes_with
from pgtasks.backup.drill import assertions, due, place
from pgtasks.backup.drill.assertions import Assertion
from pgtasks.backup.store.backup import Backup
from pgtasks.errors import Refused, VersionMismatch
from pgtasks.report import boundaries
from pgtasks.server.embedded import Binaries, temporary

Inv = Callable[..., Any]
OWNER, OTHER, ODD = "drill_owner", "drill_other", "odd 🐘 role"
PLACE = "drill_place"
# owners that are no superuser's, a forced policy that hides every row, settings of a role
CONTENT = f"""
CREATE SCHEMA app;
CREATE TABLE app.people (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE app.pets (id int PRIMARY KEY, owner int REFERENCES app.people);
INSERT INTO app.people SELECT i, 'name ' || i FROM generate_series(1, 1000) i;
INSERT INTO app.pets SELECT i, i FROM generate_series(1, 500) i;
GRANT USAGE ON SCHEMA app TO PUBLIC;
GRANT SELECT ON app.people TO "{ODD}" WITH GRANT OPTION;
ALTER TABLE app.pets ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.pets FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.pets TO "{ODD}" USING (false);
ALTER SCHEMA app OWNER TO {OWNER};
ALTER TABLE app.people OWNER TO {OWNER};
ALTER TABLE app.pets OWNER TO {OTHER};
"""
PETS = "SELECT id FROM pets WHERE owner IS NULL -- each has one"


@pytest.fixture(scope="module")
def saved(
    cluster: Cluster, cluster18: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a project with a backup; `spare` is an environment on another server."""
    name, spare = cluster.create(), cluster18.create()
    for role in (OWNER, OTHER, f'"{ODD}"'):
        cluster.execute(f"CREATE ROLE {role}")
    cluster.execute(CONTENT, name)
    cluster.execute(f'ALTER DATABASE "{name}" OWNER TO {OWNER}')
    cluster.execute(f'ALTER DATABASE "{name}" SET search_path TO app')
    cluster.execute(f'ALTER ROLE "{ODD}" IN DATABASE "{name}" SET work_mem TO \'7MB\'')
    cluster18.execute("CREATE TABLE precious AS SELECT 1 AS n", spare)
    put_stamp(cluster.target(name))
    cluster18.execute(f"CREATE ROLE {PLACE} LOGIN CREATEDB BYPASSRLS")
    cluster18.execute(f'ALTER DATABASE "{spare}" OWNER TO {PLACE}')
    cluster18.execute(f"ALTER TABLE precious OWNER TO {PLACE}", spare)
    put_stamp(cluster18.target(spare, environment="spare"))
    there = replace(cluster18.target(spare), user=PLACE).url()
    project = make_project(tmp_path_factory.mktemp("saved") / "shop", cluster.url(name))
    (project / "sql" / "drill").mkdir(parents=True)
    (project / "sql" / "drill" / "pets.sql").write_text(PETS)
    (project / "env" / "spare.yaml").write_text(f"url: '{there}'\n")
    (project / "env" / "held.yaml").write_text(
        f"url: '{there}'\nprotected: true\n", encoding="utf-8"
    )
    (project / "env" / "beside.yaml").write_text(f"url: '{cluster.url('postgres')}'\n")
    save(project)
    yield project
    cluster.drop(name)
    cluster18.drop(spare)
    cluster18.execute(f"DROP ROLE {PLACE}")
    for role in (OWNER, OTHER, f'"{ODD}"'):
        cluster.execute(f"DROP ROLE {role}")


@pytest.fixture
def project(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of the project."""
    return shutil.copytree(saved, tmp_path / "shop")


@pytest.fixture
def spare(cluster18: Cluster, project: Path) -> Iterator[str]:
    """Return the database of the environment `spare`, which no drill may change."""
    (name,) = re.findall(r"/(t\d+)\?", (project / "env" / "spare.yaml").read_text())
    before = stamp_of(cluster18, name)
    yield name
    assert stamp_of(cluster18, name) == before
    assert cluster18.value("SELECT n FROM precious", name) == 1


def kept(project: Path) -> Backup:
    """Return the project's only backup."""
    (path,) = (each.parent for each in project.glob("backups/*/*/*/manifest.json"))
    return local_backup(path)


def assert_nothing_is_left(pid: int) -> None:
    """Assert that a drill left neither its server nor a file."""
    name = f"pgtasks-run-{pid}-"
    places = {os.environ["TMPDIR"], "/tmp"}
    assert not [path for each in places for path in Path(each).glob(f"{name}*")]
    until(lambda: processes_with(name) == [])  # workers end after the tool that has them


def journal(project: Path) -> dict[str, Any]:
    last = (project / "backups" / "journal.jsonl").read_text().splitlines()[-1]
    return dict(json.loads(last))


# --- where it is restored


def test_all_owners_and_grants_are_proven_on_a_throw_away_server(
    project: Path, start_inv: Start
) -> None:
    process = start_inv("backup.drill")
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert "not proven" not in stdout + stderr
    assert f'left behind: ALTER ROLE "{ODD}" IN DATABASE ' in stderr
    passed = "passed: 2 of 2 tables identical, 1,500 rows, 1 assertion holds"
    assert passed in stdout
    assert_nothing_is_left(process.pid)
    checks = kept(project).checks
    assert checks.proven == checks.drilled
    assert "@" in checks.proven_by
    assert checks.recovery
    assert checks.failed is None
    line = journal(project)
    assert (line["task"], line["result"]) == ("backup.drill", "done")
    assert line["details"]["recovery_seconds"] == checks.recovery


def test_a_folder_for_temporary_files_that_no_server_can_be_in(
    project: Path, start_inv: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, one of mode 0700; for anybody, one whose path leaves no room for a socket's."""
    usual = Path(os.environ["TMPDIR"])
    assert place._within() == str(usual)
    unfit = usual / ("closed" if os.geteuid() == 0 else "long" * 20)
    unfit.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(unfit))
    assert place._within() == temporary.SHORT
    process = start_inv("backup.drill", env={"TMPDIR": str(unfit)})
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert "passed: 2 of 2 tables identical" in stdout, stderr
    assert_nothing_is_left(process.pid)


def test_the_server_of_another_environment_takes_it_without_owners(
    cluster18: Cluster, project: Path, spare: str, inv: Inv
) -> None:
    done = inv("backup.drill", "--server", "spare", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["passed"] is True
    assert "grants: they were not restored" in said["unproven"]
    assert said["assertions"][0]["findings"] == 0
    assert sides(cluster18, spare) == []
    assert logins(cluster18, spare) == []


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("beside", "is the server that backup"),
        ("dev", "is the server that backup"),
        ("held", "environment 'held' is protected"),
        ("nowhere", "unknown environment 'nowhere'"),
    ],
)
def test_a_place_that_is_refused(
    project: Path, spare: str, inv: Inv, server: str, why: str
) -> None:
    for more in ([], ["--dry"]):
        done = inv("backup.drill", "--server", server, *more)
        assert done.returncode == 2, done.stdout
        assert why in done.stderr
    assert kept(project).checks.failed is None


def test_a_place_whose_database_is_another_environments_is_refused(
    cluster18: Cluster, project: Path, fresh_database: Callable[..., str], inv: Inv
) -> None:
    name = fresh_database(cluster18, owner=PLACE)
    put_stamp(cluster18.target(name, environment="prod"))
    url = replace(cluster18.target(name), user=PLACE).url()
    (project / "env" / "astray.yaml").write_text(f"url: '{url}'\n")
    done = inv("backup.drill", "--server", "astray")
    assert done.returncode == 2
    assert "is stamped 'prod'" in done.stderr
    assert sides(cluster18, name) == []


def test_a_plan_starts_nothing(project: Path, spare: str, inv: Inv) -> None:
    before = kept(project).checks
    for server in ("embedded", "spare"):
        done = inv("backup.drill", "--server", server, "--dry")
        assert done.returncode == 0, done.stderr
        assert "assert   sql/drill/pets.sql" in done.stdout
    assert kept(project).checks == before


def test_the_server_is_of_the_lowest_major_that_can_restore(project: Path) -> None:
    made = kept(project).manifest
    there = [Binaries(major, Path("/x"), "system") for major in (15, 18, 17)]
    assert made.major == 16
    assert place.fitting(there, made).major == 17
    with pytest.raises(
        VersionMismatch, match=r"wanted PostgreSQL 16 or newer, found 15 \(system\)"
    ):
        place.fitting(there[:1], made)


def test_a_locale_that_is_not_here_is_another_and_not_proven(
    project: Path, spare: str, inv: Inv
) -> None:
    put_json(kept(project), "database.json", {"collate": "xx_XX.utf8", "ctype": "xx_XX.utf8"})
    done = inv("backup.drill", "--server", "spare")
    assert done.returncode == 0, done.stderr
    assert "not proven: sort orders: locale 'xx_XX.utf8' is not here, " in done.stdout


def test_whatever_a_superuser_owns_is_proven_as_a_superuser(
    cluster: Cluster, tmp_path: Path, inv: Inv
) -> None:
    name = cluster.create()
    cluster.psql(name, EVERYTHING)
    put_stamp(cluster.target(name))
    project = make_project(tmp_path / "other", cluster.url(name))
    save(project)
    cluster.drop(name)
    refused = inv("backup.drill", cwd=project)
    assert refused.returncode == 2
    assert "kind event trigger, which only a super" in refused.stderr
    assert "--as-superuser runs the code in the backup as a superuser" in refused.stderr
    done = inv("backup.drill", "--as-superuser", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["sentence"].startswith("26 of 26 tables identical")
    assert not [line for line in said["unproven"] if "owner" in line or "grants" in line]


def test_what_only_a_superuser_may_restore_names_the_way_that_a_drill_has(
    cluster: Cluster, database: str, tmp_path: Path, inv: Inv
) -> None:
    # what the plan does not notice
    cluster.execute(
        "CREATE FUNCTION later() RETURNS int LANGUAGE sql SET log_statement = 'none' AS 'SELECT 1'",
        database,
    )
    put_stamp(cluster.target(database))
    project = make_project(tmp_path / "other", cluster.url(database))
    save(project)
    denied = inv("backup.drill", cwd=project)
    assert denied.returncode == 1
    error = denied.stderr.splitlines()[-1]
    assert error.startswith("error: pg_restore failed, a plain role may not restore it: --as-super")
    done = inv("backup.drill", "--as-superuser", cwd=project)
    assert done.returncode == 0, done.stderr


def test_rows_that_cannot_be_loaded_name_the_task_that_leaves_them_out(
    cluster: Cluster, database: str, tmp_path: Path, inv: Inv
) -> None:
    cluster.execute(
        "CREATE FUNCTION fine(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        " CREATE TABLE t (id int CHECK (fine(id))); INSERT INTO t VALUES (1);"
        " CREATE OR REPLACE FUNCTION fine(int) RETURNS bool LANGUAGE sql IMMUTABLE"
        " AS 'SELECT false'",
        database,
    )
    put_stamp(cluster.target(database))
    project = make_project(tmp_path / "other", cluster.url(database))
    save(project)
    done = inv("backup.drill", cwd=project)
    assert done.returncode == 1
    assert "): db.restore --leave-out 'constraint " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("tables", "locks"), [(0, 64), (10_000, 464), (2**62, 4064)])
def test_the_server_has_locks_for_all_tables(project: Path, tables: int, locks: int) -> None:
    made = replace(kept(project).manifest, tables=tables)
    assert place.settings(made) == {"max_locks_per_transaction": str(locks)}


# --- what it finds


def test_findings_fail_the_drill_and_are_nobodys_record(
    project: Path, spare: str, inv: Inv
) -> None:
    folder = project / "sql" / "drill"
    (folder / "named.sql").write_text("SELECT id, name FROM people WHERE id < 8 ORDER BY id;\n")
    (folder / "typo.sql").write_text("SELECT * FROM app.poeple")
    done = inv("backup.drill", "--server", "spare", "--json")
    assert done.returncode == 5
    said = json.loads(done.stdout)
    named, pets, typo = said["assertions"]
    assert (named["file"], named["findings"]) == ("sql/drill/named.sql", 7)
    assert named["rows"][0] == '{"id":1,"name":"name 1"}'
    assert len(named["rows"]) == 5
    assert pets["findings"] == 0
    assert 'relation "app.poeple" does not exist' in typo["fault"]
    checks = kept(project).checks
    assert checks.failed
    assert checks.proven is checks.drilled is None
    assert checks.failure.startswith("sql/drill/named.sql: 7 findings; sql/drill/typo.sql: ")
    assert "name 1" not in json.dumps(journal(project)) + checks.text()
    listed = inv("backup.list").stdout
    assert "FAILED" in listed
    assert "none is proven, the last drill failed" in listed.splitlines()[-1]
    shown = inv("backup.show", "latest").stdout
    assert "failed    the drill of " in shown
    assert f"proven    no: the drill of {checks.failed} failed" in shown
    again = inv("backup.drill", "--server", "spare")  # the findings, and the error
    assert again.stdout.count("named.sql: 7 findings") == 1
    assert again.stderr.count("named.sql: 7 findings") == 1
    for name in ("named.sql", "typo.sql"):
        (folder / name).unlink()
    assert inv("backup.drill", "--server", "spare").returncode == 0
    assert "last proven one" in inv("backup.list").stdout.splitlines()[-1]


def test_a_restore_that_differs_fails_and_counts_as_proven_no_more(
    cluster18: Cluster, project: Path, spare: str, start_inv: Start
) -> None:
    kept(project).record(proven="2026-01-01T00:00:00Z")
    process = halted(start_inv, "restore.loaded", "backup.drill", "--server", "spare")
    (side,) = sides(cluster18, spare)
    cluster18.execute("DELETE FROM app.pets WHERE id = 7", side)
    os.kill(process.pid, signal.SIGUSR1)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, stderr
    assert sides(cluster18, spare) == []
    checks = kept(project).checks
    assert checks.failed
    assert checks.proven is None
    assert "differs from the backup" in checks.failure


def test_a_damaged_backup_fails_before_anything_is_restored(
    cluster18: Cluster, project: Path, spare: str, inv: Inv
) -> None:
    dump = max((kept(project).path / "dump").iterdir(), key=lambda path: path.stat().st_size)
    content = dump.read_bytes()
    dump.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    done = inv("backup.drill", "--server", "spare")
    assert done.returncode == 5
    assert dump.name in done.stderr
    assert sides(cluster18, spare) == []
    checks = kept(project).checks
    assert (bool(checks.damaged), bool(checks.failed)) == (True, True)


def test_pg_amcheck_finds_an_index_out_of_order(
    cluster15: Cluster, tmp_path: Path, start_inv: Start
) -> None:
    cluster15.execute(f"CREATE ROLE {OWNER}")
    name = cluster15.create(owner=OWNER)
    # the proof reads as the only owner, whom a forced policy hides the rows from
    cluster15.execute(
        f"SET ROLE {OWNER}; CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;"
        " ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY",
        name,
    )
    put_stamp(cluster15.target(name))
    project = make_project(tmp_path / "other", cluster15.url(name))
    save(project)
    cluster15.drop(name)
    cluster15.execute(f"DROP ROLE {OWNER}")
    process = halted(start_inv, "drill.asserted", "backup.drill", cwd=project)
    (socket,) = Path(os.environ["TMPDIR"]).glob(f"pgtasks-run-{process.pid}-*/s")
    with psycopg2.connect(host=str(socket), user=place.SUPERUSER, dbname="postgres") as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'drill\\_\\_new%'")
        (side,) = (row[0] for row in cursor.fetchall())
    conn.close()
    with psycopg2.connect(host=str(socket), user=place.SUPERUSER, dbname=side) as conn:
        conn.cursor().execute("""
            CREATE FUNCTION cmp(int, int) RETURNS int IMMUTABLE LANGUAGE sql
                AS 'SELECT btint4cmp($1, $2)';
            CREATE OPERATOR CLASS mine FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
                OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 cmp(int, int);
            CREATE INDEX broken ON t (i mine);
            CREATE OR REPLACE FUNCTION cmp(int, int) RETURNS int IMMUTABLE LANGUAGE sql
                AS 'SELECT btint4cmp($2, $1)';
        """)
    conn.close()
    os.kill(process.pid, signal.SIGUSR1)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, stderr
    assert "pg_amcheck found damage" in stderr
    assert "broken" in stdout
    assert kept(project).checks.failure == "pg_amcheck found damage"
    assert_nothing_is_left(process.pid)


def test_the_code_of_a_backup_gets_no_superuser(cluster: Cluster, tmp_path: Path, inv: Inv) -> None:
    mark = Path("/tmp") / f"drilled-{os.getpid()}"  # where the account of a server may write
    name = cluster.create()
    cluster.execute(
        f"""
        CREATE FUNCTION code(int) RETURNS int LANGUAGE plpgsql AS $code$
        BEGIN
            RESET ROLE;
            COPY (SELECT 1) TO PROGRAM 'cat >> {mark}';
            RETURN $1;
        EXCEPTION WHEN insufficient_privilege THEN RETURN $1;
        END $code$;
        CREATE TABLE t (i int CHECK (code(i) > 0));
        INSERT INTO t SELECT generate_series(1, 10);
        CREATE VIEW seen AS SELECT code(i) FROM t;
        """,
        name,
    )
    put_stamp(cluster.target(name))
    project = make_project(tmp_path / "other", cluster.url(name))
    save(project)
    cluster.drop(name)
    (project / "sql" / "drill").mkdir(parents=True)
    (project / "sql" / "drill" / "seen.sql").write_text("SELECT FROM seen WHERE false = (code = 1)")
    mark.unlink(missing_ok=True)
    try:
        done = inv("backup.drill", cwd=project)
        assert done.returncode == 5, done.stderr  # for the rows of the view
        assert "seen.sql: 9 findings" in done.stdout
        assert not mark.exists()
        inv("backup.drill", "--as-superuser", cwd=project)
        assert mark.exists()  # the code does what it is for, where it may
    finally:
        mark.unlink(missing_ok=True)


# --- killed


@pytest.mark.parametrize("step", boundaries.DRILL[1:])
def test_a_killed_drill_leaves_nothing_that_is_not_swept(
    cluster18: Cluster, project: Path, spare: str, inv: Inv, start_inv: Start, step: str
) -> None:
    process = halted(start_inv, step, "backup.drill", "--server", "spare")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert len(sides(cluster18, spare)) == (step != "drill.dropped")
    assert kept(project).checks.failed is None
    if step == "drill.restored":
        healed = unlocked(inv, "db.recover", "--env", "spare")
    else:
        healed = unlocked(inv, "backup.drill", "--server", "spare")
    assert healed.returncode == 0, healed.stderr
    assert sides(cluster18, spare) == []
    assert logins(cluster18, spare) == []


def test_a_killed_drill_leaves_no_server(project: Path, inv: Inv, start_inv: Start) -> None:
    process = halted(start_inv, "drill.restored", "backup.drill")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    until(lambda: processes_with(f"pgtasks-run-{process.pid}-") == [])
    # it needs no database, so that of the source may be gone
    done = inv("backup.drill")
    assert done.returncode == 0, done.stderr
    assert_nothing_is_left(process.pid)


def test_an_interrupted_drill_is_no_failed_one(project: Path, start_inv: Start) -> None:
    process = halted(start_inv, "restore.loaded", "backup.drill")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert_nothing_is_left(process.pid)
    assert kept(project).checks.failed is None


# --- assertions


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 statements, expected one query"),
        ("SELECT 1; SELECT 2", "2 statements, expected one query"),
        ("DELETE FROM people", "expected a query"),
        ("SELECT 1 INTO t", "expected a query"),
        ("\n\\! id", ":2: "),
        ("SELECT FROM WHERE", ":1: "),
    ],
)
def test_a_file_that_is_no_assertion_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.sql").write_text(text)
    with pytest.raises(Refused, match=re.escape(f"a.sql{why}" if why[0] == ":" else why)):
        assertions.found(tmp_path, tmp_path)


def test_a_file_that_is_no_text_is_refused_before_the_drill(project: Path, inv: Inv) -> None:
    (project / "sql" / "drill" / "b.sql").write_bytes(b"SELECT '\xff'")
    done = inv("backup.drill")
    assert done.returncode == 2
    assert "sql/drill/b.sql" in done.stderr


@pytest.fixture
def asserted(cluster: Cluster, database: str) -> Callable[[str], assertions.Asserted]:
    def run(query: str) -> assertions.Asserted:
        return assertions.run([Assertion("a.sql", query)], cluster.target(database))[0]

    return run


def test_an_assertion_changes_nothing(
    cluster: Cluster, database: str, asserted: Callable[[str], assertions.Asserted]
) -> None:
    cluster.execute(
        "CREATE TABLE t AS SELECT 1 AS n; CREATE FUNCTION gone() RETURNS int LANGUAGE sql AS"
        " 'DELETE FROM t RETURNING n'",
        database,
    )
    assert "read-only transaction" in asserted("SELECT gone()").fault
    assert asserted("WITH gone AS (DELETE FROM t RETURNING n) SELECT * FROM gone").fault
    assert (
        "read-only"
        in asserted("SELECT set_config('transaction_read_only', 'off', true), nextval('x')").fault
        or asserted("SELECT set_config('transaction_read_only', 'off', true)").fault
    )
    assert cluster.value("SELECT count(*) FROM t", database) == 1


def test_an_assertion_is_bounded(
    asserted: Callable[[str], assertions.Asserted], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asserted("SELECT i, repeat('x', 2000) FROM generate_series(1, 10000) i")
    assert found.findings == 10_000
    assert len(found.rows) == 5
    assert max(map(len, found.rows)) == 1000
    monkeypatch.setattr(assertions, "SECONDS", 1)
    assert "statement timeout" in asserted("SELECT pg_sleep(600)").fault


def test_any_value_can_be_a_finding(asserted: Callable[[str], assertions.Asserted]) -> None:
    found = asserted(
        "SELECT 'infinity'::date, '4714-11-24 BC'::date AS d, 'NaN'::numeric, NULL, 1 AS x,"
        " 2 AS x, '{}'::jsonb AS \"%s {} %\" -- the end"
    )
    assert found.findings == 1
    assert '"date":"infinity"' in found.rows[0]
    assert asserted("SELECT FROM generate_series(1, 3)").findings == 3


# --- due


def ago(days: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def test_a_drill_is_due_unless_one_passed_within_the_span(project: Path, inv: Inv) -> None:
    backup = kept(project)
    assert due.not_due([backup], "7d") is None  # never
    backup.record(drilled=ago(6), proven=ago(6))
    assert due.not_due([backup], "7d")
    assert due.not_due([backup], "5d") is None
    backup.record(drilled=ago(-1))  # the clock went back
    assert due.not_due([backup], "7d") is None
    backup.record(drilled=None)  # a restore proved it, without assertions
    assert due.not_due([backup], "7d") is None
    backup.record(drilled=ago(1))
    before = (project / "backups" / "journal.jsonl").read_text()
    done = inv("backup.drill", "--if-older", "7d", "--json")
    assert (done.returncode, json.loads(done.stdout)["due"]) == (0, False)
    assert (project / "backups" / "journal.jsonl").read_text() == before
    backup.record(damaged=ago(0))  # what passed then is no more
    assert due.not_due([backup], "7d") is None


@pytest.mark.parametrize("span", ["7", "7 days", "0d", "-1d", " "])
def test_a_span_that_is_none_is_refused(project: Path, inv: Inv, span: str) -> None:
    done = inv("backup.drill", "--if-older", span)
    assert done.returncode == 2
    assert "expected a span of time above zero in min, h, d or w" in done.stderr
