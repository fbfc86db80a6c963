"""Several environments at once: `--env a,b` and `--env 'prod-*'`."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Inv
from hosts import DatabaseHost
from invoke import Context, Exit
from invoke.parser import Parser
from paths import ROOT
from projects import make_project, put_stamp
from servers import Cluster
from terminal import answer
from waiting import PATIENCE, until

import pgtasks
from pgtasks.cli import group_result, parallel
from pgtasks.cli.group_result import GroupResult, RunResult
from pgtasks.settings import selection
from pgtasks.settings.project import load

INV = Path(sys.executable).parent / "inv"
NOWHERE = "url: postgresql://ann@127.0.0.1:1/shop\n"
Make = Callable[..., Path]

LEFT = "interrupted: no backup was kept"


@pytest.fixture
def shop(tmp_path: Path, cluster: Cluster, fresh_database: Callable[..., str]) -> Make:
    """Return what makes a project with environments of these names, each with its database."""

    def make(*names: str, database: str = "") -> Path:
        root = make_project(tmp_path / "the shop", cluster.url(), environment="dev")
        (root / "env" / "dev.yaml").unlink()
        for name in names:
            target = cluster.target(
                fresh_database(cluster, database and f"{database} {name}"), environment=name
            )
            put_stamp(target)
            (root / "env" / f"{name}.yaml").write_text(f"url: '{target.url()}'\n")
        return root

    return make


def add_task(project: Path, file: str, text: str) -> None:
    (project / "tasks").mkdir(exist_ok=True)
    (project / "tasks" / file).write_text(text)


def table(text: str) -> dict[str, list[str]]:
    """Return the rows of the table that a run ends with, by environment."""
    body = text[text.rindex("\nenvironment ") + 1 :] if "\nenvironment " in text else text
    rows = [re.split(r"\s{2,}", line, maxsplit=3) for line in body.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def journaled(project: Path) -> list[dict[str, Any]]:
    lines = (project / "backups" / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def children(pid: int) -> set[int]:
    """Return the runs that one started and that still run, without the shell that watches them."""
    runs = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            program = (stat.parent / "cmdline").read_bytes().partition(b"\0")[0]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid and state != "Z" and program != b"sh":
            runs.add(int(stat.parent.name))
    return runs


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("dev,test", ["dev", "test"]),
        ("test,dev", ["test", "dev"]),
        ("test, Development ,dev", ["test", "dev"]),
        ("prod-*", ["prod-eu", "prod-us"]),
        ("PROD-?S", ["prod-us"]),
        ("prod-[a-e]*", ["prod-eu"]),
        ("prod-us,prod-*,dev", ["prod-us", "prod-eu", "dev"]),
        ("*", ["dev", "prod-eu", "prod-us", "test"]),
    ],
)
def test_names_and_patterns(tmp_path: Path, flag: str, names: list[str]) -> None:
    project = load(make_project(tmp_path, "postgresql:///x", environment="prod-eu"))
    (tmp_path / "env" / "Prod-US.yaml").write_text(NOWHERE)
    assert selection.expand(project, flag) == names


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("dev,prdo", "unknown environment 'prdo', did you mean 'prod', known: dev, prod, test"),
        ("prdo-*", "no environment matches 'prdo-*', did you mean 'prod', known: dev, prod, test"),
        ("dev,x*", "no environment matches 'x*', known: dev, prod, test"),
        ("dev,,test", "--env 'dev,,test': a name is missing beside a comma"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_starts(
    project: Path, inv: Inv, flag: str, said: str
) -> None:
    (project / "env" / "prod.yaml").write_text(NOWHERE)
    done = inv("db.backup", "--env", flag)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")
    assert not (project / "backups").exists()


@pytest.mark.parametrize("number", ["0", "65", "-1", "many", "1.5", "²", " "])
def test_the_number_at_once_is_checked(project: Path, inv: Inv, number: str) -> None:
    for flag in ("dev,test", "dev"):
        done = inv("backup.list", "--env", flag, f"--hosts-at-once={number}")
        assert done.returncode == 2
        assert (
            done.stderr == f"error: --hosts-at-once: {number!r}, expected a number from 1 to 64\n"
        )


def test_tasks_of_one_environment_refuse_several() -> None:
    tree = pgtasks.namespace(ROOT / "tasks.py")
    refusing, taking = [], []
    for name in tree.task_names:
        names = {argument.name for argument in tree[name].get_arguments(ignore_unknown_help=True)}
        if "env" not in names:
            continue
        several = "hosts_at_once" in names or name == "backup.report"  # which is one run for all
        (taking if several else refusing).append(name)
    assert {"db.restore", "db.drop", "env.check", "journal.list", "setup"} <= set(refusing)
    assert {"db.backup", "db.check", "backup.list", "backup.verify"} <= set(taking)
    for name in refusing:
        with pytest.raises(Exit) as failure:
            tree[name](Context(), env="dev,test")
        assert failure.value.code == 2
        assert failure.value.message == (
            "error: --env 'dev,test' names several environments, which only these tasks take: "
            + ", ".join(sorted(taking))
        )


def test_a_refusal_is_one_document_too(project: Path, inv: Inv) -> None:
    done = inv("db.undo", "--env", "prod-*", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith("--env 'prod-*' names several environments")


# --- the call ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["db.backup"],
        ["db.backup", "--note", "two words"],
        ["db.backup", "--note=--jsonx"],
        ["db.backup", "--note=-x=y"],
        ["db.backup", "--note", "db.check"],
        ["db.backup", "--note", "é \"q\" 's' $HOME"],
        ["db.backup", "--no-proof", "--schema-only", "--jobs", "3"],
        ["db.backup", "--exclude-table-data", "a b", "--exclude-table-data=public.*"],
        ["backup.fetch", "latest"],
        ["backup.fetch", "a folder/-x"],
    ],
)
def test_flags_are_given_on_as_they_came(words: Sequence[str]) -> None:
    tree = pgtasks.namespace(ROOT / "tasks.py")
    task = words[0]

    def parsed(argv: Sequence[str]) -> dict[str, Any]:
        context = Parser(contexts=tree.to_contexts()).parse_argv(list(argv))[0]
        return {argument.name: argument.value for argument in context.args.values()}

    body = inspect.signature(tree[task].body)
    defaults = {each.name: each.default for each in body.parameters.values()}
    assert parsed([task, *parallel.flags(parsed(words), defaults)]) == parsed(words)


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([0, 0], 0),
        ([0, 6], 6),
        ([6, 2], 2),
        ([2, 7], 7),
        ([7, 3], 3),
        ([4, 3], 4),
        ([1, 4], 1),
        ([1, 5, 7], 5),
        ([139, 6], 139),
        ([130, 5], 130),
    ],
)
def test_the_worst_exit_code(codes: list[int], worst: int) -> None:
    ended = [RunResult(f"e{number}", code, 0.0) for number, code in enumerate(codes)]
    assert GroupResult(ended).exit_code == worst
    assert GroupResult(ended[::-1]).exit_code == worst


def test_the_order_of_exit_codes_is_documented() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text()
    match = re.search(r"worst one, in this order: (130[\d, ]*6) \(", text)
    assert match
    documented = [int(code) for code in re.findall(r"\d+", match[1])]
    assert documented == [code for code in reversed(group_result._SEVERITY) if code]


# --- runs ----------------------------------------------------------------------------------------


def test_each_environment_is_done_and_one_that_fails_stops_none(shop: Make, inv: Inv) -> None:
    root = shop("prod-eu", "qa", database="two words")
    (root / "env" / "prod-us.yaml").write_text(NOWHERE)
    done = inv("db.backup", "--env", "prod-*,qa", cwd=root)
    assert done.returncode == 4
    rows = table(done.stdout)
    assert list(rows) == ["prod-eu", "prod-us", "qa"]
    assert [row[0] for row in rows.values()] == ["done", "failed (4)", "done"]
    assert re.search(r"^  backup \S+ of qa/two words qa: 0 tables, 0 rows, .*$", done.stdout, re.M)
    assert len(rows["qa"]) == 2  # what it said stands above, whole
    assert "Connection refused" in rows["prod-us"][2]
    said = done.stderr.splitlines()
    assert said[-1] == "error: 1 of 3 environments failed: prod-us (4)"
    assert re.search(r"^prod-eu: postgres@\S+/two words prod-eu$", done.stderr, re.M)
    assert re.search(r"^prod-eu  done  [\d.]+ m?s$", done.stderr, re.M)
    assert re.search(r"^prod-us  failed \(4\)  [\d.]+ m?s  ann@127.0.0.1:1/", done.stderr, re.M)
    ended = {each["environment"]: each["result"] for each in journaled(root)}
    assert ended.keys() == rows.keys()
    assert (ended["prod-eu"], ended["qa"]) == ("done", "done")
    listed = inv("backup.list", "--env", "prod-eu,qa", "--json", cwd=root)
    assert [
        len(each["result"]["backups"]) for each in json.loads(listed.stdout)["environments"]
    ] == [
        1,
        1,
    ]


def test_what_says_more_than_a_line_is_shown_whole(shop: Make, inv: Inv) -> None:
    root = shop("one", "two")
    done = inv("db.check", "--env", "two,one", cwd=root)
    assert done.returncode == 0, done.stderr
    alone = inv("db.check", "--env", "one", cwd=root).stdout.splitlines()
    block = done.stdout.partition("one:\n")[2].partition("\n\n")[0].splitlines()
    # but for the connections, of which others have some meanwhile
    assert [line for line in block if "in use" not in line] == [
        f"  {line}" for line in alone if "in use" not in line
    ]
    assert list(table(done.stdout)) == ["two", "one"]
    assert len(table(done.stdout)["one"]) == 2


def test_json_is_one_document(shop: Make, inv: Inv) -> None:
    root = shop("one", "two")
    done = inv("db.check", "--env", "*o*,one", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said) == {"environments", "exit_code"}
    assert said["exit_code"] == 0
    assert [each["environment"] for each in said["environments"]] == ["one", "two"]
    for each in said["environments"]:
        assert set(each) == {"environment", "exit_code", "seconds", "result", "error", "hint"}
        assert (each["exit_code"], each["error"], each["hint"]) == (0, None, "")
        alone = json.loads(inv("db.check", "--env", each["environment"], "--json", cwd=root).stdout)
        for document in (alone, each["result"]):  # others connect and are killed meanwhile
            document.pop("free_connections")
            document["findings"] = [
                one
                for one in document["findings"]
                if one["subject"] != "connections" and "of a killed run" not in one["text"]
            ]
        assert each["result"] == alone


def test_json_of_a_failure_is_one_document(shop: Make, inv: Inv) -> None:
    root = shop("one")
    (root / "env" / "two.yaml").write_text(NOWHERE)
    (root / "env" / "six.yaml").write_text("jobs: many\n")
    done = inv("db.check", "--env", "one,two,six", "--json", cwd=root)
    assert done.returncode == 4
    said = json.loads(done.stdout)
    assert said["error"] == "2 of 3 environments failed: two (4), six (3)"
    assert (said["exit_code"], said["hint"]) == (4, "")
    one, two, six = said["environments"]
    assert (one["exit_code"], one["result"]["stamp"]) == (0, "one")
    assert (two["exit_code"], two["result"]) == (4, None)
    assert "Connection refused" in two["error"]
    assert (six["exit_code"], six["result"]) == (3, None)
    assert "env/six.yaml" in six["error"]
    assert done.stderr.splitlines()[-1] == f"error: {said['error']}"


def test_details_of_a_failure_are_kept(shop: Make, inv: Inv, cluster: Cluster) -> None:
    root = shop("one")
    (root / "env" / "two.yaml").write_text((root / "env" / "one.yaml").read_text())
    done = inv("db.check", "--env", "one,two", "--json", cwd=root)  # two finds the stamp of one
    assert done.returncode == 2
    two = json.loads(done.stdout)["environments"][1]
    assert two["error"].startswith("stamp: ")
    assert {"subject", "state", "text"} == set(two["result"]["findings"][0])


@pytest.mark.parametrize("words", [["db.backup", "--dry"], ["--dry", "db.backup"]])
def test_dry_is_dry_everywhere(shop: Make, inv: Inv, words: list[str]) -> None:
    root = shop("one", "two")
    done = inv(*words, "--env", "one,two", "--note", "a b", cwd=root)
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in table(done.stdout).values()] == ["done", "done"]
    assert not (root / "backups").exists()


def test_flags_reach_every_environment(shop: Make, inv: Inv, cluster: Cluster) -> None:
    root = shop("one", "two", database="shop")
    for name in ("shop one", "shop two"):
        cluster.execute('CREATE TABLE "a b" AS SELECT 1', name)
    note = "--env=x é \"q\" 's' $HOME"
    flags = ["--schema-only", "--no-proof", f"--note={note}", "--exclude-table-data=a b"]
    done = inv("db.backup", *flags, "--env=*o*,one", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    made = [each["result"] for each in json.loads(done.stdout)["environments"]]
    assert [each["environment"] for each in made] == ["one", "two"]
    for each in made:
        assert (each["note"], each["schema_only"], each["with_proof"]) == (note, True, False)
        assert each["excluded_data"] == ["a b"]


def test_settings_file_and_variables_reach_every_environment(
    shop: Make, inv: Inv, cluster: Cluster
) -> None:
    root = shop("one", "two")
    name = (root / "env" / "one.yaml").read_text().partition("?")[0].rpartition("/")[2]
    (root / "env" / "qa.yaml").write_text(f"database: {name}\n")
    (root / "more.yaml").write_text("pgtasks: {folders: {backups: elsewhere}}\n")
    libpq = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser}
    (root / "src").mkdir()
    done = inv(
        *("-f", "../more.yaml", "db.backup", "--env", "two,qa", "--json"),
        cwd=root / "src",
        env=libpq,
    )
    two, qa = json.loads(done.stdout)["environments"]
    assert two["result"]["path"].startswith(str(root / "elsewhere" / "two"))
    # it came as far as the database that PGHOST leads to, and found whose that is
    assert qa["exit_code"] == 2
    assert "'one'" in qa["error"]


@pytest.mark.parametrize("start", [["-m", "invoke"], [str(INV), "-c", "dbtasks"]])
def test_started_in_other_ways(shop: Make, start: list[str]) -> None:
    root = shop("one", "two")
    if "dbtasks" in start:
        (root / "tasks.py").rename(root / "dbtasks.py")
        (root / "tasks.py").write_text("from invoke import task\n\n@task\ndef build(c): pass\n")
    (root / "yaml.py").write_text("raise SystemExit('this is no module of ours')\n")
    (root / "sub").mkdir()
    done = answer([sys.executable, *start, "backup.list", "--env", "one,two"], [], cwd=root / "sub")
    assert done.code == 0, done.screen
    assert [row[0] for row in table(done.screen).values()] == ["done", "done"]


def test_a_tree_that_is_a_branch_of_another(shop: Make, inv: Inv) -> None:
    root = shop("one")
    (root / "tasks.py").write_text(
        "import pgtasks\nfrom invoke import Collection\n\n"
        "ns = Collection()\nns.add_collection(pgtasks.namespace(__file__), name='data')\n"
    )
    done = inv("data.backup.list", "--env", "one,dev", cwd=root)
    assert done.returncode == 0, done.stderr


SEVERAL = """
from pgtasks import run, task

