from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from servers import Cluster
from waiting import PATIENCE

from pgtasks.errors import Refused
from pgtasks.host import journal
from pgtasks.host.journal import Entry
from pgtasks.report import account


def entry(**said: Any) -> Entry:
    known: dict[str, Any] = {
        "when": "2026-11-22T07:55:18Z",
        "who": "ann@host",
        "task": "db.backup",
        "environment": "dev",
        "database": "shop",
        "result": "done",
        "seconds": 1.5,
        "details": {},
    }
    return Entry(**{**known, **said})


@pytest.mark.parametrize(
    "name", ["plain", 'a "quote"', "line\nbreak", "\u2028 \x85", "ünï 🐘", "\x00", "\udcff"]
)
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    journal.append(tmp_path, entry(database=name, details={"files": [name]}))
    journal.append(tmp_path, entry())
    assert journal.read(tmp_path) == ([entry(database=name, details={"files": [name]}), entry()], 0)


def test_no_journal_yet(tmp_path: Path) -> None:
    assert journal.read(tmp_path) == ([], 0)


def test_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    journal.append(tmp_path / "backups", entry())
    assert (tmp_path / "backups" / "journal.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "rest", [b'{"when": "20', b"no json\n", b"[]\n", b'{"when": "x"}\n', b"\xff"]
)
def test_a_damaged_line_costs_itself_alone(tmp_path: Path, rest: bytes) -> None:
    journal.append(tmp_path, entry(task="first"))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(rest)
    journal.append(tmp_path, entry(task="last"))
    entries, unreadable = journal.read(tmp_path)
    assert [one.task for one in entries] == ["first", "last"]
    assert unreadable == 1


def test_keys_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    journal.append(tmp_path, entry())
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().replace('{"when"', '{"later": 1, "when"'))
    assert journal.read(tmp_path) == ([entry()], 0)


def _write_many(folder: Path, who: str) -> None:
    for number in range(200):
        journal.append(folder, entry(who=who, seconds=number, details={"long": "x" * 20_000}))


