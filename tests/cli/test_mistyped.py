"""What is typed and is no task, no flag, no value: the answer names what is near."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from projects import make_project

from pgtasks import namespace
from pgtasks.cli.overview import FIRST
from pgtasks.server import connection

ID = "20260131T020003Z-5f1c"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose database nobody reaches: nothing here is to ask for it."""
    url = "postgresql://nobody@127.0.0.1:1/none"
    return make_project(tmp_path_factory.mktemp("mistyped") / "shop", url)


def names_of(project: Path) -> set[str]:
    return {context.name for context in namespace(str(project / "tasks.py")).to_contexts()}


def _words(typed: str) -> list[str]:
    """Return the words of a shell; where a quote is not closed, those between blanks."""
    return shlex.split(typed) if typed.count("'") % 2 == 0 else typed.split(" ")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("db.bakcup", "unknown task 'db.bakcup', did you mean db.backup"),
        ("db:backup", "unknown task 'db:backup', did you mean db.backup"),
        ("restore", "unknown task 'restore', did you mean db.restore"),
        ("xyzzy", "unknown task 'xyzzy', inv --list shows all"),
        ("--help db.restor", "unknown task 'db.restor', did you mean db.restore"),
        ("seed", "'seed' is a group of tasks, name one: seed."),
        ("backup", "'backup' is a group of tasks, did you mean db.backup, or one: backup."),
        ("db.back", "unknown task 'db.back', did you mean db.backup, clone.back"),
        ("db.rest", "unknown task 'db.rest', did you mean db.restore"),
        ("db.run 'DELETE FROM t'", "by a flag: inv db.run --sql 'DELETE FROM t'"),
        ("db.restore --bakcup x", "db.restore has no flag '--bakcup', did you mean --backup"),
        ("db.backup --yes", "db.backup has no flag '--yes', known: --"),
        ("inspect.table --evn dev t", "inspect.table has no flag '--evn', did you mean --env"),
        ("inspect.table t --evn dev", "inspect.table has no flag '--evn', did you mean --env"),
        ("db.copy --from prod --to dev", "db.copy has no flag '--from', known: --"),
        ("db.copy prod --form=dev", "db.copy has no flag '--form', known: --"),
        ("db.copy prod --drry", "db.copy has no flag '--drry', did you mean --dry"),
        ("backup.show --all", "backup.show has no flag '--all', "),
        (f"db.restore {ID}", f"db.restore takes '{ID}' by a flag: inv db.restore --backup {ID}"),
        ("db.run a.sql", "db.run takes 'a.sql' by a flag: inv db.run --file a.sql"),
        ("migrate.new two-words", "by a flag: inv migrate.new --message two-words"),
        ("env.show dev", "env.show takes 'dev' by a flag: inv env.show --env dev"),
        (f"backup.verify {ID}", f"by a flag: inv backup.verify --backup {ID}"),
        ("db.backup prod", "by a flag: inv db.backup --env prod"),
        ("db.backup db.chekc", "unknown task 'db.chekc', did you mean db.check"),
        (
            "db.check --env dev --env=prod",
            "error: db.check: --env is given twice, with 'dev' and 'prod': give it once, several "
            "environments with a comma: --env dev,prod",
        ),
        ("db.backup --env=dev --env a,'b c'", "with a comma: --env 'dev,a,b c'"),
        ("db.drop --env dev --env prod", "with 'dev' and 'prod': give it once"),
        ("db.check --env dev --env dev", "with 'dev' and 'dev': give it once"),
        ("db.check --env dev --env setup", "with 'dev' and 'setup': give it once"),  # no task
        ("backup.show --env dev --env prod", "with 'dev' and 'prod': give it once"),  # no ID
        ("db.run --sql 1 --sql '2'", "db.run: --sql is given twice, with '1' and '2': give it"),
        ("db.check --env dev --env --json", "db.check: --env needs a value"),
        ("db.check --env dev --env", "db.check: --env needs a value"),
        ("db.backup db.nope", "unknown task 'db.nope', did you mean db."),
        ("db.restore env.lists", "unknown task 'env.lists', did you mean env.list"),
        ("db.run seed.sql", "db.run takes 'seed.sql' by a flag: inv db.run --file seed.sql"),
        ("backup.show", "needs ID of inv backup.list: inv backup.show ID (inv --help backup.show)"),
        ("db.copy prod", "db.copy needs TARGET: inv db.copy prod TARGET (inv --help db.copy)"),
        ("env.use", "env.use needs NAME: inv env.use NAME (inv --help env.use)"),
        ("db.restore --backup", "db.restore: --backup needs a value (inv --help db.restore)"),
        ("db.restore --leave-out", "db.restore: --leave-out needs a value"),
        ("db.restore --accept --dry", "db.restore: --accept needs a value"),
        ("migrate.new -m", "migrate.new: --message needs a value"),
        (
            "--env dev db.check",
            "flag '--env' of inv, the flags of a task go after it: inv db.check",
        ),
        ("--env=d'v db.check --json", """go after it: inv db.check --env 'd'"'"'v' --json"""),
        ("--env", "unknown flag '--env' of inv, the flags of a task go after it (inv --list"),
    ],
)
def test_the_answer_names_what_is_near(inv: Any, shop: Path, words: str, answer: str) -> None:
    done = inv(*_words(words), cwd=shop)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert answer in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "<" not in done.stderr


