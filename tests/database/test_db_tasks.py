"""db.check, db.create, db.drop, db.shell and db.run, typed as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import servers
from conftest import PASSWORD, Inv
from projects import make_project, put_side, put_stamp
from psycopg2 import sql
from roles import as_role
from servers import Cluster, deaf_port
from terminal import answer
from waiting import PATIENCE, meanwhile, until

from pgtasks.server import reach, stamp
from pgtasks.server.lock import Lock
from pgtasks.settings.libpq import passfile_password

INV = Path(sys.executable).parent / "inv"
ODD = 'a "quoted" name, ünï 🐘 \'s = 1'


def mark_of(cluster: Cluster, database: str) -> str:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    found = stamp.split(cluster.value(query, parameters=(database,)))[1]
    return found.environment if found else ""


def use_url(project: Path, url: str, **more: Any) -> None:
    lines = [f"url: {json.dumps(url)}", *(f"{key}: {json.dumps(more[key])}" for key in more)]
    (project / "env" / "dev.yaml").write_text("\n".join(lines) + "\n")


# --- db.create ---------------------------------------------------------------------------------


def test_create_makes_an_empty_stamped_database_once(
    any_cluster: Cluster, tmp_path: Path, inv: Inv, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_cluster, f"made {ODD}")
    any_cluster.drop(name)
    project = make_project(tmp_path / "p", any_cluster.url(name))
    dry = inv("db.create", "--dry", cwd=project)
    assert (dry.returncode, dry.stdout) == (0, f"would create {name!r}, empty, stamped 'dev'\n")
    assert name not in any_cluster.databases()

    made = inv("db.create", cwd=project)
    assert (made.returncode, made.stdout) == (0, f"created {name!r}, empty, stamped 'dev'\n")
    assert mark_of(any_cluster, name) == "dev"
    encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s"
    assert any_cluster.value(encoding, parameters=(name,)) == "UTF8"

    again = inv("db.create", "--json", cwd=project)
    assert again.returncode == 0
    assert json.loads(again.stdout) == {
        "database": name,
        "environment": "dev",
        "created": False,
        "stamped": False,
        "note": "stamped 'dev'",
        "dry": False,
    }


def test_create_stamps_an_empty_database_and_keeps_its_comment(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    cluster.execute(sql.SQL("COMMENT ON DATABASE {} IS 'of ann'").format(sql.Identifier(database)))
    done = inv("db.create")
    assert done.stdout == f"{database!r} was there, empty; stamped it 'dev'\n"
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    assert cluster.value(comment, parameters=(database,)).startswith("of ann\npgtasks: ")


def test_create_leaves_content_without_a_stamp_alone(
    tmp_path: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    project = make_project(tmp_path / "p", cluster.url(database))
    cluster.execute("CREATE TABLE t ()", database)
    done = inv("db.create", cwd=project)
    assert done.returncode == 0
    assert "with content and no stamp: inv env.stamp" in done.stdout
    assert mark_of(cluster, database) == ""


def test_create_refuses_the_database_of_another_environment(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    (project / "env" / "staging.yaml").write_text((project / "env" / "dev.yaml").read_text())
    done = inv("db.create", "--env", "staging")
    assert done.returncode == 2
    assert "is stamped 'dev', the chosen environment is 'staging'" in done.stderr


def test_create_on_a_protected_environment_wants_its_name(
    tmp_path: Path, inv: Inv, cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(cluster)
    cluster.drop(name)
    project = make_project(tmp_path / "p", cluster.url(name), environment="prod")
    refused = inv("db.create", "--env", "prod", cwd=project)
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        f"error: environment 'prod' is protected, add --confirm {name}\n"
    )
    assert name not in cluster.databases()
    assert inv("db.create", "--env", "prod", "--confirm", name, cwd=project).returncode == 0
    assert mark_of(cluster, name) == "prod"


def test_create_without_the_right_says_what_the_server_says(
    project: Path, inv: Inv, cluster: Cluster, plain: Callable[..., str]
) -> None:
    use_url(project, as_role(cluster, plain(), "not_there"))
    done = inv("db.create")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: permission denied to create database"


def test_create_makes_utf8_where_the_server_has_another_default(
    cluster: Cluster, tmp_path: Path, inv: Inv
) -> None:
    with servers.running(cluster.bin, locale="SQL_ASCII:C") as plain:
        project = make_project(tmp_path / "p", plain.url("shop"))
        assert inv("db.create", cwd=project).returncode == 0
        assert findings(inv("db.check", "--json", cwd=project))["database"][0] == "ok"
        (project / "env" / "test.yaml").write_text(f"url: '{plain.url('postgres')}'\n")
        shown = findings(inv("db.check", "--json", "--env", "test", cwd=project))["database"]
        assert shown[0] == "note"
        assert shown[1].startswith("SQL_ASCII, C, ")
        assert shown[1].endswith("empty: not UTF8, other databases may reject its text")


def test_a_database_that_comes_and_goes_is_there_or_not(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    """Create, drop, rename beside each look: an answer each time, and none of them `invalid`."""
    name = fresh_database(cluster)
    put_stamp(cluster.target(name))

    def change() -> None:
        for statement in (
            f'ALTER DATABASE "{name}" RENAME TO "{name}_x"',
            f'ALTER DATABASE "{name}_x" RENAME TO "{name}"',
            f'DROP DATABASE "{name}" WITH (FORCE)',
            f'CREATE DATABASE "{name}"',
        ):
            with suppress(psycopg2.Error):  # a look is connected to it
                cluster.execute(statement)

    with meanwhile(change):
        found = [reach.identify(cluster.target(name)) for _ in range(40)]
    assert not any(identity.invalid for identity in found if identity)
    assert {identity.database for identity in found if identity} <= {name}


# --- db.drop -----------------------------------------------------------------------------------


def test_drop_ends_sessions(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    session = cluster.connect(database)
    dry = inv("db.drop", "--dry")
    assert dry.returncode == 0
    assert dry.stdout.startswith(f"would drop {database!r}, ")
    assert dry.stdout.endswith(", end 1 session\n")
    assert database in cluster.databases()

    cluster.settle(database, 1)  # of the run before one may just be ending
    done = inv("db.drop", "--yes", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sessions"] == 1
    assert database not in cluster.databases()
    with pytest.raises(psycopg2.OperationalError), session.cursor() as cursor:
        cursor.execute("SELECT 1")
    session.close()

    again = inv("db.drop", "--yes")
    assert (again.returncode, again.stdout) == (0, f"{database!r} is not there, nothing to drop\n")


def test_drop_asks_and_without_a_terminal_refuses(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    done = inv("db.drop", input="y\n")
    assert done.returncode == 2
    assert "no terminal to ask on, add --yes or --confirm" in done.stderr
    wrong = inv("db.drop", "--confirm", "other")
    assert wrong.returncode == 2
    assert f"--confirm 'other' is not the database's name, expected {database!r}" in wrong.stderr
    assert database in cluster.databases()


def test_yes_does_not_drop_what_is_protected(
    tmp_path: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    project = make_project(tmp_path / "p", cluster.url(database), environment="prod")
    put_stamp(cluster.target(database, environment="prod"))
    assert inv("db.drop", "--env", "prod", "--yes", cwd=project).returncode == 2
    assert database in cluster.databases()
    done = inv("db.drop", "--env", "prod", "--confirm", database, cwd=project)
    assert done.returncode == 0
    assert database not in cluster.databases()


def test_drop_names_what_is_kept_beside(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    kept = put_side(cluster, database, "old", "26112207551800")
    done = inv("db.drop", "--yes")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith(f"kept: {kept!r}")
    assert kept in cluster.databases()


def test_drop_refuses_the_maintenance_database(project: Path, inv: Inv, cluster: Cluster) -> None:
    use_url(project, cluster.url("postgres"))
    done = inv("db.drop", "--confirm", "postgres")
    assert done.returncode == 2
    assert "'postgres' is the maintenance database" in done.stderr


def test_drop_waits_for_nobody_who_holds_the_lock(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    from pgtasks.server.lock import Lock

    with Lock(cluster.target(database), "db.restore"):
        done = inv("db.drop", "--yes")
    assert done.returncode == 6
    assert "is locked by another run: db.restore, process " in done.stderr
    assert database in cluster.databases()


# --- db.run ------------------------------------------------------------------------------------


def write(project: Path, **files: str) -> list[str]:
    flags = []
    for name, text in files.items():
        (project / f"{name}.sql").write_text(text, encoding="utf-8")
        flags += ["--file", f"{name}.sql"]
    return flags


def sleeping(cluster: Cluster, database: str) -> int:
    """Return the number of sessions that sleep in a database: others may have slept elsewhere."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query ~ '^SELECT pg_sleep'"
    )
    return int(cluster.value(query, parameters=(database,)))


