"""verify.all: what it tries, what it refuses, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import PASSWORD, Inv
from halting import halted
from projects import make_project, put_stamp, stamp_of
from psycopg2 import sql
from servers import Cluster
from setups import make_shop
from waiting import PATIENCE, until

from pgtasks.cli.opening import opened
from pgtasks.database import scratch
from pgtasks.errors import Failed
from pgtasks.report import junit
from pgtasks.settings import project as projects
from pgtasks.settings.target import Target
from pgtasks.verify import perform
from pgtasks.verify.check import CATEGORIES, without_command

Fresh = Callable[..., str]


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv) -> Path:
    """A project with all parts, whose database has quotes, a space and an emoji in its name."""
    root = make_shop(cluster, fresh_database, tmp_path / "shop")
    assert inv("db.init", cwd=root).returncode == 0
    return root


@pytest.fixture
def traces(cluster: Cluster) -> Callable[[], dict[str, Any]]:
    """Return what a run must leave as it is: databases, their comments, roles, temporary files."""

    def look() -> dict[str, Any]:
        query = "SELECT json_object_agg(datname, shobj_description(oid, 'pg_database'))"
        return {
            "databases": cluster.value(f"{query} FROM pg_database"),
            "roles": cluster.value("SELECT array_agg(rolname ORDER BY 1) FROM pg_roles"),
            "files": sorted(Path(os.environ.get("TMPDIR", "/tmp")).glob("pgtasks-run-*")),
        }

    return look


def checks(done: Any) -> dict[str, tuple[str, str]]:
    """Return the result and the text of each check of a run with --json."""
    assert "Traceback" not in done.stderr, done.stderr
    document = json.loads(done.stdout)
    return {each["check"]: (each["result"], each["text"]) for each in document["checks"]}


def test_all_checks_pass_and_nothing_stays(
    shop: Path, inv: Inv, traces: Callable[[], dict[str, Any]]
) -> None:
    files = {path for path in shop.rglob("*") if "__pycache__" not in path.parts}
    before, report = traces(), shop.parent / "out.xml"
    done = inv("verify.all", "--json", "--junit", str(report), cwd=shop)
    assert done.returncode == 0, done.stderr
    found = checks(done)
    skipped = {name: text for name, (result, text) in found.items() if result != "passed"}
    down = skipped.pop("the last revision goes down and up again")
    assert down == "the downgrade of one changes nothing"
    assert skipped.keys() <= {"a wrong password is refused", "the files of roles run"}
    document = json.loads(done.stdout)
    assert document["passed"] + document["skipped"] == len(document["checks"])
    assert {each["category"] for each in document["checks"]} == {"setup", *CATEGORIES}
    assert traces() == before
    assert {path for path in shop.rglob("*") if "__pycache__" not in path.parts} == files
    suites = ElementTree.parse(report).getroot()
    assert len(suites.findall("testsuite/testcase")) == len(document["checks"])
    line = json.loads((shop / "backups" / "journal.jsonl").read_text().splitlines()[-1])
    assert (line["task"], line["result"], line["details"]["failed"]) == ("verify.all", "done", 0)


def test_some_categories_by_name(shop: Path, inv: Inv) -> None:
    done = inv("verify.all", "--only", "inspect,trigger", "--only", "inspect", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "  trigger " in done.stderr
    assert "  inspect " in done.stderr
    assert "  restore " not in done.stderr
    assert done.stdout.rstrip().partition(" in ")[0] == "13 passed, 1 skipped"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--only", "inspekt"), "--only 'inspekt': did you mean 'inspect', known: backup"),
        (("--only", "env,"), "--only '': "),
        (("--junit", "nowhere/out.xml"), "--junit 'nowhere/out.xml': No such file or directory"),
        (("--junit", "."), "--junit '.': Is a directory"),
        (("--junit", "pipe"), "--junit 'pipe': nobody reads this pipe, start its reader first"),
    ],
)
def test_a_bad_flag_is_refused_before_anything_runs(
    project: Path, inv: Inv, words: tuple[str, ...], error: str
) -> None:
    os.mkfifo(project / "pipe")
    done = inv("verify.all", *words, "--env", "dev")
    assert done.returncode == 2
    assert f"error: {error}" in done.stderr
    assert "scratch databases" not in done.stderr


@pytest.mark.parametrize("reads", [1 << 20, 0])
def test_a_pipe_gets_the_results_as_one_document(tmp_path: Path, reads: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    with ExitStack() as stack:
        if not reads:
            stack.enter_context(pytest.raises(Failed, match="Broken pipe"))
        with junit.written(str(pipe), "verify.all") as cases:
            cases.append(junit.Case("backup", "made", 0.1))
            if not reads:
                os.close(reader)
    if reads:
        document = os.read(reader, reads)
        os.close(reader)
        assert ElementTree.fromstring(document).get("tests") == "1"


def test_a_full_disk_ends_a_run_without_a_traceback() -> None:
    with (
        pytest.raises(Failed, match="/dev/full: No space left"),
        junit.written("/dev/full", "verify.all"),
    ):
        pass


def test_a_link_to_no_file_yet_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "out.xml").symlink_to("there.xml")
    with junit.written(str(tmp_path / "out.xml"), "verify.all"):
        pass
    assert (tmp_path / "out.xml").is_symlink()
    assert ElementTree.parse(tmp_path / "there.xml").getroot().get("tests") == "0"


def errors_of(report: Path) -> list[tuple[str | None, str | None]]:
    """Return the names and messages of the cases with an error, whose number the root has too."""
    root = ElementTree.parse(report).getroot()
    found = [
        (case.get("name"), fault.get("message"))
        for case in root.iter("testcase")
        for fault in case.iter("error")
    ]
    assert root.get("errors") == str(len(found))
    return found


_PROTECTED = "environment 'dev' is protected: checks make and drop databases"


@pytest.mark.parametrize(
    ("setting", "words", "code", "error"),
    [
        ("", ("--only", "inspekt", "--env", "dev"), 2, "--only 'inspekt': did you mean 'inspect'"),
        ("", ("--env", "prdo"), 2, "unknown environment 'prdo'"),
        ("protected: true\n", ("--env", "dev"), 2, _PROTECTED),
        ("host: 127.0.0.1\nport: 1\nuser: x\ndatabase: x\n", ("--env", "dev"), 4, "port 1 failed"),
    ],
)
def test_a_run_that_cannot_begin_is_an_error_in_the_report(
    project: Path, inv: Inv, setting: str, words: tuple[str, ...], code: int, error: str
) -> None:
    """Where the file of an earlier run stayed, a CI system would show its results."""
    (project / "out.xml").write_text("before")
    file = project / "env" / "dev.yaml"
    file.write_text(setting if "port" in setting else file.read_text() + setting)
    done = inv("verify.all", "--junit", "out.xml", *words)
    assert done.returncode == code, done.stderr
    [(name, message)] = errors_of(project / "out.xml")
    assert name == "start"
    assert error in str(message)
    assert error in done.stderr


def test_a_database_without_a_stamp_is_refused(
    cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv
) -> None:
    name = fresh_database(cluster)
    cluster.execute("CREATE TABLE t (id int)", name)
    root = make_project(tmp_path / "bare", cluster.target(name).url())
    done = inv("verify.all", cwd=root)
    assert done.returncode == 2
    assert "has content and no stamp, so it counts as protected" in done.stderr


def test_what_a_project_lacks_is_skipped_with_its_reason(project: Path, inv: Inv) -> None:
    done = inv("verify.all", "--only", "migrate,trigger", "--json")
    assert done.returncode == 0, done.stderr
    found = checks(done)
    assert found["all migrations apply to an empty database"] == (
        *("skipped", "the project has no migrations"),
    )
    assert found["the trigger files apply"][0] == "skipped"
    assert found["the seeds load"] == ("skipped", "environment 'dev' names no seeds")
    assert found["the last revision goes down and up again"][0] == "skipped"
    # what needs no files of the project is tried all the same
    assert found["a broken file is refused, nothing is applied"][0] == "passed"


def test_a_role_that_may_create_no_database(
    cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv, plain: Callable[..., str]
) -> None:
    role = plain("NOCREATEDB")
    target = cluster.target(fresh_database(cluster, owner=role))
    put_stamp(target)
    url = target.url().replace(f"//{target.user}@", f"//{role}@")
    root = make_project(tmp_path / "bare", url)
    done = inv("verify.all", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    found = checks(done)
    why = f"role '{role}' may not create databases (ALTER ROLE ... CREATEDB)"
    assert found["scratch databases are made and stamped"] == ("skipped", why)
    assert found["what was lost comes back"] == ("skipped", why)
    assert found["the environment is chosen in the promised order"][0] == "passed"


def test_a_wrong_password(
    password_cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv
) -> None:
    target = password_cluster.target(fresh_database(password_cluster))
    put_stamp(target)
    root = make_project(tmp_path / "locked", target.url(reveal=True))
    done = inv("verify.all", "--only", "env,service", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    result, text = checks(done)["a wrong password is refused"]
    assert (result, "password authentication failed" in text) == ("passed", True)
    assert PASSWORD not in done.stdout + done.stderr
    assert PASSWORD not in (root / "backups" / "journal.jsonl").read_text()


_CONTENT = ("backup", "restore", "copy")


def contents(done: Any) -> list[str]:
    """Return the texts of the checks that speak of the content of a database."""
    found = [each for each in json.loads(done.stdout)["checks"] if each["category"] in _CONTENT]
    return [each["text"] for each in found if not each["text"].startswith("refused, as it should")]


def test_a_broken_migration_is_one_failed_check(shop: Path, inv: Inv) -> None:
    """Its message is not repeated by what depends on it, and no command is for a scratch one."""
    [file] = (shop / "migrations" / "versions").glob("*.py")
    file.write_text(file.read_text().replace("CREATE TABLE notes", "CREATE TABEL notes"))
    report = shop / "out.xml"
    only = "backup,restore,copy,migrate,trigger,env"
    done = inv("verify.all", "--only", only, "--json", "--junit", str(report), cwd=shop)
    assert done.returncode == 5
    found = checks(done)
    needs = "needs the migrations, which failed above"
    assert {name: text for name, (result, text) in found.items() if text.startswith("needs")} == {
        "the trigger files apply": needs,
        "the seeds load": needs,
        "the database is at the head of the files": needs,
        "the last revision goes down and up again": needs,
        "an unknown revision is refused": needs,
        "the database has the files as they are": needs,
        "the files of roles run": needs,
    }
    failed = [name for name, (result, _) in found.items() if result == "failed"]
    assert failed == ["all migrations apply to an empty database"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: 1 check failed: setup: {failed[0]}: ")
    assert "TABEL" in last
    assert len(contents(done)) == 6
    for text in contents(done):
        assert text.endswith(" (of a stand-in table, the project's are not there)")
    [failure] = ElementTree.parse(report).findall("testsuite/testcase/failure")
    assert "TABEL" in f"{failure.get('message')}{failure.text}"
    texts = [f"{each['text']} {each['details']}" for each in json.loads(done.stdout)["checks"]]
    assert not [text for text in texts if re.search(r"\binv \S+\.|--confirm", text)]


def test_a_migration_that_raises_no_exception_is_a_failed_check(shop: Path, inv: Inv) -> None:
    [file] = (shop / "migrations" / "versions").glob("*.py")
    head = "def upgrade():\n"
    raises = f"{head}    raise BaseException('x')\n"
    file.write_text(file.read_text().replace(head, raises))
    done = inv("verify.all", "--only", "migrate", "--json", cwd=shop)
    assert (done.returncode, "Traceback" in done.stderr) == (5, False), done.stderr
    failed = [text for result, text in checks(done).values() if result == "failed"]
    assert len(failed) == 1
    assert "BaseException: x" in failed[0]


def test_a_broken_trigger_file_is_one_failed_check(shop: Path, inv: Inv) -> None:
    (shop / "sql" / "triggers" / "zz.sql").write_text("CREATE TRIGER zz;")
    only = "backup,restore,copy,migrate,trigger,inspect"
    done = inv("verify.all", "--only", only, "--json", cwd=shop)
    assert done.returncode == 5
    found = checks(done)
    needs = "needs the trigger files, which failed above"
    assert {name for name, (_, text) in found.items() if text == needs} == {
        "the seeds load",
        "the last revision goes down and up again",
        "the database has the files as they are",
        "the files of roles run",
    }
    failed = {name: text for name, (result, text) in found.items() if result == "failed"}
    [(name, text)] = failed.items()
    assert (name, text[:22]) == ("the trigger files apply", "sql/triggers/zz.sql:1:")
    assert done.stderr.splitlines()[-1] == f"error: 1 check failed: setup: {name}: {text}"
    for text in contents(done):
        assert text.endswith(" (of a stand-in table, the project's are empty)")


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("nothing of the kind", "nothing of the kind"),
        ("a: b", "a: b"),
        ("unversioned: inv migrate.up applies what is pending", "unversioned"),
        ("x.sql:1: lost, add --confirm NAME", "x.sql:1: lost"),
        (
            "it is 'a': choose that one, or if it is 'b' now, run inv -c dbtasks env.stamp --env a",
            "it is 'a'",
        ),
        ("it differs; inv db.undo takes it back; nothing was changed", "it differs"),
        ("inv db.init makes it", "inv db.init makes it"),
    ],
)
def test_a_message_without_the_command_that_it_advises(message: str, kept: str) -> None:
    assert without_command(message) == kept


# --- interrupted runs ---------------------------------------------------------------------------


def scratch_of(cluster: Cluster) -> list[str]:
    """Return the scratch databases of the server."""
    return [name for name in cluster.databases() if "_verify_" in name]


def ended(cluster: Cluster, pid: int) -> None:
    """Wait until the server has ended the sessions of a killed run."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
    until(lambda: cluster.value(query, parameters=(f"pgtasks% {pid} %",)) == 0)


