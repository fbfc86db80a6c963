"""The env tasks as a person types them: what they print, what they refuse, what they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layout import lay_out
from servers import Cluster
from terminal import answer
from waiting import PATIENCE

from pgtasks.server import connection, stamp
from pgtasks.server.identity import system_identifier
from pgtasks.settings.target import Target

INV = Path(sys.executable).parent / "inv"
TASKS = "import pgtasks\n\nns = pgtasks.namespace(__file__)\n"
SETTINGS = "tasks:\n  executor_class: pgtasks.cli.executor.TaskExecutor\npgtasks: {}\n"
Inv = Callable[..., "subprocess.CompletedProcess[str]"]


def error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of an error; nothing else is wrong with the output."""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0].removeprefix("error: ")


def journal(root: Path) -> list[dict[str, Any]]:
    path = root / "backups" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a project with several environments, none of which is reached."""
    return lay_out(
        tmp_path / "shop",
        {
            "tasks.py": TASKS,
            "invoke.yaml": SETTINGS,
            "env/dev.yaml": "seeds: [a]\nbackup: {keep: 3}\nsettings: {api: {token: x, n: 1}}\n",
            "env/prod.yaml": "host: db1\ndatabase: shop\nuser: owner\nsslmode: verify-full\n",
            "env/prod.env": "DATABASE_PASSWORD=s3cret\n",
            "env/qa.yaml": "url: postgresql://u:s3cret@qa1:6000/q?sslcert=/c.pem\n",
        },
    )


# --- list, show, status ---


def test_list_marks_the_chosen_one(inv: Inv, shop: Path) -> None:
    done = inv("env.list", cwd=shop, env={"PGTASKS_ENV": "qa"})
    assert done.returncode == 0
    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()[2:]] == [
        ["dev", "pgtasks@embedded", "server/shop_dev", "env/dev.yaml"],
        [
            "prod",
            "protected",
            "owner@db1:5432/shop",
            "env/prod.yaml,",
            "DATABASE_PASSWORD",
            "(env/prod.env)",
        ],
        ["*", "qa", "u@qa1:6000/q", "env/qa.yaml"],
        ["test", "pgtasks@embedded", "server/shop_test", "default"],
    ]


def test_list_shows_a_broken_environment_among_the_others(inv: Inv, shop: Path) -> None:
    lay_out(shop, {"env/bad.yaml": "prt: 1\n"})
    done = inv("env.list", "--json", cwd=shop)
    found = {line["name"]: line for line in json.loads(done.stdout)["environments"]}
    assert found["bad"]["error"] == "env/bad.yaml:1: unknown key 'prt', did you mean 'port'"
    assert found["dev"] == {
        "name": "dev",
        "current": True,
        "protected": False,
        "target": "pgtasks@embedded server/shop_dev",
        "defined_by": ["env/dev.yaml"],
        "error": "",
    }


def test_show_prints_every_value_with_its_layer(inv: Inv, shop: Path) -> None:
    done = inv(
        "env.show", "--env", "qa", cwd=shop, env={"INVOKE_PGTASKS_ENVIRONMENTS_QA_JOBS": "5"}
    )
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    for row in (
        ["host", "qa1", "env/qa.yaml:1"],
        ["port", "6000", "env/qa.yaml:1"],
        ["jobs", "5", "INVOKE_PGTASKS_ENVIRONMENTS_QA_JOBS"],
        ["protected", "false", "default"],
        ["password", "***", "env/qa.yaml:1"],
        ["sslcert", "/c.pem", "env/qa.yaml:1"],
    ):
        assert row in rows
    assert "s3cret" not in done.stdout + done.stderr
    assert done.stderr == "qa: u@qa1:6000/q\n"


def test_show_masks_the_applications_secrets(inv: Inv, shop: Path) -> None:
    values = json.loads(inv("env.show", "--json", cwd=shop).stdout)["values"]
    assert values["settings.api.token"] == {"value": "***", "layer": "env/dev.yaml:3"}
    assert values["settings.api.n"] == {"value": 1, "layer": "env/dev.yaml:3"}
    assert values["backup.keep.last"] == {"value": 3, "layer": "env/dev.yaml:2"}
    assert values["seeds"] == {"value": ["a"], "layer": "env/dev.yaml:1"}


def test_show_reveals_on_request_alone(inv: Inv, shop: Path) -> None:
    masked = inv("env.show", "--env", "prod", "--url", cwd=shop)
    assert masked.stdout == "postgresql://owner:***@db1:5432/shop?sslmode=verify-full\n"
    shown = inv("env.show", "--env", "prod", "--url", "--reveal", cwd=shop)
    assert shown.stdout == "postgresql://owner:s3cret@db1:5432/shop?sslmode=verify-full\n"
    table = inv("env.show", "--env", "prod", "--reveal", cwd=shop).stdout
    assert ["password", "s3cret", "DATABASE_PASSWORD (env/prod.env:1)"] in [
        line.split(None, 2) for line in table.splitlines()
    ]


def test_no_secret_goes_into_a_document(inv: Inv, shop: Path) -> None:
    done = inv("env.show", "--env", "prod", "--reveal", "--json", cwd=shop)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "error": "--reveal and --json do not go together: no secret goes into a document",
        "exit_code": 2,
        "hint": "",
    }


def test_show_reveals_what_a_command_prints(inv: Inv, shop: Path) -> None:
    lay_out(shop, {"env/eu.yaml": "host: h\nuser: u\npassword_command: echo s3cret\n"})
    assert "s3cret@h" not in inv("env.show", "--env", "eu", "--url", cwd=shop).stdout
    shown = inv("env.show", "--env", "eu", "--url", "--reveal", cwd=shop)
    assert shown.stdout == "postgresql://u:s3cret@h:5432/shop_eu\n"


def test_the_url_of_a_server_that_never_was_is_unreachable(inv: Inv, shop: Path) -> None:
    done = inv("env.show", "--url", cwd=shop)
    assert done.returncode == 4
    assert "the server was never started, start it with inv server.start" in error(done)


def test_status_says_why(inv: Inv, shop: Path) -> None:
    found = json.loads(inv("env.status", "--json", cwd=shop, env={"PGTASKS_ENV": "QA"}).stdout)
    assert (found["environment"], found["reason"]) == ("qa", "PGTASKS_ENV")
    assert found["target"] == "u@qa1:6000/q"
    said = {one["source"]: one["environment"] for one in found["candidates"]}
    assert said["PGTASKS_ENV"] == "QA"
    assert said["inv env.use in this checkout"] is None


# --- use ---


def test_use_is_remembered_and_journaled(inv: Inv, shop: Path) -> None:
    done = inv("env.use", "QA", cwd=shop)
    assert done.stdout == "dev -> qa\n"
    assert inv("env.status", cwd=shop).stdout.startswith("qa (inv env.use in this checkout)\n")
    inv("env.use", "development", cwd=shop)
    first, second = journal(shop)
    assert (first["task"], first["result"]) == ("env.use", "done")
    assert first["details"] == {"from": "dev", "to": "qa", "overruled_by": None}
    assert first["who"]
    assert second["details"]["from"] == "qa"
    assert second["details"]["to"] == "dev"


def test_use_refuses_what_is_protected(inv: Inv, shop: Path) -> None:
    done = inv("env.use", "prod", cwd=shop)
    assert done.returncode == 2
    assert "'prod' is protected, it cannot be a remembered choice" in error(done)
    assert not (shop / ".pgtasks").exists()
    assert journal(shop)[0]["result"].startswith("environment 'prod' is protected")


def test_use_says_what_overrules_it(inv: Inv, shop: Path) -> None:
    done = inv("env.use", "qa", cwd=shop, env={"PGTASKS_ENV": "test"})
    assert done.stdout == "test -> qa\nbut PGTASKS_ENV (test) wins over it\n"


def test_use_leads_out_of_a_choice_that_is_gone(inv: Inv, shop: Path) -> None:
    lay_out(shop, {".pgtasks/environment": "gone\n"})
    done = inv("env.status", cwd=shop)
    assert done.returncode == 2
    assert "unknown environment 'gone'" in error(done)
    assert inv("env.use", "dev", cwd=shop).stdout == "gone -> dev\n"
    assert inv("env.status", cwd=shop).returncode == 0


def test_the_next_task_of_one_command_line_follows(inv: Inv, shop: Path) -> None:
    done = inv("env.use", "qa", "env.show", "--url", cwd=shop)
    assert done.stdout.splitlines()[-1].startswith("postgresql://u:***@qa1:6000/q")


# --- stamp ---


def comment(cluster: Cluster, database: str) -> str:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return str(cluster.value(query, parameters=(database,)) or "")


def set_stamp(target: Target, text: str, **said: str) -> None:
    with connection.session(target) as conn:
        facts = {"environment": "dev", "database": target.database}
        facts |= {"system": system_identifier(conn), **said}
        made = stamp.Stamp(**facts)
        connection.execute(conn, stamp.comment_statement(target.database, text, made))


@pytest.fixture
def adopted(tmp_path: Path, cluster: Cluster, target: Target) -> Path:
    """Return a project whose database has content, a comment, and no stamp."""
    cluster.execute("CREATE TABLE t ()", target.database)
    cluster.execute(f"COMMENT ON DATABASE \"{target.database}\" IS 'the shop'")
    return lay_out(
        tmp_path / "adopted",
        {"tasks.py": TASKS, "invoke.yaml": SETTINGS, "env/dev.yaml": f"url: '{target.url()}'\n"},
    )


def test_stamping_content_needs_the_name(
    inv: Inv, adopted: Path, cluster: Cluster, target: Target
) -> None:
    done = inv("env.stamp", cwd=adopted)
    assert done.returncode == 2
    assert f"counts as protected, add --confirm {target.database}" in error(done)
    done = inv("env.stamp", "--confirm", "shop", cwd=adopted)
    assert done.returncode == 2
    assert comment(cluster, target.database) == "the shop"

    done = inv("env.stamp", "--confirm", target.database, cwd=adopted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("before  no stamp\nnow     pgtasks: environment=dev ")
    assert comment(cluster, target.database).startswith("the shop\npgtasks: environment=dev ")
    entry = journal(adopted)[-1]
    assert (entry["task"], entry["result"], entry["database"]) == (
        "env.stamp",
        "done",
        target.database,
    )
    assert entry["details"]["before"] is None

    done = inv("env.stamp", "--json", cwd=adopted)  # its own stamp: nothing to ask, nothing to do
    assert done.returncode == 0
    assert json.loads(done.stdout)["changed"] is False


def test_a_dry_stamp_writes_nothing(
    inv: Inv, adopted: Path, cluster: Cluster, target: Target
) -> None:
    for argv in (("env.stamp", "--dry"), ("--dry", "env.stamp")):
        done = inv(*argv, cwd=adopted)
        assert done.returncode == 0
        assert "now     pgtasks: environment=dev" in done.stdout
        assert "without --dry it would be refused" in done.stderr
    assert comment(cluster, target.database) == "the shop"
    assert journal(adopted) == []


@pytest.mark.parametrize("said", [{"environment": "prod"}, {"system": "7"}, {"database": "other"}])
def test_a_stamp_that_contradicts_is_replaced_by_name(
    inv: Inv, adopted: Path, cluster: Cluster, target: Target, said: dict[str, str]
) -> None:
    set_stamp(target, "the shop", origin="prod/shop@1", **said)
    before = comment(cluster, target.database)
    for argv in (("env.stamp",), ("env.stamp", "--confirm", "shop")):
        assert inv(*argv, cwd=adopted).returncode == 2
        assert comment(cluster, target.database) == before
    done = inv("env.stamp", "--confirm", target.database, cwd=adopted)
    assert done.returncode == 0
    text, found = stamp.split(comment(cluster, target.database))
    assert text == "the shop"
    assert found is not None
    assert (found.environment, found.database, found.origin) == (
        "dev",
        target.database,
        "prod/shop@1",
    )


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ("{name}\n", 0, "now     pgtasks: environment=dev"),
        ("shop\n", 2, "nothing was done"),
        ("\n", 2, "nothing was done"),
        ("y\n", 2, "nothing was done"),
        ("\x04", 2, "nothing was done"),
        ("\x03", 130, "interrupted"),
    ],
)
def test_a_terminal_is_asked_for_the_name(
    adopted: Path, cluster: Cluster, target: Target, typed: str, code: int, words: str
) -> None:
    question = r"counts as protected\s+type the database's name to go on: "
    text = typed.format(name=target.database)
    ended = answer([INV, "env.stamp"], [(question, text)], cwd=adopted)
    assert ended.code == code, ended.screen
    assert words in ended.screen
    assert ("environment=dev" in comment(cluster, target.database)) == (code == 0)


def test_a_role_that_does_not_own_the_database_is_told(
    inv: Inv, adopted: Path, cluster: Cluster, target: Target
) -> None:
    cluster.execute("DROP ROLE IF EXISTS plain_stamper")
    cluster.execute("CREATE ROLE plain_stamper LOGIN")
    url = target.url().replace("postgresql://postgres@", "postgresql://plain_stamper@")
    lay_out(adopted, {"env/dev.yaml": f"url: '{url}'\n"})
    done = inv("env.stamp", "--confirm", target.database, cwd=adopted)
    assert done.returncode == 1
    assert "must be owner of database" in error(done)
    assert comment(cluster, target.database) == "the shop"
    cluster.execute("DROP ROLE plain_stamper")


def test_a_database_of_another_environment_is_not_even_healed(
    inv: Inv, adopted: Path, target: Target
) -> None:
    set_stamp(target, "", environment="prod")
    for argv in (["db.recover"], ["db.restore"], ["db.backup"], ["db.drop", "--yes"]):
        done = inv(*argv, cwd=adopted)
        assert done.returncode == 2, done.stderr
        assert "is stamped 'prod', the chosen environment is 'dev'" in error(done)


# --- bad input: one line, an exit code, nothing changed ---

BAD_INPUT = {
    "unknown environment": (["--env", "prdo"], {}, {}, 2, "'prdo', did you mean 'prod'"),
    "unknown key": ([], {"env/dev.yaml": "prt: 1\n"}, {}, 3, "env/dev.yaml:1: unknown key 'prt'"),
    "wrong type": ([], {"env/dev.yaml": "port: abc\n"}, {}, 3, "port: 'abc', expected a number"),
    "broken yaml": ([], {"env/dev.yaml": "a: [\n"}, {}, 3, "env/dev.yaml:2: did not find"),
    "broken invoke.yaml": ([], {"invoke.yaml": "a: [\n"}, {}, 3, "invoke.yaml:2: did not find"),
    "unknown key of the project": (
        [],
        {"invoke.yaml": "pgtasks: {fodlers: {}}\n"},
        {},
        3,
        "'pgtasks.fodlers', did you mean",
    ),
    "broken dotenv": ([], {".env": "A 'b\n"}, {}, 3, ".env:1: expected NAME=value"),
    "url of another kind": (
        [],
        {"env/dev.yaml": "url: $DATABASE_URL\n"},
        {"DATABASE_URL": "mysql://u:s3cret@h/d"},
        3,
        "env/dev.yaml:1, DATABASE_URL: a mysql:// URL",
    ),
    "no url": ([], {}, {"DEV_DATABASE_URL": "s3cret"}, 3, "DEV_DATABASE_URL: no PostgreSQL URL"),
    "variable": (
        [],
        {},
        {"INVOKE_PGTASKS_ENVIRONMENTS_DEV_JOBS": "abc"},
        3,
        "JOBS: 'abc', expected a number",
    ),
    "circle": (
        [],
        {"env/dev.yaml": "inherits: test\n", "env/test.yaml": "inherits: dev\n"},
        {},
        3,
        "a cycle, dev inherits test inherits dev",
    ),
    "protection": (
        ["--env", "prod"],
        {},
        {"INVOKE_PGTASKS_ENVIRONMENTS_PROD_PROTECTED": "false"},
        3,
        "protected cannot be turned off",
    ),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_line_and_changes_nothing(inv: Inv, shop: Path, what: str) -> None:
    flags, files, variables, code, words = BAD_INPUT[what]
    lay_out(shop, files)
    before = sorted(str(path) for path in shop.rglob("*"))
    done = inv("env.show", *flags, cwd=shop, env=variables)
    assert done.returncode == code
    assert words in error(done)
    assert "s3cret" not in done.stdout + done.stderr
    assert done.stdout == ""
    failed = inv("env.show", *flags, "--json", cwd=shop, env=variables)
    assert failed.returncode == code
    assert json.loads(failed.stdout) == {"error": error(done), "exit_code": code, "hint": ""}
    assert sorted(str(path) for path in shop.rglob("*")) == before


RUNTIME_FILES = {
    "missing": ("no.yaml", None, 2, "config file 'no.yaml' does not exist"),
    "missing, without a suffix": ("no", None, 2, "config file 'no' does not exist"),
    "of another kind": ("ci.txt", "a: 1\n", 2, "config file 'ci.txt', expected .yaml"),
    "broken": ("ci.yaml", "a: [\n", 3, "ci.yaml:2: did not find"),
    "broken JSON": ("ci.json", "{", 3, "ci.json:1: Expecting"),
    "an environment's": ("env/prod.yaml", None, 2, "choose it with --env, not with -f"),
    "code": ("ci.py", "pgtasks = {}\n", 3, "settings of pgtasks must be in YAML or JSON"),
}


@pytest.mark.parametrize(
    ("what", "behind"),
    # behind a task's name -f may be a flag of the task: there only a settings file is judged
    [*((what, False) for what in RUNTIME_FILES), ("missing", True), ("broken", True)],
)
def test_a_bad_runtime_file_is_one_line(inv: Inv, shop: Path, what: str, behind: bool) -> None:
    name, text, code, words = RUNTIME_FILES[what]
    if text:
        lay_out(shop, {name: text})
    argv = ["env.show", "-f", name] if behind else ["-f", name, "env.show"]
    done = inv(*argv, cwd=shop)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in error(done)


def test_a_missing_runtime_file_of_the_process_is_refused(inv: Inv, shop: Path) -> None:
    done = inv("env.show", cwd=shop, env={"INVOKE_RUNTIME_CONFIG": "no.yaml"})
    assert done.returncode == 2
    assert error(done) == "config file 'no.yaml' does not exist"


def test_a_runtime_file_lies_over_variables(inv: Inv, shop: Path) -> None:
    lay_out(shop, {"ci.yaml": "pgtasks: {environments: {dev: {jobs: 7, seeds: [z]}}}\n"})
    variables = {
        "INVOKE_PGTASKS_ENVIRONMENTS_DEV_JOBS": "5",
        "INVOKE_PGTASKS_ENVIRONMENTS_DEV_SEEDS": "y",  # Invoke's own reading takes no lists
        "INVOKE_PGTASKS_ENVIRONMENTS_DEV_PROTECTED": "false",  # and this for true
    }
    done = inv("-f", "ci.yaml", "env.show", "--json", cwd=shop, env=variables)
    values = json.loads(done.stdout)["values"]
    assert values["jobs"] == {"value": 7, "layer": "ci.yaml:1"}
    assert values["seeds"]["value"] == ["z"]
    assert values["protected"]["value"] is False


@pytest.mark.parametrize(
    ("value", "expected"), [("'abc'", "a number"), ("0", "1 to 1000"), ("-1", "1 to 1000")]
)
def test_a_flag_lies_over_all_and_is_checked(
    inv: Inv, project: Path, value: str, expected: str
) -> None:
    done = inv("db.backup", f"--jobs={value.strip(chr(39))}")
    assert done.returncode == 2
    assert error(done) == f"--jobs: {value}, expected {expected}"
    assert not (project / "backups").exists()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"port": "1"}, 4, "Connection refused"),
        ({"host": "/nowhere"}, 4, "No such file or directory"),
        ({"user": "nobody_here"}, 4, 'role "nobody_here" does not exist'),
        (
            {"database": "not there"},
            4,
            "database 'not there' does not exist, make it with inv db.create",
        ),
        ({"maintenance": "not there"}, 4, "name an existing one in `maintenance`"),
    ],
)
def test_what_is_not_there_is_unreachable(
    inv: Inv, adopted: Path, change: dict[str, str], code: int, words: str
) -> None:
    if "port" in change:
        change = {"host": "127.0.0.1", **change}
    prefix = "INVOKE_PGTASKS_ENVIRONMENTS_DEV_"
    done = inv("env.stamp", cwd=adopted, env={prefix + k.upper(): v for k, v in change.items()})
    assert done.returncode == code, done.stderr
    assert words in error(done)


def test_a_wrong_password_is_unreachable(inv: Inv, shop: Path, password_cluster: Cluster) -> None:
    url = password_cluster.url().replace("s3cret", "wr0ng")
    done = inv("env.stamp", cwd=shop, env={"DEV_DATABASE_URL": url})
    assert done.returncode == 4
    assert "password authentication failed" in error(done)
    assert "wr0ng" not in done.stderr


def test_a_wrong_password_is_shown_with_its_source(
    inv: Inv, shop: Path, password_cluster: Cluster
) -> None:
    wrong = {"DEV_DATABASE_URL": password_cluster.url().replace("s3cret", "wr0ng")}
    assert inv("db.check", cwd=shop, env=wrong).stderr.splitlines()[1:3] == [
        "  the password is from DEV_DATABASE_URL",
        "  inv verify.connection checks the connection step by step",
    ]
    pgpass = shop / "pgpass"
    pgpass.write_text("*:*:*:*:wr0ng\n")
    pgpass.chmod(0o600)
    url = password_cluster.url().replace(":s3cret", "")
    done = inv(
        "db.check",
        cwd=shop,
        env={"DEV_DATABASE_URL": url, "INVOKE_PGTASKS_ENVIRONMENTS_DEV_PASSFILE": str(pgpass)},
    )
    assert f"  the password is from {pgpass}\n" in done.stderr


def test_without_a_terminal_no_password_is_asked_for(
    inv: Inv, shop: Path, password_cluster: Cluster
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{password_cluster.tcp_port}/postgres"
    done = inv("env.stamp", cwd=shop, env={"DEV_DATABASE_URL": url})
    assert done.returncode == 2
    assert "the server requires a password and there is no terminal to ask on" in error(done)


# --- libpq's own variables ---

# https://www.postgresql.org/docs/current/libpq-envars.html
VARIABLES = """
    PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGPASSFILE PGREQUIREAUTH PGCHANNELBINDING
    PGSERVICE PGSERVICEFILE PGOPTIONS PGAPPNAME PGSSLMODE PGREQUIRESSL PGSSLNEGOTIATION
    PGSSLCOMPRESSION PGSSLCERT PGSSLKEY PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL PGSSLCRLDIR PGSSLSNI
    PGREQUIREPEER PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGGSSENCMODE PGKRBSRVNAME
    PGGSSLIB PGGSSDELEGATION PGCONNECT_TIMEOUT PGCLIENTENCODING PGTARGETSESSIONATTRS
    PGLOADBALANCEHOSTS PGMINPROTOCOLVERSION PGMAXPROTOCOLVERSION PGDATESTYLE PGTZ PGGEQO
    PGSYSCONFDIR PGLOCALEDIR PGDATA