@task(several=True, help={"how": "how"})
def close_books(c, how=None, env=None, json=False):
    '''Close the books.'''
    with run(c, env=env, json=json, journaled=True) as r:
        with r.writing():
            r.say("half way")
            print("closed", how)
"""


def test_a_task_of_the_projects_own(shop: Make, inv: Inv) -> None:
    root = shop("one", "two")
    add_task(root, "month_end.py", SEVERAL)
    done = inv("month-end.close-books", "--how=well", "--env=one,two", cwd=root)
    assert done.returncode == 0, done.stderr
    assert [row[2] for row in table(done.stdout).values()] == ["closed well", "closed well"]
    assert {"one: half way", "two: half way"} <= set(done.stderr.splitlines())
    assert sorted(each["environment"] for each in journaled(root)) == ["one", "two"]
    assert "month-end.close-books" in inv("db.undo", "--env=a,b", cwd=root).stderr


def test_a_bug_in_one_stops_none(shop: Make, inv: Inv) -> None:
    root = shop("one", "two")
    text = SEVERAL.replace('r.say("half way")', 'if env == "one": 1 / 0')
    add_task(root, "books.py", text)
    done = inv("books.close-books", "--env=one,two", "--json", cwd=root)
    one, two = json.loads(done.stdout)["environments"]
    assert (done.returncode, one["exit_code"], two["exit_code"]) == (1, 1, 0)
    assert one["error"] == "ZeroDivisionError: division by zero"
    assert "one: Traceback (most recent call last):" in done.stderr


def test_nobody_is_asked(shop: Make, cluster: Cluster, password_cluster: Cluster) -> None:
    root = shop("prod-eu", "dev")
    with (root / "env" / "prod-eu.yaml").open("a") as file:
        file.write("protected: true\n")
    place = f"host: {password_cluster.host}\nport: {password_cluster.port}\nuser: postgres\n"
    (root / "env" / "prod-us.yaml").write_text(f"{place}database: postgres\n")
    add_task(root, "books.py", SEVERAL)
    # on a terminal, where a run of one environment would ask
    argv = [INV, "books.close-books", "--env", "prod-*,dev"]
    done = answer(argv, [], cwd=root, columns=500)
    assert done.code == 2, done.screen
    rows = table(done.screen.rpartition("error: ")[0])
    assert [row[0] for row in rows.values()] == ["failed (2)", "failed (2)", "done"]
    # whole where each one ends, cut in the table
    assert re.search(r"^prod-eu  failed \(2\) .* is protected, add --confirm", done.screen, re.M)
    assert re.search(r"^prod-us  failed \(2\) .* requires a password", done.screen, re.M)


def test_lines_stay_whole_on_a_terminal(shop: Make) -> None:
    root = shop("one", "two", "three", "four")
    done = answer([INV, "db.backup", "--env", "one,two,three,four"], [], cwd=root)
    assert done.code == 0, done.screen
    assert "\x1b" not in done.screen
    talk = done.screen.partition("one:\n")[0].splitlines()
    assert sorted(line.partition(" ")[0].rstrip(":") for line in talk) == sorted(
        ["one", "two", "three", "four"] * 2
    )


# --- how many at once ----------------------------------------------------------------------------

HALTED = {"PGTASKS_HALT_AT": "backup.begun"}


def halt(running: Any, at_once: int) -> set[int]:
    """Wait until so many halted, and return their processes."""
    for _ in range(at_once * 2):  # the target line of each, and that it halted
        line = running.stderr.readline()
        assert re.match(r"e\d: (postgres@|halted at backup.begun)", line), line
    return children(running.pid)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_than_that_many_at_once(
    shop: Make, start_inv: Callable[..., Any], at_once: int
) -> None:
    root = shop("e1", "e2", "e3")
    running = start_inv(
        *("db.backup", "--env", "e*", "--hosts-at-once", str(at_once)), cwd=root, env=HALTED
    )
    begun = halt(running, at_once)
    assert len(begun) == at_once
    waiting, freed = 3 - at_once, set[int]()
    while left := begun - freed:
        one = left.pop()
        freed.add(one)
        os.kill(one, signal.SIGUSR1)
        until(lambda one=one: not alive(one), lambda: "a run does not end")
        if waiting:
            waiting -= 1
            lines = [running.stderr.readline() for _ in range(3)]
            assert re.match(r"e\d  done  ", lines[0]), lines
            assert "halted" in lines[2]
            now = children(running.pid)
            assert len(now) == at_once
            begun |= now
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert [row[0] for row in table(out).values()] == ["done"] * 3


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_in_order(
    shop: Make, start_inv: Callable[..., Any], sign: signal.Signals
) -> None:
    root = shop("e1", "e2", "e3")
    running = start_inv(
        *("db.backup", "--env", "e*", "--hosts-at-once=2", "--json"), cwd=root, env=HALTED
    )
    begun = halt(running, 2)
    running.send_signal(sign)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert not any(map(alive, begun))
    said = json.loads(out)
    assert (said["error"], said["exit_code"]) == ("interrupted", 130)
    assert [each["exit_code"] for each in said["environments"]] == [130, 130, 130]
    assert [each["error"] for each in said["environments"]] == [
        LEFT,
        LEFT,
        "not begun",
    ]
    assert err.splitlines()[-1] == "error: interrupted"
    assert sorted(each["result"] for each in journaled(root)) == [LEFT] * 2
    assert not list((root / "backups").rglob("*Z-*"))  # each took its half away


def test_all_end_when_the_run_is_killed(shop: Make, start_inv: Callable[..., Any]) -> None:
    root = shop("e1", "e2")
    running = start_inv("db.backup", "--env", "e*", cwd=root, env=HALTED)
    begun = halt(running, 2)
    assert len(begun) == 2
    running.kill()
    until(lambda: not any(map(alive, begun)), lambda: "a run outlives the one that started it")
    assert sorted(each["result"] for each in journaled(root)) == [LEFT] * 2


STUBBORN = """
from pgtasks import run, task