def test_writers_at_once_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(tmp_path, f"w{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert journal.read(tmp_path)[1] == 0  # nobody ever sees half a line
    entries, unreadable = journal.read(tmp_path)
    assert unreadable == 0
    for number in range(3):
        own = [one.seconds for one in entries if one.who == f"w{number}"]
        assert own == list(range(200))


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux alone shows who waits")
@pytest.mark.parametrize("call", ["append(folder, entry)", "read(folder)"])
def test_readers_and_writers_wait_for_a_writer(tmp_path: Path, call: str) -> None:
    journal.append(tmp_path, entry())
    code = (
        "import pathlib, sys; from pgtasks.host import journal\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        f"entry = journal.read(folder)[0][0]; print(flush=True); input(); journal.{call}"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with (tmp_path / "journal.jsonl").open("rb") as file:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            fcntl.flock(file, fcntl.LOCK_EX)
            print(file=process.stdin, flush=True)
            waiting = re.compile(rf"-> FLOCK .* {process.pid} ")
            deadline = time.monotonic() + PATIENCE
            while not waiting.search(Path("/proc/locks").read_text()):
                assert time.monotonic() < deadline, "it did not wait"
                assert process.poll() is None, "it did not wait"
            fcntl.flock(file, fcntl.LOCK_UN)
    assert process.returncode == 0


@pytest.mark.parametrize("limit", ["0", "-1", "abc", "", "1.5"])
def test_refuses_a_limit_that_is_no_number(tmp_path: Path, limit: str) -> None:
    with pytest.raises(Refused, match=f"--limit '{limit}', expected a number above 0"):
        journal.newest(tmp_path, limit=limit)


def test_shows_the_newest_of_one_environment(tmp_path: Path) -> None:
    for number in range(30):
        journal.append(tmp_path, entry(seconds=number, environment="dev" if number % 2 else "prod"))
    assert len(journal.newest(tmp_path).entries) == 20
    found = journal.newest(tmp_path, limit="3", environment="prod").entries
    assert [one.seconds for one in found] == [24, 26, 28]


def test_who_is_the_one_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    assert account.who().startswith("ann@")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_who_has_a_number_where_there_is_no_name() -> None:
    code = (
        "import os; from pgtasks.report import account\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321); print(account.who())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout.startswith("54321@"), done.stderr


def test_a_task_leaves_its_line_also_when_it_fails(project: Path, inv: Inv) -> None:
    (project / "bad.sql").write_text("select 1/0")
    assert inv("db.create").returncode == 0
    assert inv("db.run", "--file", "bad.sql").returncode == 1
    shown = json.loads(inv("journal.list", "--json").stdout)
    assert shown["unreadable"] == 0
    assert [(one["task"], one["result"]) for one in shown["entries"]] == [
        ("db.create", "done"),
        ("db.run", "bad.sql:1: ERROR: division by zero"),
    ]


def test_list_is_a_table(project: Path, inv: Inv) -> None:
    journal.append(project / "backups", entry())
    journal.append(project / "backups", entry(environment="prod", result="two\nlines"))
    with (project / "backups" / "journal.jsonl").open("a") as file:
        file.write("half")
    done = inv("journal.list")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == [
        *("when", "(UTC)", "who", "environment", "task", "took", "result")
    ]
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.endswith("1.5 s  two lines\n")
    assert done.stderr == "warning: 1 line of the journal unreadable\n"
    assert inv("journal.list", "--env", "Production").stdout.count("\n") == 3
    assert inv("journal.list", "--env", "test").stdout == "the journal has no such entry\n"
    unknown = inv("journal.list", "--env", "tset")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "unknown environment 'tset', did you mean 'test'" in unknown.stderr


def test_a_journal_that_cannot_be_written_is_a_warning(project: Path, inv: Inv) -> None:
    (project / "backups").write_text("in the way")
    done = inv("db.create")
    assert done.returncode == 0
    name = str(project / "backups" / "journal.jsonl")
    assert f"warning: the journal was not written: Not a directory: {name!r}" in done.stderr


def test_a_search_reads_a_bounded_part_of_a_long_journal(tmp_path: Path) -> None:
    early = entry(when="2026-01-01T00:00:00Z", task="db.backup", details={"sum": "early"})
    lost = entry(when="2026-01-05T00:00:00Z", task="db.backup", details={"sum": "lost"})
    journal.append(tmp_path, lost)  # by a clock that stepped back
    journal.append(tmp_path, early)
    filler = entry(when="2026-02-01T00:00:00Z", details={"x": "y" * 800})
    journal.append(tmp_path, filler)
    path = tmp_path / "journal.jsonl"
    line = path.read_bytes().splitlines(keepends=True)[-1]
    with path.open("ab") as file:
        file.write(line * (80_000_000 // len(line)))
    journal.append(tmp_path, entry(when="2026-03-01T00:00:00Z", environment="prod"))
    found = journal.newest(tmp_path, limit="5", environment="prod")
    assert (len(found.entries), found.older) == (1, True)
    assert journal.newest(tmp_path, environment="nobody").lines() == [
        "the last 34 MB of the journal have no such entry"
    ]
    assert journal.holds(tmp_path, "db.backup", "early", when="2026-01-01T00:00:00Z")
    assert not journal.holds(tmp_path, "db.backup", "early", when="2026-02-20T00:00:00Z")
    assert not journal.holds(tmp_path, "db.backup", "none", when="2026-01-01T00:00:00Z")
    assert [each.environment for each in journal.latest(tmp_path, "prod")] == ["prod"]


# prints, after all else, how many bytes the run has read
_READING = """
import atexit, sys
from dataclasses import asdict
from pathlib import Path
from invoke.main import program
counted = lambda: Path("/proc/self/io").read_text().split()[1]
atexit.register(lambda: print("read", counted(), file=sys.stderr))
sys.argv[0] = "inv"
program.run()
"""


def test_no_task_costs_more_with_a_million_lines(
    cluster: Cluster, database: str, project: Path
) -> None:
    """A search reads its last part alone, whatever is before that."""
    if not Path("/proc/self/io").exists():
        pytest.skip("the kernel does not count what a process reads")
    cluster.execute("CREATE TABLE t AS SELECT 1 AS n", database)
    tasks = {
        "db.backup": (),
        "backup.list": (),
        "backup.report": (),
        "db.restore": ("--as-superuser", "--confirm", database),
        "db.undo": ("--confirm", database),
        "db.recover": (),
        "db.check": (),
        "journal.list": ("--env", "test"),
    }
    few = {task: bytes_read(project, task, *args) for task, args in tasks.items()}
    path = project / "backups" / "journal.jsonl"
    own = path.read_bytes()
    line = json.dumps(asdict(entry(environment="prod", details={"x": "y" * 80}))).encode() + b"\n"
    path.write_bytes(line * 1_000_000 + own)
    many = {task: bytes_read(project, task, *args) for task, args in tasks.items()}
    assert path.stat().st_size > 200_000_000
    most = {task: many[task] - few[task] for task in tasks}
    assert max(most.values()) < 80 << 20, most  # two searches, from the end and from a time
    searches = ("db.restore", "journal.list")
    assert max(most[task] for task in tasks if task not in searches) < 1 << 20, most


def bytes_read(project: Path, task: str, *args: str) -> int:
    argv = [sys.executable, "-c", _READING, task, *args]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (0, 1), done.stderr  # db.check finds something
    return int(done.stderr.split("read ")[-1])