"""
NONSENSE = dict.fromkeys(VARIABLES.split(), "nonsense")


def test_nonsense_in_libpqs_variables_changes_nothing(
    inv: Inv, adopted: Path, cluster: Cluster, target: Target
) -> None:
    plain = inv("env.show", "--json", cwd=adopted)
    done = inv("env.show", "--json", cwd=adopted, env=NONSENSE)
    assert done.stdout == plain.stdout
    done = inv("env.stamp", "--confirm", target.database, cwd=adopted, env=NONSENSE)
    assert done.returncode == 0, done.stderr
    assert "environment=dev" in comment(cluster, target.database)
    # programs that pgtasks starts see none of them either
    done = inv(
        "db.run",
        "--file",
        "x.sql",
        cwd=lay_out(adopted, {"x.sql": "CREATE TABLE made ();"}),
        env=NONSENSE,
    )
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT to_regclass('made')::text", target.database) == "made"


# --- an environment that is switched in the middle of an operation ---

SLOW = """
from pathlib import Path
from pgtasks import run, task

@task
def slow(c, json=False):
    '''Say where it works, before and after another terminal chooses another environment.'''
    with run(c) as r:
        target = r.reached().target
        print(target.database, flush=True)
        with open("gate") as gate:
            gate.read()
        from pgtasks.server import connection
        with connection.session(r.target) as conn:
            print(connection.value(conn, "SELECT current_database()"), r.environment.name)
"""


def test_a_switch_in_the_middle_does_not_move_the_target(
    inv: Inv,
    start_inv: Callable[..., Any],
    adopted: Path,
    cluster: Cluster,
    fresh_database: Callable[..., str],
    target: Target,
) -> None:
    other = cluster.target(fresh_database(cluster))
    lay_out(adopted, {"tasks/slow.py": SLOW, "env/qa.yaml": f"url: '{other.url()}'\n"})
    os.mkfifo(adopted / "gate")
    running = start_inv("slow", cwd=adopted)
    assert running.stdout.readline() == f"{target.database}\n"
    assert inv("env.use", "qa", cwd=adopted).stdout == "dev -> qa\n"
    lay_out(adopted, {"env/dev.yaml": f"url: '{other.url()}'\n"})
    (adopted / "gate").write_text("go on")
    out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out) == (0, f"{target.database} dev\n"), err
    assert inv("env.status", cwd=adopted).stdout.startswith("qa (")
