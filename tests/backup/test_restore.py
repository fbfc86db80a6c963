"""Restores: built beside, proven, swapped in, undone; and everything that must stop them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from psycopg2 import sql
from restores import CONTENT, damage, fill, newest, rows, save, sides
from servers import Cluster
from terminal import answer

from pgtasks.backup.restore.load import classified
from pgtasks.database.rights import Rights
from pgtasks.errors import Failed, NotProven, Unreachable
from pgtasks.host.local import LocalHost
from pgtasks.server import connection
from pgtasks.server.identity import identify
from pgtasks.server.proof.toc import POST_DATA, Entry
from pgtasks.settings.target import Target

Inv = Callable[..., Any]
INV = Path(sys.executable).with_name("inv")


@pytest.fixture(scope="module")
def saved(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a backup, whose database is gone."""
    name = cluster.create()
    fill(cluster, name)
    put_stamp(cluster.target(name))
    project = make_project(tmp_path_factory.mktemp("saved") / "shop", cluster.url(name))
    save(project)
    cluster.drop(name)
    return project


@pytest.fixture
def database(saved: Path, cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    """Return the name of the database that was backed up, empty again."""
    return fresh_database(cluster, next(saved.glob("backups/dev/*")).name)


@pytest.fixture
def project(saved: Path, target: Target, tmp_path: Path) -> Path:
    """Return a copy of the project."""
    put_stamp(target)
    return shutil.copytree(saved, tmp_path / "shop")


@pytest.fixture
def backed_up(cluster: Cluster, database: str, project: Path) -> str:
    """Return the database of the project, filled as when it was backed up."""
    fill(cluster, database)
    return database


def test_brings_back_what_was_lost_and_undoes_it(
    cluster: Cluster, backed_up: str, inv: Inv
) -> None:
    damage(cluster, backed_up)
    done = inv("db.restore")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 tables identical, 2,000 rows" in done.stdout
    assert rows(cluster, backed_up) == 1000
    undone = inv("db.undo")
    assert undone.returncode == 0, undone.stderr
    assert rows(cluster, backed_up) == 10
    assert inv("db.undo").returncode == 0
    assert rows(cluster, backed_up) == 1000
    forgotten = inv("db.forget", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert sides(cluster, backed_up) == []
    nothing = inv("db.undo")
    assert nothing.returncode == 2
    assert "nothing to return to" in nothing.stderr


def test_a_plan_with_equal_counts_does_not_say_that_nothing_is_lost(
    cluster: Cluster, backed_up: str, inv: Inv
) -> None:
    cluster.execute("UPDATE people SET mood = 'sad'", backed_up)
    planned = inv("db.restore", "--dry").stdout.splitlines()
    assert "rows     the same number in every table as now (values are not compared)" in planned


def test_shows_what_would_be_lost(cluster: Cluster, backed_up: str, inv: Inv) -> None:
    damage(cluster, backed_up)
    cluster.execute("CREATE TABLE newer AS SELECT 1", backed_up)
    done = inv("db.restore", "--dry")
    assert done.returncode == 0, done.stderr
    assert "public.newer" not in done.stderr  # once, where a pipe takes it
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert '"odd schema"."it\'s 🐘" - 1,000' in lines
    assert "public.newer 1 -" in lines
    assert "public.people 10 1,000" in lines
    assert rows(cluster, backed_up) == 10
    assert sides(cluster, backed_up) == []


def test_prints_one_json_document(cluster: Cluster, backed_up: str, inv: Inv) -> None:
    damage(cluster, backed_up)
    plan = json.loads(inv("db.restore", "--dry", "--json").stdout)
    done = json.loads(inv("db.restore", "--json").stdout)
    assert plan.keys() <= done.keys()
    assert done["proven"] is True
    assert done["rows_restored"] == 2000
    (listed,) = json.loads(inv("backup.list", "--json").stdout)["backups"]
    assert listed["proven"]
    undone = json.loads(inv("db.undo", "--json").stdout)
    assert undone["restored"] == done["kept"]
    failed = inv("db.restore", "--backup", "nonesuch", "--json")
    assert json.loads(failed.stdout)["exit_code"] == failed.returncode == 2


def test_makes_a_lost_database_with_all_that_belonged_to_it(
    cluster: Cluster, backed_up: str, inv: Inv
) -> None:
    name = sql.Identifier(backed_up)
    cluster.execute("DROP ROLE IF EXISTS lost_reader")
    cluster.execute("CREATE ROLE lost_reader")
    for statement in (
        "ALTER DATABASE {} CONNECTION LIMIT 9",
        "ALTER DATABASE {} SET work_mem TO '7MB'",
        "REVOKE ALL ON DATABASE {} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {} TO lost_reader",
    ):
        cluster.execute(sql.SQL(statement).format(name))
    assert inv("db.backup").returncode == 0
    cluster.drop(backed_up)
    done = inv("db.restore")
    assert done.returncode == 0, done.stderr
    assert "nothing to undo" in done.stdout
    facts = cluster.value(
        "SELECT datconnlimit::text || datacl::text FROM pg_database WHERE datname = %s",
        parameters=(backed_up,),
    )
    assert facts.startswith("9")
    assert "lost_reader=c/" in facts
    assert "=Tc/" not in facts.replace("lost_reader=c/", "")
    assert inv("db.undo").returncode == 2
    cluster.drop(backed_up)
    cluster.execute("DROP ROLE lost_reader")


def test_names_a_missing_role_and_both_ways_out(
    cluster: Cluster, cluster18: Cluster, backed_up: str, inv: Inv, tmp_path: Path
) -> None:
    cluster.execute("DROP ROLE IF EXISTS only_here")
    cluster.execute("CREATE ROLE only_here")
    cluster.execute("ALTER TABLE people OWNER TO only_here", backed_up)
    assert inv("db.backup").returncode == 0
    elsewhere = cluster18.create()
    try:
        put_stamp(cluster18.target(elsewhere))
        other = make_project(tmp_path / "other", cluster18.url(elsewhere))
        path = newest(tmp_path / "shop")
        refused = inv("db.restore", "--backup", path, cwd=other)
        assert refused.returncode == 2
        assert "'only_here'" in refused.stderr
        assert "--no-owner" in refused.stderr
        assert sides(cluster18, elsewhere) == []
        asked = ("--as-superuser", "--confirm", elsewhere)
        done = inv("db.restore", "--backup", path, "--no-owner", *asked, cwd=other)
        assert done.returncode == 0, done.stderr
        assert rows(cluster18, elsewhere) == 1000
        # majors differ: what could not be compared is said
        assert "not proven" in done.stderr
    finally:
        cluster18.drop(elsewhere)
        cluster.execute("ALTER TABLE people OWNER TO postgres; DROP ROLE only_here", backed_up)


def test_restores_another_environments_backup_under_its_own_stamp(
    cluster: Cluster, backed_up: str, inv: Inv, fresh_database: Callable[..., str], project: Path
) -> None:
    name = fresh_database(cluster)
    put_stamp(cluster.target(name, environment="test"))
    (project / "env" / "test.yaml").write_text(f"url: '{cluster.url(name)}'\n")
    # its owner is a superuser here, and what comes from elsewhere gets such rights if asked alone
    args = ("db.restore", "--env", "test", "--backup", newest(project))
    refused = inv(*args)
    assert refused.returncode == 2
    assert "--as-superuser" in refused.stderr
    done = inv(*args, "--as-superuser", "--confirm", name)
    assert done.returncode == 0, done.stderr
    assert "of environment 'dev'" in done.stderr
    with connection.session(cluster.target(name)) as conn:
        identity = identify(conn)
    assert identity.stamp
    assert identity.stamp.environment == "test"
    assert identity.stamp.origin.startswith(f"dev/{backed_up}@")
    assert rows(cluster, name) == 1000


def test_refuses_a_protected_target_without_its_name(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path
) -> None:
    damage(cluster, backed_up)
    settings = project / "env" / "dev.yaml"
    settings.write_text(settings.read_text() + "protected: true\n")
    for extra in ((), ("--confirm", "wrong")):
        refused = inv("db.restore", *extra)
        assert refused.returncode == 2
        assert rows(cluster, backed_up) == 10
    done = inv("db.restore", "--confirm", backed_up)
    assert done.returncode == 0, done.stderr
    assert inv("db.undo").returncode == 2
    assert inv("db.undo", "--confirm", backed_up).returncode == 0


def test_shows_its_plan_before_it_asks(cluster: Cluster, backed_up: str, project: Path) -> None:
    """Whoever types the name knows which backup it is, and which rows go."""
    damage(cluster, backed_up)
    settings = project / "env" / "dev.yaml"
    settings.write_text(settings.read_text() + "protected: true\n")
    half = f"{backed_up}__new_26010101010101"
    cluster.create(half)  # what an interrupted run left; nothing goes before the answer
    question = "type the database's name to go on: "
    argv = [INV, "db.restore"]
    no = answer(argv, [(question, "no\n")], cwd=project)
    assert no.code == 2
    assert f"'no' is not '{backed_up}', nothing was done" in no.screen
    assert rows(cluster, backed_up) == 10
    assert sides(cluster, backed_up) == [half]
    shown, _, after = no.screen.partition(question)
    assert "backup   20" in shown
    assert re.search(r"public.people +10 +1,000", shown)
    assert "replace " not in after
    yes = answer(argv, [(question, f"{backed_up}\n")], cwd=project)
    assert yes.code == 0, yes.screen
    assert yes.screen.count("public.people") == 1
    assert rows(cluster, backed_up) == 1000


def test_a_plan_is_printed_once(cluster: Cluster, backed_up: str, project: Path) -> None:
    damage(cluster, backed_up)
    done = answer([INV, "db.restore", "--dry"], [], cwd=project)
    assert done.code == 0, done.screen
    assert done.screen.count("public.people") == 1


def test_refuses_while_another_run_holds_the_lock(
    cluster: Cluster, backed_up: str, inv: Inv, target: Target
) -> None:
    from pgtasks.server.lock import Lock

    with Lock(target, "test of the lock"):
        refused = inv("db.restore")
    assert refused.returncode == 6
    assert "test of the lock" in refused.stderr


@pytest.mark.parametrize("damage_to", ["dump", "proof.json", "manifest.json"])
def test_refuses_a_damaged_backup(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path, damage_to: str
) -> None:
    damage(cluster, backed_up)
    place = Path(newest(project)) / damage_to
    if place.is_dir():
        place = max(place.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(bytes(data))
    refused = inv("db.restore", "--backup", newest(project))
    assert refused.returncode == 5, refused.stderr
    assert rows(cluster, backed_up) == 10
    assert sides(cluster, backed_up) == []


def test_replaces_nothing_when_the_proof_disagrees(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path
) -> None:
    """A proof that is whole but says something else: the side database is dropped."""
    damage(cluster, backed_up)
    forge_proof(Path(newest(project)))
    refused = inv("db.restore", "--as-superuser", "--confirm", backed_up)
    assert refused.returncode == 5, refused.stderr
    assert "people" in refused.stderr
    assert rows(cluster, backed_up) == 10
    assert sides(cluster, backed_up) == []


def forge_proof(folder: Path) -> None:
    """Change a row count in the proof and sign it anew, as no accident would."""
    import hashlib

    from pgtasks.backup.format import manifest as manifests
    from pgtasks.backup.format.records import FileRecord

    proof = folder / "proof.json"
    proof.chmod(0o600)
    text = proof.read_text().replace('"people", 1000', '"people", 1001')
    proof.write_text(text)
    path = folder / "manifest.json"
    path.chmod(0o600)
    manifest = manifests.parse(path.read_bytes(), "manifest")
    record = FileRecord(len(text.encode()), hashlib.sha256(text.encode()).hexdigest())
    files = {**manifest.files, "proof.json": record}
    sums = folder / "SHA256SUMS"
    if sums.exists() and "SHA256SUMS" in files:
        old = manifest.files["proof.json"].sha256
        sums.chmod(0o600)
        sums.write_text(sums.read_text().replace(old, record.sha256))
        data = sums.read_bytes()
        files["SHA256SUMS"] = FileRecord(len(data), hashlib.sha256(data).hexdigest())
    path.write_text(manifests.text(replace(manifest, files=files)))


@pytest.fixture
def owners(owned: Target, tmp_path: Path) -> tuple[str, Path]:
    """Return a database with content whose plain owner connects to it, and its project."""
    with connection.session(owned, own_path=True) as conn:
        connection.execute(conn, CONTENT)
    put_stamp(owned)
    return owned.database, make_project(tmp_path / "owned", owned.url())


def test_carries_no_setting_silently_away(
    cluster: Cluster, owners: tuple[str, Path], inv: Inv
) -> None:
    """A plain owner cannot carry a setting that only a superuser may make: it is named."""
    name, project = owners
    cluster.execute(
        sql.SQL("ALTER DATABASE {} SET session_replication_role TO 'origin'").format(
            sql.Identifier(name)
        )
    )
    assert inv("db.backup", cwd=project).returncode == 0
    refused = inv("db.restore", cwd=project)
    assert refused.returncode == 2
    assert "session_replication_role" in refused.stderr
    assert "--leave-behind" in refused.stderr
    assert sides(cluster, name) == []
    done = inv("db.restore", "--leave-behind", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "left behind: ALTER DATABASE" in done.stderr
    assert inv("db.undo", cwd=project).returncode == 0
    assert inv("db.forget", "--yes", cwd=project).returncode == 0


def test_names_sessions_that_it_cannot_end(
    cluster: Cluster, owners: tuple[str, Path], inv: Inv
) -> None:
    name, project = owners
    assert inv("db.backup", cwd=project).returncode == 0
    with connection.session(cluster.target(name)):
        refused = inv("db.restore", cwd=project)
    assert refused.returncode == 2
    assert "1 session of role 'postgres'" in refused.stderr


def test_names_prepared_transactions(cluster: Cluster, backed_up: str, inv: Inv) -> None:
    cluster.execute("BEGIN; CREATE TABLE p (i int); PREPARE TRANSACTION 'pinned'", backed_up)
    refused = inv("db.restore")
    cluster.execute("ROLLBACK PREPARED 'pinned'", backed_up)
    assert refused.returncode == 2
    assert "1 prepared transaction" in refused.stderr


def test_names_replication_slots(cluster: Cluster, backed_up: str, inv: Inv) -> None:
    cluster.execute("SELECT pg_create_logical_replication_slot('pinned', 'pgoutput')", backed_up)
    refused = inv("db.restore")
    done = inv("db.restore", "--leave-behind")
    cluster.execute("SELECT pg_drop_replication_slot('pinned')")
    assert refused.returncode == 2
    assert "(pinned)" in refused.stderr
    assert done.returncode == 0, done.stderr


def test_restores_a_backup_of_the_schema_alone(cluster: Cluster, backed_up: str, inv: Inv) -> None:
    assert inv("db.backup", "--schema-only").returncode == 0
    listed = json.loads(inv("backup.list", "--json").stdout)
    ids = [entry["id"] for entry in listed["backups"] if entry["schema_only"]]
    done = inv("db.restore", "--backup", ids[0])
    assert done.returncode == 0, done.stderr
    assert rows(cluster, backed_up) == 0


def test_restores_a_backup_without_proof_and_says_so(
    cluster: Cluster, backed_up: str, inv: Inv
) -> None:
    assert inv("db.backup", "--no-proof").returncode == 0
    done = inv("db.restore")
    assert done.returncode == 0, done.stderr
    assert "not proven" in done.stdout
    assert rows(cluster, backed_up) == 1000


def test_restores_from_a_path_that_no_list_knows(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path, tmp_path: Path
) -> None:
    damage(cluster, backed_up)
    moved = tmp_path / "carried away, with spaces"
    shutil.move(newest(project), moved)
    shutil.rmtree(project / "backups")
    done = inv("db.restore", "--backup", str(moved), "--as-superuser", "--confirm", backed_up)
    assert done.returncode == 0, done.stderr
    assert rows(cluster, backed_up) == 1000


def test_refuses_the_maintenance_database(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path
) -> None:
    url = cluster.url("postgres")
    (project / "env" / "test.yaml").write_text(f"url: '{url}'\n")
    args = ("--env", "test", "--confirm", "postgres", "--backup", newest(project))
    refused = inv("db.restore", *args)
    assert refused.returncode == 2
    assert "maintenance database" in refused.stderr


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ('pg_restore: error: could not execute query: ERROR:  role "x" does not exist', Failed),
        ("ERROR:  could not extend file: No space left on device", Failed),
        ("FATAL:  terminating connection due to administrator command", Unreachable),
        ("pg_restore: error: could not read from input file: end of file", NotProven),
        ("something new", Failed),
    ],
)
def test_classifies_what_pg_restore_says(words: str, kind: type[Exception]) -> None:
    found = classified(Failed("pg_restore failed: exit code 1", hint=words))
    assert type(found) is kind
    assert found.hint == words


@pytest.mark.parametrize(
    ("words", "mapped", "without"),
    [
        ('ERROR:  permission denied to set parameter "log_statement"', False, False),
        ("ERROR:  must be superuser to create an operator class", False, False),
        ("ERROR:  only superuser can define a leakproof function", False, False),
        ('ERROR:  permission denied to set session authorization "x"', False, True),
        ("ERROR:  permission denied for table t\nCommand was: GRANT ALL", False, True),
        ("ERROR:  permission denied for table t\nCommand was: GRANT ALL", True, False),
    ],
)
def test_names_the_way_out_of_a_load_that_is_held_to_the_owner(
    words: str, mapped: bool, without: bool
) -> None:
    failure = Failed("pg_restore failed: exit code 1", hint=words)
    held = Rights("postgres", True, "app", mapped, role="app")
    message = classified(failure, (), held).message
    assert "'app' may not restore it: --as-superuser restores it" in message
    assert ("--no-owner" in message) is without
    assert "--as-superuser" not in classified(failure).message
    entry = Entry("FUNCTION", "public", "f()", "app", definition=b"CREATE ...", section=POST_DATA)
    failure = Failed(failure.message, hint=f"{words.splitlines()[0]}\nCommand was: CREATE ...")
    later = classified(failure, [entry], held).message
    assert "--leave-out 'function public.f()' restores all but that, --as-superuser" in later


def test_knows_the_local_host() -> None:
    assert LocalHost() == LocalHost()


def deadlocking_tools(folder: Path, cluster: Cluster, times: int) -> Path:
    """Make a folder of tools whose pg_restore ends in a deadlock where it has several jobs.

    What it does before is real: some of the content is there, as after a real deadlock.
    """
    folder.mkdir()
    for name in ("pg_dump", "pg_dumpall", "psql", "vacuumdb"):
        (folder / name).symlink_to(cluster.bin / name)
    script = folder / "pg_restore"
    script.write_text(
        f"""#!/bin/sh
real={cluster.bin}/pg_restore
echo "$*" >> {folder}/calls
case "$*" in
  (*--jobs=1" "*|*--list*|*--version*) exec "$real" "$@" ;;
esac
[ "$(grep -c -e '--jobs=[2-9]' {folder}/calls)" -le {times} ] || exec "$real" "$@"
"$real" --section=pre-data "$@"
echo 'pg_restore: while PROCESSING TOC:' >&2
echo 'pg_restore: error: could not execute query: ERROR:  deadlock detected' >&2
echo 'DETAIL:  Process 1 waits for AccessExclusiveLock on relation 2' >&2
exit 1
"""
    )
    script.chmod(0o755)
    return folder


def test_a_deadlock_of_its_jobs_is_tried_again_with_one(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path, tmp_path: Path
) -> None:
    damage(cluster, backed_up)
    tools = deadlocking_tools(tmp_path / "tools", cluster, times=9)
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write(f"tools: {tools}\n")
    cluster.execute(f"ALTER DATABASE \"{backed_up}\" SET work_mem = '7MB'")
    done = inv("db.restore", "--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("its jobs waited for each other: once more with one job") == 1
    loads = [line for line in (tools / "calls").read_text().splitlines() if "--jobs" in line]
    assert [load.partition("--jobs=")[2][0] for load in loads] == ["3", "1"]
    assert rows(cluster, backed_up) == 1000
    assert cluster.value("SHOW work_mem", backed_up) == "7MB"
    assert len(sides(cluster, backed_up)) == 1


def test_a_deadlock_with_one_job_is_a_failure(
    cluster: Cluster, backed_up: str, inv: Inv, project: Path, tmp_path: Path
) -> None:
    damage(cluster, backed_up)
    tools = deadlocking_tools(tmp_path / "tools", cluster, times=9)
    script = (tools / "pg_restore").read_text().replace('--jobs=1" "*|', "")
    (tools / "pg_restore").write_text(script.replace("[2-9]", "[1-9]"))
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write(f"tools: {tools}\n")
    done = inv("db.restore", "--jobs", "2")
    assert done.returncode == 1
    assert "deadlock detected" in done.stderr
    assert rows(cluster, backed_up) == 10
    assert sides(cluster, backed_up) == []


def test_a_library_of_a_saved_setting_that_is_not_here(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    """Nobody gets into a database with such a setting, and the load would not."""
    library = cluster.folder / "libraries" / "gone.so"
    library.parent.mkdir(exist_ok=True)
    (made,) = cluster.bin.parent.glob("lib/**/dict_snowball.so")
    shutil.copy(made, library)
    setting = sql.SQL("ALTER DATABASE {} SET session_preload_libraries = {}")
    cluster.execute(setting.format(sql.Identifier(database), sql.Literal(str(library))))
    cluster.execute(
        sql.SQL("ALTER DATABASE {} SET work_mem = '7MB'").format(sql.Identifier(database))
    )
    cluster.execute("CREATE TABLE t AS SELECT 1 AS n", database)
    assert inv("db.backup").returncode == 0
    cluster.drop(database)
    library.unlink()
    refused = inv("db.restore")
    assert refused.returncode == 2, refused.stderr
    assert "cannot carry over: ALTER DATABASE" in refused.stderr
    assert "gone.so" in refused.stderr
    assert "or go without with --leave-behind" in refused.stderr
    assert not [name for name in cluster.databases() if name.startswith(database)]
    done = inv("db.restore", "--leave-behind")
    assert done.returncode == 0, done.stderr
    assert "left behind: ALTER DATABASE" in done.stderr
    assert cluster.value("SHOW work_mem", database) == "7MB"
    assert cluster.value("SHOW session_preload_libraries", database) == ""