@pytest.mark.parametrize("step", ["verify.made", "copy.loaded"])
def test_what_a_killed_run_leaves_the_next_one_drops(
    step: str,
    shop: Path,
    inv: Inv,
    start_inv: Any,
    cluster: Cluster,
    traces: Callable[[], dict[str, Any]],
) -> None:
    before = traces()
    process = halted(start_inv, step, "verify.all", "--only", "copy", cwd=shop)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = scratch_of(cluster)
    assert left
    ended(cluster, process.pid)
    done = inv("verify.all", "--only", "inspect", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    swept = json.loads(done.stdout)["swept"]
    named = [name for name in left if name.endswith(("_a", "_b"))]
    assert swept == [f"dropped {name!r}, which a killed run has left" for name in named]
    assert traces() == before


@pytest.mark.parametrize("step", ["verify.made", "restore.loading"])
def test_ctrl_c_leaves_nothing(
    step: str,
    shop: Path,
    start_inv: Any,
    traces: Callable[[], dict[str, Any]],
) -> None:
    before = traces()
    flags = ("--only", "restore", "--json", "--junit", "out.xml")
    process = halted(start_inv, step, "verify.all", *flags, cwd=shop)
    assert errors_of(shop / "out.xml") == [("start", "the run has not ended")]
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    words = r"interrupted after (\d) checks?, the scratch databases are dropped"
    found = re.search(f"error: {words}$", said)
    assert found
    assert traces() == before
    document = json.loads(printed)
    assert document["error"] == found[0].removeprefix("error: ")
    assert [each["result"] for each in document["checks"]] == ["passed"] * int(found[1])
    assert errors_of(shop / "out.xml") == [("interrupted", document["error"])]
    assert len(list(ElementTree.parse(shop / "out.xml").iter("testcase"))) == int(found[1]) + 1
    line = json.loads((shop / "backups" / "journal.jsonl").read_text().splitlines()[-1])
    assert line["details"]["passed"] == int(found[1])


def test_a_run_leaves_the_databases_of_another_one_that_lives(
    shop: Path, inv: Inv, start_inv: Any, cluster: Cluster
) -> None:
    process = halted(start_inv, "verify.checked", "verify.all", "--only", "inspect", cwd=shop)
    theirs = scratch_of(cluster)
    done = inv("verify.all", "--only", "migrate", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["swept"] == []
    assert scratch_of(cluster) == theirs
    os.kill(process.pid, signal.SIGUSR1)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("halted at"):  # it does so after each check
            os.kill(process.pid, signal.SIGUSR1)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert not scratch_of(cluster)


def test_a_database_of_somebody_else_with_such_a_name_stays(
    shop: Path, inv: Inv, cluster: Cluster, fresh_database: Fresh
) -> None:
    name = fresh_database(cluster, "mine_verify_0123abc_a")
    cluster.execute("CREATE TABLE precious (id int)", name)
    other = fresh_database(cluster, "mine_verify_0123abc_b")
    comment = sql.SQL("COMMENT ON DATABASE {} IS 'mine'").format(sql.Identifier(other))
    cluster.execute(comment)
    done = inv("verify.all", "--only", "migrate", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["swept"] == []
    assert {name, other} <= set(cluster.databases())


def test_a_plain_owner(
    cluster: Cluster,
    owned: Target,
    tmp_path: Path,
    inv: Inv,
    start_inv: Any,
    traces: Callable[[], dict[str, Any]],
) -> None:
    """A restore as a plain owner has a login role of its own for a while."""
    put_stamp(owned)
    root = make_project(tmp_path / "owned", owned.url())
    before = traces()
    process = halted(start_inv, "restore.loading", "verify.all", "--only", "restore", cwd=root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended(cluster, process.pid)
    done = inv("verify.all", "--only", "copy,env", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["swept"]) == 2
    assert checks(done)["a copy equals its source, row by row"][0] == "passed"
    assert traces() == before


def test_a_run_killed_while_a_database_has_another_stamp(
    shop: Path, inv: Inv, start_inv: Any, cluster: Cluster
) -> None:
    """A check stamps the second database as protected for a moment."""
    process = halted(start_inv, "verify.made", "verify.all", "--only", "env", cwd=shop)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended(cluster, process.pid)
    [name] = [name for name in scratch_of(cluster) if name.endswith("_b")]
    run = name.split("_")[-2]
    comment = stamp_of(cluster, name).replace(f"verify-{run}-b", f"verify-{run}-p")
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
    cluster.execute(statement.format(sql.Identifier(name), sql.Literal(comment)))
    done = inv("verify.all", "--only", "migrate", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["swept"]) == 2
    assert not scratch_of(cluster)


def test_a_database_that_has_the_name_already_stays(
    shop: Path, inv: Inv, cluster: Cluster, fresh_database: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a run is random: here two runs have the same one."""
    taken = fresh_database(cluster, scratch.database_name("shop", "0123abc", "b"))
    cluster.execute("CREATE TABLE precious (id int)", taken)
    root = make_project(shop.parent / "other", cluster.url("shop"))
    monkeypatch.setattr("pgtasks.database.scratch.secrets.token_hex", lambda number: "0123abcd")
    run = opened(projects.load(root), "verify.all", env="dev", json=True)
    with run as r:
        verified = perform.verify(r, ("inspect",), say=lambda line: None, cases=[])
    by_name = {each.name: (each.state, each.text) for each in verified.outcomes}
    assert by_name["scratch databases are made and stamped"] == (
        *("FAILED", f"{taken!r} exists already, and is left as it is"),
    )
    assert by_name["an unknown table is refused"] == (
        *("skipped", "the scratch databases were not made"),
    )
    assert scratch_of(cluster) == [taken]
    assert cluster.value("SELECT count(*) FROM precious", taken) == 0


def test_what_a_killed_run_leaves_is_listed_and_recovered(
    shop: Path, inv: Inv, start_inv: Any, cluster: Cluster
) -> None:
    process = halted(start_inv, "verify.made", "verify.all", "--only", "env", cwd=shop)
    names = scratch_of(cluster)
    assert "verify.all" not in inv("db.check", cwd=shop).stdout, "its run lives"
    assert inv("db.recover", cwd=shop).stdout.startswith("nothing to heal")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended(cluster, process.pid)
    found = json.loads(inv("db.check", "--json", cwd=shop).stdout)["findings"]
    assert [each["text"] for each in found if "verify.all" in each["text"]] == [
        f"{name!r}, of a killed verify.all: inv db.recover drops it" for name in names
    ]
    done = inv("db.recover", cwd=shop)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"dropped {name!r}, which a killed run has left\n" in done.stdout
    assert not scratch_of(cluster)