def test_a_value_is_quoted_as_a_shell_takes_it(inv: Any, shop: Path) -> None:
    done = inv("migrate.new", "add the notes", cwd=shop)
    assert "inv migrate.new --message 'add the notes'" in done.stderr


def test_a_script_gets_its_document(inv: Any, shop: Path) -> None:
    done = inv("db.bakcup", "--json", cwd=shop)
    assert "did you mean db.backup" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ("help db.restore", "db.restore"),
        ("help db.drop --yes", "db.drop"),
        ("help --env dev db.drop", "db.drop"),
        ("help --json migrate.down --dry", "migrate.down"),
        ("help backup.show", "backup.show"),  # which takes an ID
        ("help db.restore db.drop", "db.restore"),
        ("db.restore help", "db.restore"),
        ("db.check help db.drop", "db.drop"),
        ("help help", "help"),
        ("db.copy --help", "db.copy"),  # which takes two environments
        ("env.use -h --json", "env.use"),
    ],
)
def test_help_of_a_task_runs_nothing(inv: Any, shop: Path, words: str, task: str) -> None:
    done = inv(*words.split(" "), cwd=shop)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == inv("--help", task, cwd=shop).stdout
    assert f" {task} " in done.stdout.splitlines()[0]


def test_the_help_shows_which_flags_take_a_value(inv: Any, shop: Path) -> None:
    words = inv("help", "db.restore", cwd=shop).stdout.split()
    assert {"--accept=STRING", "--leave-out=STRING", "--backup=STRING", "--dry"} <= set(words)
    assert "--file=STRING" in inv("help", "db.run", cwd=shop).stdout


def test_help_of_a_task_leaves_the_database_as_it_is(inv: Any, project: Path, target: Any) -> None:
    with connection.session(target) as conn:
        connection.execute(conn, "CREATE TABLE public.kept (id int)")
    assert inv("db.backup", cwd=project).returncode == 0
    with connection.session(target) as conn:
        connection.execute(conn, "INSERT INTO public.kept VALUES (1)")
        before = connection.rows(
            conn, "SELECT oid FROM pg_database WHERE datname = current_database()"
        )
    for words in (("help", "db.restore"), ("help", "db.drop", "--yes"), ("db.restore", "help")):
        assert inv(*words, cwd=project).returncode == 0
    with connection.session(target) as conn:
        after = connection.rows(
            conn, "SELECT oid FROM pg_database WHERE datname = current_database()"
        )
        assert connection.value(conn, "SELECT count(*) FROM public.kept") == 1
    assert after == before


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("help db.restor", "unknown task 'db.restor', did you mean db.restore"),
        ("help db", "'db' is a group of tasks, name one: db."),
        ("help nosuch", "unknown task 'nosuch', inv --list shows all"),
    ],
)
def test_help_of_what_is_no_task(inv: Any, shop: Path, words: str, answer: str) -> None:
    done = inv(*words.split(" "), cwd=shop)
    assert (done.returncode, done.stdout) == (1, "")
    assert answer in done.stderr