@task(several=True)
def go(c, env=None, json=False):
    import os, signal, sys, time
    parent = os.getppid()
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    with run(c, env=env, json=json) as r:
        print("deaf", file=sys.stderr, flush=True)
        while os.getppid() == parent:  # it stays behind no failed test
            time.sleep(0.05)
"""


def test_a_second_signal_kills_what_does_not_listen(
    shop: Make, start_inv: Callable[..., Any]
) -> None:
    root = shop("e1", "e2")
    add_task(root, "mule.py", STUBBORN)
    running = start_inv("mule.go", "--env", "e*", cwd=root)
    for _ in range(4):
        assert re.match(r"e\d: (postgres@|deaf)", running.stderr.readline())
    begun = children(running.pid)
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline() == "ending 2 runs; Ctrl-C once more kills them\n"
    assert all(map(alive, begun))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err.splitlines()[-1]) == (130, "error: interrupted")
    assert not any(map(alive, begun))


def test_a_run_that_is_killed_is_said(shop: Make, start_inv: Callable[..., Any]) -> None:
    root = shop("e1", "e2")
    running = start_inv("db.backup", "--env", "e*", "--hosts-at-once=1", cwd=root, env=HALTED)
    (first,) = halt(running, 1)
    os.kill(first, signal.SIGKILL)
    assert re.fullmatch(r"e1  failed \(1\)  .*  ended by SIGKILL\n", running.stderr.readline())
    said = [running.stderr.readline() for _ in range(3)]
    assert ("removed" in said[1], said[2]) == (True, "e2: halted at backup.begun\n")
    (second,) = children(running.pid)
    os.kill(second, signal.SIGUSR1)
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert [row[0] for row in table(out).values()] == ["failed (1)", "done"]


# --- over SSH ------------------------------------------------------------------------------------


def test_several_hosts(tmp_path: Path, inv: Inv, db1: DatabaseHost, db2: DatabaseHost) -> None:
    root = make_project(tmp_path / "shop", "postgresql:///x")
    names = {"prod-eu": db1, "prod-us": db2}
    for name, host in names.items():
        host.cluster.create("shop", owner=host.user)
        settings = yaml.safe_dump(host.settings(database="shop"))
        (root / "env" / f"{name}.yaml").write_text(settings)
    try:
        lost = db1.settings(database="shop", ssh={"port": 9})  # nobody listens there
        (root / "env" / "prod-lost.yaml").write_text(yaml.safe_dump(lost))
        for words in (
            ["remote.check"],
            ["db.check"],
            ["db.backup"],
            ["backup.verify"],
            ["db.backup", "--on-host"],
            ["backup.fetch", "latest"],
        ):
            done = inv(*words, "--env", "prod-*", "--json", "--hosts-at-once=2", cwd=root)
            said = json.loads(done.stdout)["environments"]
            codes = {each["environment"]: each["exit_code"] for each in said}
            assert codes == {"prod-eu": 0, "prod-lost": 4, "prod-us": 0}, (words, done.stderr)
            assert done.returncode == 4
        for host in names.values():
            host.quiet()
    finally:
        for host in names.values():
            host.cluster.drop("shop")