def test_run_waits_for_nobody_who_holds_the_lock(
    project: Path, inv: Inv, start_inv: Callable[..., Any], cluster: Cluster, database: str
) -> None:
    from pgtasks.server.lock import Lock

    flags = write(project, make="CREATE TABLE t (a int);")
    with Lock(cluster.target(database), "db.restore"):
        done = inv("db.run", *flags)
        assert inv("--dry", "db.run", *flags).returncode == 0
    assert done.returncode == 6
    assert "is locked by another run: db.restore, process " in done.stderr
    assert cluster.value("SELECT to_regclass('t')", database) is None
    running = start_inv("db.run", *write(project, held="SELECT pg_sleep(600);"))
    until(lambda: sleeping(cluster, database))
    assert "db.run, process " in inv("db.run", *flags).stderr
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=PATIENCE) == 130


def test_run_runs_files_in_order(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    flags = write(
        project,
        first="CREATE TABLE t (a text);\nCOPY t FROM stdin;\nä\n\\\\c is no command here\n\\.\n",
        second="\\set x 7\nDO $$BEGIN RAISE NOTICE 'seen'; END$$;\nSELECT count(*)+:x AS n FROM t;",
    )
    done = inv("db.run", *flags)
    assert (done.returncode, done.stdout.split()) == (0, ["n", "---", "9", "(1", "row)"])
    assert "NOTICE:  seen" in done.stderr
    assert cluster.execute("SELECT a FROM t", database)[0] == ("ä",)


def test_run_takes_all_back_and_names_file_and_line(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    flags = write(project, good="CREATE TABLE good ();", bad="SELECT 1;\n\nSELECT nope;\nSELECT 2;")
    done = inv("db.run", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'error: bad.sql:3: ERROR: column "nope" does not exist'
    assert "LINE 1: SELECT nope;" in done.stderr
    assert cluster.value("SELECT to_regclass('good')", database) is None

    rest = inv("db.run", *flags, "--no-transaction")
    assert rest.returncode == 1
    assert cluster.value("SELECT to_regclass('good')::text", database) == "good"


def test_run_names_file_and_line_in_the_servers_language(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    # the words in front of a message are the server's; here a notice has those of an error
    notice = "DO $$BEGIN RAISE NOTICE 'x' USING DETAIL = 'psql:z.sql:9: ERROR:  no'; END$$;"
    flags = write(project, a=f"{notice}\nSELECT 1/0;")
    done = inv("db.run", *flags)
    assert done.stderr.splitlines()[-1] == "error: a.sql:2: ERROR: division by zero"


def test_run_without_a_stdout_runs_all_the_same(
    project: Path, cluster: Cluster, database: str
) -> None:
    flags = write(project, a="CREATE TABLE t (); SELECT 1;")
    argv = ["/bin/sh", "-c", '"$@" >&-', "sh", str(INV), "db.run", *flags]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT to_regclass('t')::text", database) == "t"


def test_run_takes_all_back_when_its_reader_goes_away(
    project: Path, cluster: Cluster, database: str
) -> None:
    flags = write(project, a="CREATE TABLE t (); SELECT generate_series(1, 1000000);")
    script = 'set -o pipefail; "$@" | head -1'
    argv = ["/bin/bash", "-c", script, "bash", str(INV), "db.run", *flags]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert cluster.value("SELECT to_regclass('t')", database) is None


def test_run_dry_runs_nothing(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    flags = write(project, a="CREATE TABLE t ();")
    done = inv("--dry", "db.run", *flags)
    assert done.returncode == 0
    assert done.stdout == "would run 1 file, in one transaction:\n  a.sql (18 B)\n"
    assert cluster.value("SELECT to_regclass('t')", database) is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "nothing to run, name files (--file FILE) or a text (--sql SQL)"),
        (["--file", "nope.sql"], "file 'nope.sql' does not exist"),
        (["--file", "env"], "file 'env' is a folder"),
    ],
)
def test_run_refuses_what_is_no_file(project: Path, inv: Inv, flags: list[str], words: str) -> None:
    done = inv("db.run", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"error: {words}"


@pytest.mark.parametrize(
    "line", ["\\connect other", "\\c other", "  \\c", "\\connect -reuse-previous=on x"]
)
def test_run_refuses_what_leads_elsewhere(
    project: Path, inv: Inv, cluster: Cluster, database: str, line: str
) -> None:
    flags = write(project, a=f"CREATE TABLE t ();\n{line}\nSELECT 1;")
    done = inv("db.run", *flags, "--no-transaction")
    assert done.returncode == 2
    assert "a.sql:2: \\connect leads away from the database that was checked" in done.stderr
    assert cluster.value("SELECT to_regclass('t')", database) is None


def test_run_guards_as_a_write(tmp_path: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    project = make_project(tmp_path / "p", cluster.url(database), environment="prod")
    put_stamp(cluster.target(database, environment="prod"))
    flags = write(project, a="CREATE TABLE t ();")
    assert inv("db.run", "--env", "prod", *flags, cwd=project).returncode == 2
    assert cluster.value("SELECT to_regclass('t')", database) is None
    done = inv("db.run", "--env", "prod", "--confirm", database, *flags, cwd=project)
    assert done.returncode == 0
    assert cluster.value("SELECT to_regclass('t')::text", database) == "t"


def test_run_on_a_lost_server_is_unreachable(project: Path, inv: Inv) -> None:
    flags = write(project, a="SELECT pg_terminate_backend(pg_backend_pid());\nSELECT 1;")
    assert inv("db.run", *flags).returncode == 4


def test_run_is_cancelled_on_the_server_too(
    project: Path, start_inv: Callable[..., Any], cluster: Cluster, database: str
) -> None:
    flags = write(project, a="CREATE TABLE t ();\nSELECT pg_sleep(600);")
    running = start_inv("db.run", "--no-transaction", *flags)
    until(lambda: sleeping(cluster, database))
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    left = "the statements that had ended stay, each was committed for itself"
    assert (out, err.splitlines()[-1]) == ("", f"error: interrupted: {left}")
    until(lambda: not sleeping(cluster, database))


def test_run_works_on_a_database_of_any_name(
    tmp_path: Path, inv: Inv, any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_cluster, ODD)
    project = make_project(tmp_path / "p", "postgresql:///x")
    use_url(project, any_cluster.url(name))
    put_stamp(any_cluster.target(name))
    (project / "-odd 'file.sql").write_text("SELECT current_database();")
    done = inv("db.run", "--file=-odd 'file.sql", cwd=project)
    assert done.returncode == 0, done.stderr
    assert ODD in done.stdout


# --- db.shell ----------------------------------------------------------------------------------


def test_shell_is_psql_on_the_database(project: Path, inv: Inv, database: str) -> None:
    (project / "psqlrc").write_text("\\set QUIET on\n\\pset tuples_only on\n")
    env = {"PSQLRC": str(project / "psqlrc")}
    done = inv("db.shell", input="SELECT current_database();\n", env=env)
    assert (done.returncode, done.stdout.split()) == (0, [database])


@pytest.mark.parametrize("flags", [[], ["--write"]])
def test_dry_of_inv_opens_no_shell(
    inv: Inv, cluster: Cluster, database: str, flags: list[str]
) -> None:
    done = inv("--dry", "db.shell", *flags, input="CREATE TABLE t ();")
    assert done.returncode == 0
    assert done.stderr.endswith("would open psql\n")
    assert cluster.value("SELECT to_regclass('t')", database) is None


def test_shell_of_a_protected_database_only_reads(
    tmp_path: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    project = make_project(tmp_path / "p", cluster.url(database), environment="prod")
    put_stamp(cluster.target(database, environment="prod"))
    make = "CREATE TABLE t ();"
    done = inv("db.shell", "--env", "prod", input=make, cwd=project)
    assert "read-only, as environment 'prod' is protected; --write and its name" in done.stderr
    assert "cannot execute CREATE TABLE in a read-only transaction" in done.stderr
    refused = inv("db.shell", "--env", "prod", "--write", input=make, cwd=project)
    assert refused.returncode == 2
    assert cluster.value("SELECT to_regclass('t')", database) is None
    named = ["--write", "--confirm", database]
    assert inv("db.shell", "--env", "prod", *named, input=make, cwd=project).returncode == 0
    assert cluster.value("SELECT to_regclass('t')::text", database) == "t"


def test_shell_of_content_without_a_stamp_only_reads(
    tmp_path: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    project = make_project(tmp_path / "p", cluster.url(database))
    cluster.execute("CREATE TABLE t ()", database)
    done = inv("db.shell", input="DROP TABLE t;", cwd=project)
    assert "read-only transaction" in done.stderr


def test_shell_of_a_database_that_is_not_there(project: Path, inv: Inv, cluster: Cluster) -> None:
    use_url(project, cluster.url("not_there"))
    done = inv("db.shell")
    assert done.returncode == 4
    assert "database 'not_there' does not exist, make it with inv db.create" in done.stderr


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["-c", "select 'a'"], "inv db.run --sql 'select '\"'\"'a'\"'\"''"),
        (["-l"], "inv db.run --sql 'SELECT ...'"),
    ],
)
def test_shell_refuses_flags_of_psql(project: Path, inv: Inv, words: list[str], way: str) -> None:
    done = inv("db.shell", "--", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(f"pipe SQL into it, or {way}")


def test_run_runs_a_text(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    done = inv("db.run", "--sql", "CREATE TABLE t AS SELECT 41 + 1 AS a; TABLE t")
    assert (done.returncode, done.stdout.split()[:5]) == (0, ["SELECT", "1", "a", "----", "42"])
    assert "ran the text of --sql, " in done.stdout + done.stderr
    assert cluster.value("SELECT a FROM t", database) == 42
    (project / "a.sql").write_text("SELECT 1;")
    both = inv("db.run", "--file", "a.sql", "--sql", "SELECT 2", "--dry", cwd=project)
    assert "would run 1 file and the text of --sql, in one transaction:" in both.stdout
    wrong = inv("db.run", "--sql", "SELECT 1;\nSELECT nope")
    assert wrong.stderr.splitlines()[-1].startswith("error: --sql:2: ERROR: column")
    away = inv("db.run", "--sql", "\\c postgres")
    assert (away.returncode, "--sql:1: \\connect leads away" in away.stderr) == (2, True)


def test_run_shows_what_a_statement_without_rows_did(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    (project / "a.sql").write_text("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);")
    filled = inv("db.run", "--file", "a.sql", cwd=project)
    assert filled.stdout == "", "a file may hold any number of statements"
    mixed = "UPDATE t SET a = 3; COPY (SELECT 7) TO STDOUT; DELETE FROM t WHERE a = 3"
    done = inv("db.run", "--file", "a.sql", "--sql", f"DROP TABLE t; {mixed}", cwd=project)
    assert done.returncode == 1  # a.sql makes a table that is there
    done = inv("db.run", "--sql", mixed)
    assert done.stdout.splitlines() == ["UPDATE 2", "7", "DELETE 2"]
    alone = inv("db.run", "--no-transaction", "--sql", "\\pset format csv \\\\ DROP TABLE t")
    assert alone.stdout.splitlines() == ["Output format is csv.", "DROP TABLE"]


def test_shell_leaves_ctrl_c_to_psql(project: Path, database: str) -> None:
    nap = "DO $$BEGIN RAISE NOTICE 'as%', 'leep'; PERFORM pg_sleep(600); END$$;\n"
    prompt = f"{database}=# "
    ended = answer(
        [INV, "db.shell"],
        [(prompt, nap), ("asleep", "\x03"), (prompt, "SELECT 40 + 2;\n"), (prompt, "\\q\n")],
        cwd=project,
        env={"PAGER": "cat", "TERM": "dumb"},
    )
    assert ended.code == 0
    assert "canceling statement due to user request" in ended.screen
    assert "42" in ended.screen


def test_drop_asks_on_a_terminal(project: Path, cluster: Cluster, database: str) -> None:
    question = r"this cannot be undone, go on\? \[y/N\] "
    refused = answer([INV, "db.drop"], [(question, "\n")], cwd=project)
    assert refused.code == 2
    assert "error: not confirmed, nothing was done" in refused.screen
    assert database in cluster.databases()
    done = answer([INV, "db.drop"], [(question, "Y\n")], cwd=project)
    assert (done.code, f"dropped '{database}'" in done.screen) == (0, True)
    assert database not in cluster.databases()


# --- db.check ----------------------------------------------------------------------------------


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    found = json.loads(done.stdout)["findings"]
    return {one["subject"]: (one["state"], one["text"]) for one in found}


def test_check_of_a_database_that_is_ready(project: Path, inv: Inv, cluster: Cluster) -> None:
    done = inv("db.check", "--json")
    assert done.returncode == 0, done.stderr
    found = findings(done)
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["server"][1].startswith(f"PostgreSQL {cluster.major}.")
    assert found["database"][1].startswith("UTF8, C.UTF-8, ")
    assert found["stamp"][1] == "dev"
    assert json.loads(done.stdout)["stamp"] == "dev"


def test_check_of_each_server(
    any_cluster: Cluster, tmp_path: Path, inv: Inv, fresh_database: Callable[..., str]
) -> None:
    project = make_project(tmp_path / "p", any_cluster.url(fresh_database(any_cluster)))
    done = inv("db.check", "--verbose", cwd=project)
    assert done.returncode == 0, done.stderr
    assert f"PostgreSQL {any_cluster.major}." in done.stdout
    assert "none: inv db.create stamps an empty database" in done.stdout


def test_check_of_a_plain_role(
    project: Path, inv: Inv, cluster: Cluster, database: str, plain: Callable[..., str]
) -> None:
    role = plain()
    cluster.execute("CREATE TABLE hidden ()", database)
    use_url(project, as_role(cluster, role, database))
    done = inv("db.check", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["exit_code"] == 1
    found = findings(done)
    assert found["role"] == (
        "note",
        f"{role} may not create databases: db.restore works with --in-place alone "
        f"(ALTER ROLE {role} CREATEDB); "
        f"is not a member of postgres, the owner: no restore, no stamp (GRANT postgres TO {role}); "
        f"can only end sessions of its own roles (GRANT pg_signal_backend TO {role})",
    )
    assert found["reading"][0] == "fault"
    assert "1 object, the first is table public.hidden: no SELECT" in found["reading"][1]


def test_check_of_an_owner_with_createdb(
    tmp_path: Path,
    inv: Inv,
    cluster: Cluster,
    plain: Callable[..., str],
    fresh_database: Callable[..., str],
) -> None:
    role = plain("CREATEDB")
    database = fresh_database(cluster, owner=role)
    cluster.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(role)))
    project = make_project(tmp_path / "p", as_role(cluster, role, database))
    found = findings(inv("db.check", "--json", cwd=project))
    assert found["role"] == ("ok", f"{role}, owns the database, may create databases")


def test_check_names_what_interrupted_runs_left(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    cluster.create(f"{database}__new_26112207551800")
    put_side(cluster, database, "old", "26112207551900")
    cluster.create(f"{database}__older")  # of somebody else
    done = inv("db.check")
    cluster.drop(f"{database}__older")
    assert done.returncode == 0
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert sum(f"{database}__" in line for line in done.stdout.splitlines()) == 2, lines
    assert f"'{database}__new_26112207551800', half built: inv db.recover drops it" in done.stdout
    assert f"'{database}__old_26112207551900', " in done.stdout


def test_ids_times_and_ways_out_are_whole_on_a_narrow_terminal(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    made = [json.loads(inv("db.backup", "--json").stdout)["id"] for _ in range(2)]
    inv("backup.verify", "--backup", made[0])
    cluster.create(f"{database}__new_26112207551800")
    for columns in ("80", "40"):
        env = {"COLUMNS": columns}
        listed = answer([INV, "backup.list"], [], cwd=project, env=env).screen
        assert all(f"{backup}" in listed for backup in made), listed
        assert max(map(len, listed.splitlines()[1:])) <= int(columns)
        journal = answer([INV, "journal.list"], [], cwd=project, env=env).screen
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", journal)) == 3, journal
        checked = answer([INV, "db.check"], [], cwd=project, env=env).screen
        sentence = f"'{database}__new_26112207551800', half built: inv db.recover drops it if"
        assert sentence in " ".join(checked.split())  # folded between words, a command is whole
        assert any("inv db.recover" in line for line in checked.splitlines()), checked


def test_what_a_run_is_building_is_no_leftover(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    side = put_side(cluster, database, "new", "26112207551800")
    with Lock(cluster.target(database), "db.restore"):
        done = inv("db.check")
    assert f"{side!r}, not finished: db.restore, process {os.getpid()} of " in done.stdout
    lines = [line for line in done.stdout.splitlines() if "of a killed run" not in line]
    assert "left over" not in "\n".join(lines)  # other tests kill theirs meanwhile
    assert f"{side!r}, half built: inv db.recover drops it" in inv("db.check").stdout


def test_each_right_that_is_missing_comes_with_its_statement(
    inv: Inv, tmp_path: Path, cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    database = fresh_database(cluster)
    cluster.execute('CREATE ROLE "the reader" LOGIN')
    try:
        url = cluster.target(database).url().replace("postgres@", "the%20reader@")
        done = inv("db.check", cwd=make_project(tmp_path / "shop", url))
        for statement in (
            'ALTER ROLE "the reader" CREATEDB',
            'GRANT pg_signal_backend TO "the reader"',
            'GRANT postgres TO "the reader"',
        ):
            assert f"({statement})" in done.stdout, done.stdout + done.stderr
            cluster.execute(statement)
    finally:
        cluster.execute('DROP ROLE "the reader"')


def test_check_of_a_database_that_refuses_connections(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    shut = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
    cluster.execute(shut.format(sql.Identifier(database)))
    done = inv("db.check")
    assert done.returncode == 1
    assert "database: refuses connections: inv db.recover opens it" in done.stderr


def test_check_of_a_database_that_is_not_there(project: Path, inv: Inv, cluster: Cluster) -> None:
    use_url(project, cluster.url("not_there"))
    done = inv("db.check", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["exit_code"] == 4
    assert "make it with inv db.create" in json.loads(done.stdout)["error"]


def test_check_of_a_database_of_another_environment(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    put_stamp(cluster.target(database, environment="prod"))
    done = inv("db.check")
    assert done.returncode == 2, "as the guard of any other task"
    assert "stamp: database " in done.stderr
    assert "is stamped 'prod'" in done.stderr


def test_check_counts_free_connections(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    use_url(project, cluster.url(database), jobs=900)
    done = inv("db.check")
    assert done.returncode == 1
    assert "a restore with jobs 900 needs 903" in done.stderr


# --- db.check --verbose: a connection that fails ------------------------------------------------


def steps(done: subprocess.CompletedProcess[str]) -> list[tuple[str, bool, str]]:
    return [(one["name"], one["ok"], one["text"]) for one in json.loads(done.stdout)["steps"]]


def verbose(inv: Inv, project: Path, code: int = 4, **more: Any) -> list[tuple[str, bool, str]]:
    done = inv("db.check", "--verbose", "--json", cwd=project, **more)
    assert done.returncode == code, done.stderr
    found = steps(done)
    assert all(ok for _, ok, _ in found[:-1])
    if code:
        name, ok, text = found[-1]
        assert not ok
        assert done.stderr.splitlines()[-1] == f"error: {name}: {text}"
    return found


def test_verbose_name(project: Path, inv: Inv) -> None:
    use_url(project, "postgresql://ann@no-such-host.invalid/shop")
    found = verbose(inv, project)
    assert found[0][0] == "name"
    assert found[0][2].startswith("'no-such-host.invalid': ")


def test_verbose_port(project: Path, inv: Inv) -> None:
    with deaf_port() as port:
        use_url(project, f"postgresql://ann@localhost:{port}/shop")
        found = verbose(inv, project)
    assert [name for name, _, _ in found] == ["name", "connect"]
    assert f"127.0.0.1 port {port}: refused: nothing listens on that port" in found[1][2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak the protocol"),
        (b"", "closed the connection"),
    ],
)
def test_verbose_other_service(project: Path, inv: Inv, answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        use_url(project, f"postgresql://ann@127.0.0.1:{listener.getsockname()[1]}/shop")
        found = verbose(inv, project)
        thread.join()
    assert found[-1][0] == "answer"
    assert words in found[-1][2]


def test_verbose_silent_service(project: Path, inv: Inv) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        use_url(project, f"postgresql://ann@127.0.0.1:{port}/shop?connect_timeout=1")
        found = verbose(inv, project)
    assert found[-1][:2] == ("answer", False)
    assert "no answer" in found[-1][2]


def test_verbose_socket(project: Path, inv: Inv, cluster: Cluster, tmp_path: Path) -> None:
    use_url(project, f"postgresql://ann@/shop?host={tmp_path}/nope")
    assert verbose(inv, project)[-1][2] == f"folder '{tmp_path}/nope': No such file or directory"
    use_url(project, cluster.url("shop").replace("port=5432", "port=5499"))
    found = verbose(inv, project)
    assert found[-1][2].endswith(".s.PGSQL.5499 is not there, there are ports 5432")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(f"{cluster.host}/.s.PGSQL.5498")
    stale.close()
    use_url(project, cluster.url("shop").replace("port=5432", "port=5498"))
    assert verbose(inv, project)[-1][0] == "connect"
    Path(f"{cluster.host}/.s.PGSQL.5498").unlink()


def tcp_url(cluster: Cluster, user: str, database: str, query: str = "") -> str:
    return f"postgresql://{user}@127.0.0.1:{cluster.tcp_port}/{database}{query}"


def test_verbose_tls(project: Path, inv: Inv, password_cluster: Cluster) -> None:
    use_url(project, tcp_url(password_cluster, "postgres", "shop", "?sslmode=require"))
    found = verbose(inv, project)
    assert found[-1] == (
        "answer",
        False,
        "a PostgreSQL server without TLS, and sslmode is require",
    )


def test_verbose_password(
    project: Path, inv: Inv, password_cluster: Cluster, tmp_path: Path
) -> None:
    use_url(project, tcp_url(password_cluster, "postgres", "shop"))
    found = verbose(inv, project)
    assert found[3][0] == "password"
    assert found[3][2].startswith("none: no setting has one, and there is no ")
    assert "no password supplied" in found[-1][2]

    pgpass = Path(os.environ["HOME"]) / ".pgpass"
    pgpass.write_text("*:*:*:somebody:x\n")
    pgpass.chmod(0o600)
    assert f"{pgpass} has no line for 127.0.0.1:" in verbose(inv, project)[3][2]
    pgpass.write_text("*:*:*:postgres:wrong\n")
    found = verbose(inv, project)
    assert found[3][2] == f"from {pgpass}"
    assert (found[-1][0], "password authentication failed" in found[-1][2]) == ("login", True)
    pgpass.chmod(0o644)
    assert "can be read by others, libpq ignores it" in verbose(inv, project)[3][2]

    (project / "secret").write_text(PASSWORD)
    url = tcp_url(password_cluster, "postgres", "shop")
    use_url(project, url, password_command="cat secret")
    found = verbose(inv, project)
    assert found[3][2].startswith("from the password_command of env/dev.yaml")
    assert found[4][:2] == ("login", True)
    assert found[-1][0] == "database"
    assert 'database "shop" does not exist' in found[-1][2]


def test_verbose_all_is_well(project: Path, inv: Inv) -> None:
    names = [name for name, _, _ in verbose(inv, project, code=0)]
    assert names == ["socket", "connect", "answer", "password", "login", "database"]


def test_verbose_prints_the_steps(project: Path, inv: Inv) -> None:
    with deaf_port() as port:
        use_url(project, f"postgresql://ann@127.0.0.1:{port}/shop")
        done = inv("db.check", "--verbose")
    assert done.stdout == ""
    *lines, way, error = done.stderr.splitlines()[1:]
    assert [line.split()[0] for line in (*lines, error)] == ["ok", "FAILED", "error:"]
    assert way.strip().startswith("start the server, let it listen there, or correct `host` and")


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("h:5432:d:u:p", True),
        ("*:*:*:*:p", True),
        ("h:5432:d:u", False),
        ("h:5432:d:other:p", False),
        ("#h:5432:d:u:p", False),
        ("h\\:x:5432:d:u:p", False),
        ("\\h:5432:d:u:p", False),
        ("", False),
    ],
)
def test_a_line_of_a_password_file(line: str, there: bool) -> None:
    found = passfile_password(f"# mine\n{line}\n", ("h", "5432", "d", "u"))
    assert found == ("p" if there else None)


def test_a_line_of_a_password_file_with_escapes() -> None:
    assert passfile_password("::1:5432:d:u:p", ("::1", "5432", "d", "u")) is None
    line = "\\:\\:1:5432:d\\\\x:u\\:v:p\\:\\\\q:r"
    assert passfile_password(line, ("::1", "5432", "d\\x", "u:v")) == "p:\\q:r"