def test_a_help_of_the_projects_own_is_left_alone(inv: Any, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    (project / "tasks").mkdir()
    (project / "tasks" / "help.py").write_text(
        "from invoke import task\n\n\n@task\ndef help(c, word):\n    print(f'own {word}')\n"
    )
    assert inv("help", "db.check", cwd=project).stdout == "own db.check\n"


@pytest.mark.parametrize("words", [(), ("help",)])
def test_inv_alone_says_where_one_is_and_what_to_begin_with(
    inv: Any, shop: Path, words: tuple[str, ...]
) -> None:
    done = inv(*words, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "dev: nobody@127.0.0.1:1/none\n"
    assert done.stdout.startswith("environment dev (")
    assert sum(line.startswith("  inv ") for line in done.stdout.splitlines()) == len(FIRST)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_tasks_to_begin_with_are_there(shop: Path) -> None:
    names = names_of(shop)
    assert {words.split()[0] for words, _ in FIRST} <= names


def test_a_default_of_the_project_goes_first(inv: Any, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    with (project / "tasks.py").open("a") as file:
        file.write(
            "\nimport invoke\n@invoke.task\ndef hello(c):\n    print('hello')\n"
            "ns.add_task(hello, default=True)\n"
        )
    assert inv(cwd=project).stdout == "hello\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module\n", "tasks/own.py:1: ModuleNotFoundError: No module named"),
        ("x = 1\ndef broken(:\n", "tasks/own.py:2: SyntaxError: "),
        ("raise SystemExit('no')\n", "tasks/own.py:1: SystemExit: no"),
        ("print('x')\nraise BaseException('no')\n", "tasks/own.py:2: BaseException: no"),
    ],
)
def test_a_broken_file_of_the_projects_own_stops_no_other_task(
    inv: Any, tmp_path: Path, text: str, words: str
) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    (project / "tasks").mkdir()
    (project / "tasks" / "own.py").write_text(text)
    done = inv("env.list", "--json", cwd=project)
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert done.stderr.count(f"warning: {words}") == 1
    assert "its tasks are left out" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_is_a_line_for_each_task(inv: Any, shop: Path) -> None:
    lines = inv("--list", cwd=shop, env={"COLUMNS": "80"}).stdout.splitlines()
    tasks = [line for line in lines if line.startswith("  ")]
    assert len(tasks) == len(names_of(shop))
    assert max(map(len, lines)) <= 80


def test_help_in_a_branch_of_another_tree_runs_nothing(inv: Any, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    (project / "tasks.py").write_text(
        "import invoke, pgtasks\n\nns = invoke.Collection(pg=pgtasks.namespace(__file__))\n"
    )
    for words in (("pg.help", "pg.db.drop"), ("pg.db.drop", "pg.help")):
        done = inv(*words, cwd=project)
        assert (done.returncode, done.stderr) == (0, "")
        assert " pg.db.drop " in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("db.restore", "--into", ""), "--into"),  # the database itself would be replaced
        (("db.restore", "--into="), "--into"),
        (("db.restore", "--only-table", ""), "--only-table"),
        (("migrate.stamp", ""), "TO"),  # the version table would be emptied
        (("backup.import", ""), "PATH"),  # the folder in which it is typed
        (("env.status", "db.copy", "dev", ""), "TARGET"),
        (("trigger.drop", "--table", "", "--name", "x"), "--table"),
        (("seed.load", "--set", ""), "--set"),
    ],
)
def test_an_empty_value_is_not_no_value(
    inv: Any, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    refused = inv(*argv, cwd=project)
    assert refused.returncode == 2, refused.stderr
    way = "give it a value, or leave it out" if words.startswith("--") else "give it a value"
    assert refused.stderr.splitlines()[-1] == f"error: {words} is empty: {way}"


def test_a_text_and_an_own_task_may_have_an_empty_value(inv: Any, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    assert inv("db.backup", "--note", "", cwd=project).returncode == 4
    (project / "tasks").mkdir()
    (project / "tasks" / "own.py").write_text(
        "from pgtasks import task\n@task\ndef greet(c, who, how=''):\n    print(repr((who, how)))\n"
    )
    done = inv("own.greet", "", "--how", "", cwd=project)
    assert (done.returncode, done.stdout) == (0, "('', '')\n"), done.stderr


def test_a_doubled_positional_is_no_task(inv: Any, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    refused = inv("backup.drop", "latest", "latest", cwd=project)
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: backup.drop takes ID alone, 'latest' is too many (inv --help backup.drop)\n"
    )
    refused = inv("db.copy", "dev", "test", "prod", cwd=project)
    assert "db.copy takes SOURCE TARGET alone, 'prod' is too many" in refused.stderr
    refused = inv("backup.show", "latest", "db.bakcup", cwd=project)
    assert "did you mean db.backup" in refused.stderr
