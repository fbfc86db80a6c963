"""What a run promises a database host: when it ends, however it ends, nothing of it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hosts import DatabaseHost, Host
from remains import clear, left, running
from sessions import SILENCE, alive_of_ours, sessions
from waiting import PATIENCE, until

from pgtasks.errors import Unreachable
from pgtasks.host.base import Command
from pgtasks.host.pipeline import Pipeline
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import Link
from pgtasks.settings.ssh import Login

# a run with a lock, a password file, a sent file, a statement and a command at work
TASK = """
import subprocess, threading
from pgtasks import run, task

SCRIPTS = {
    "quiet": "sleep 4711 & exec sleep 4712",
    "deaf": "trap '' TERM INT PIPE HUP; while :; do sleep 1; done",
    "talking": "exec yes",
    "reading": "exec cat",
}

@task(help={"what": "what to do"})
def work(c, what):
    with run(c) as r:
        from dataclasses import replace
        from pgtasks.server import connection, interrupt
        from pgtasks.host.base import Command
        from pgtasks.server.lock import Lock
        from pgtasks.host.pipeline import Pipeline
        from pgtasks.settings.secret import Secret
        target = r.reached().target
        host, known = r.host, replace(target, password=Secret("hush"))
        command = Command(("/bin/sh", "-c", SCRIPTS.get(what, "exec sleep 4713")))
        with Lock(target, "work"), host.passfile(known), connection.session(target) as conn:
            source = open("/dev/zero", "rb") if what == "reading" else None
            sink = open("/dev/null", "wb")
            with Pipeline(host, [command], stdin=source, stdout=sink) as running:
                print("ready", flush=True)
                if what == "sql":
                    with interrupt.cancelling([conn]):
                        connection.execute(conn, "SELECT pg_sleep(4714)")
                while not running.wait(0.2):
                    pass
                running.check()
"""
WORKS = ("quiet", "deaf", "talking", "reading", "sql")

Fault = Callable[["subprocess.Popen[str]", DatabaseHost], Any]


@pytest.fixture
def shop(db1: DatabaseHost, tmp_path: Path) -> Iterator[Path]:
    """Return a project whose environment lives on db1; nothing may be left there after a test."""
    name = db1.cluster.create()
    folder = tmp_path / "shop"
    settings = db1.settings(database=name, ssh={"silence": SILENCE})
    for path, text in {
        "tasks.py": "import pgtasks\n\nns = pgtasks.namespace(__file__)\n",
        "tasks/work.py": TASK,
        "env/stage.yaml": json.dumps(settings),
        "invoke.yaml": "pgtasks: {environment: stage}\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    try:
        yield folder
        db1.quiet()
        assert left(db1) == []
        assert sessions(db1) == ""
    finally:
        clear(db1)
        db1.cluster.drop(name)


def at_work(process: subprocess.Popen[str], place: DatabaseHost) -> None:
    """Wait until a run is in the middle of its work."""
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise AssertionError(process.communicate()[1])
    words = ("sleep 4712", "trap", "yes", "cat", "sleep 4713")
    until(lambda: any(running(place, word) for word in words), lambda: f"{place.processes()}")


def kill(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    os.kill(process.pid, signal.SIGKILL)
    return ExitStack()


def terminate(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    os.kill(process.pid, signal.SIGTERM)
    return ExitStack()


def interrupt(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    os.killpg(process.pid, signal.SIGINT)
    return ExitStack()


def cut(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    return place.cut()


def kill_sshd(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    return place.stop_sshd()


def str_of(value: Fault | str) -> str:
    """Return how a parameter is called in a test's name."""
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        *((interrupt, what) for what in WORKS),
        (kill, "quiet"),
        (kill, "sql"),
        (terminate, "talking"),
    ],
    ids=str_of,
)
def test_nothing_goes_on_when_we_end(
    db1: DatabaseHost, shop: Path, start_inv: Any, what: str, fault: Fault
) -> None:
    process = start_inv("work", "--what", what, cwd=shop)
    at_work(process, db1)
    with fault(process, db1):
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if fault is kill else 130), said
    db1.quiet()


@pytest.mark.parametrize(
    ("fault", "what"),
    [(cut, what) for what in WORKS] + [(kill_sshd, "quiet"), (kill_sshd, "sql")],
    ids=str_of,
)
def test_nothing_goes_on_when_the_line_is_lost(
    db1: DatabaseHost, shop: Path, start_inv: Any, what: str, fault: Fault
) -> None:
    process = start_inv("work", "--what", what, cwd=shop)
    at_work(process, db1)
    with fault(process, db1):
        _, said = process.communicate(timeout=PATIENCE)
        # the line is still cut: the host does not need it to end what runs there
        until(lambda: not alive_of_ours(db1), lambda: f"{alive_of_ours(db1)}")
        until(lambda: not sessions(db1), lambda: f"{sessions(db1)}")
        assert left(db1) == []
    assert process.returncode == 4, said
    lines = said.splitlines()
    wanted = "the line was lost" if fault is kill_sshd else f"no answer in {SILENCE} s"
    errors = [line for line in lines if wanted in line]
    assert len(errors) == 1, said
    port = "" if db1.port == 22 else f":{db1.port}"
    assert errors[0].startswith(f"error: {db1.user}@{db1.address}{port}: ")


@pytest.mark.parametrize("victim", ["lifeline", "both"])
def test_a_killed_lifeline_is_the_end_of_the_run(
    db1: DatabaseHost, shop: Path, start_inv: Any, victim: str
) -> None:
    process = start_inv("work", "--what", "quiet", cwd=shop)
    at_work(process, db1)
    (room,) = left(db1)
    pid = int(db1.path(f"/tmp/{room}/lifeline").read_text())
    lifelines = [each for each in db1.processes() if "printf %b" in each.command]
    for each in lifelines:
        if each.pid == pid or victim == "both":
            with suppress(ProcessLookupError):  # what it had started for a moment
                os.kill(each.outside, signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4, said
    assert "the line was lost" in said
    if victim == "both":  # nobody there is left to do it: the next run does
        assert left(db1) == [room]
        Link(Login(**db1.place())).close()
    db1.quiet()


# other accounts of the host: /tmp is everybody's


@pytest.fixture
def mallory(db1: DatabaseHost) -> Iterator[Callable[[str], str]]:
    """Return what runs a script as another account of the host, in the shared folder."""
    user = db1.user_with(role=False)
    yield lambda script: db1.do("sh", "-c", f"cd {db1.temporary} && {script}", user=user)
    db1.do("find", db1.temporary, "-user", user, "-delete")


_TRAPS = {
    "fifo": "mkdir -m 777 pgtasks-aaaaaaaaaa && mkfifo -m 666 pgtasks-aaaaaaaaaa/lifeline",
    "device": "mkdir -m 777 pgtasks-aaaaaaaaaa && ln -s /dev/zero pgtasks-aaaaaaaaaa/lifeline",
    "link": "ln -s /dev pgtasks-aaaaaaaaaa",
    "file": "mkfifo -m 666 pgtasks-aaaaaaaaaa",
    "old": "mkdir -m 777 pgtasks-aaaaaaaaaa.gone && mkfifo -m 666 pgtasks-aaaaaaaaaa.gone/lifeline",
}


@pytest.mark.parametrize("trap", _TRAPS)
def test_what_another_account_lays_in_the_way_is_passed_by(
    db1: DatabaseHost, mallory: Callable[[str], str], trap: str
) -> None:
    mallory(_TRAPS[trap])
    laid = [name for name in left(db1) if "aaaaaaaaaa" in name]  # the run sweeps what is ours
    host = SshHost(Link(Login(**db1.place(channel_timeout=int(PATIENCE)))))
    assert host.capture(Command(("echo", "works"))) == "works\n"
    host.close()
    db1.quiet()  # no shell stays there either
    until(lambda: left(db1) == laid, lambda: f"{left(db1)}")


@pytest.mark.parametrize("name", ["pgtasks-..........", "pgtasks-...........gone", "{room}.gone"])
def test_another_account_ends_no_run(
    db1: DatabaseHost,
    shop: Path,
    start_inv: Any,
    mallory: Callable[[str], str],
    name: str,
) -> None:
    """A folder that looks like a dead run's and names the processes of a living one."""
    process = start_inv("work", "--what", "quiet", cwd=shop)
    at_work(process, db1)
    (room,) = left(db1)
    (sleeping,) = (each for each in db1.processes() if each.command == "sleep 4712")
    name = name.format(room=room)
    mallory(
        f"mkdir -p -m 777 {name} && cd {name} && mkdir -p -m 777 pids room/pids gone/pids &&"
        f" for d in pids room/pids gone/pids; do echo {sleeping.pid} >$d/x; done &&"
        " echo 999999 >lifeline && chmod -R a+rwX ."
    )
    Link(Login(**db1.place())).close()  # the next run of the account looks through the folder
    assert running(db1, "sleep 4712")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    until(lambda: not alive_of_ours(db1), lambda: f"{alive_of_ours(db1)}")
    assert left(db1) == [name]
    mallory(f"rm -r {name}")


def test_a_run_that_ends_leaves_nothing(db1: DatabaseHost, shop: Path, inv: Any) -> None:
    done = inv("db.check", "--json", cwd=shop)
    assert json.loads(done.stdout), done.stderr
    db1.quiet()
    assert left(db1) == []


def test_a_host_without_timeout_has_a_lifeline_too(
    db1: DatabaseHost, shop: Path, start_inv: Any
) -> None:
    db1.do("mv", "/usr/bin/timeout", "/usr/bin/timeout.hidden")
    try:
        process = start_inv("work", "--what", "quiet", cwd=shop)
        at_work(process, db1)
        with db1.cut():
            process.communicate(timeout=PATIENCE)
            until(lambda: not alive_of_ours(db1), lambda: f"{alive_of_ours(db1)}")
    finally:
        db1.do("mv", "/usr/bin/timeout.hidden", "/usr/bin/timeout")


def test_an_account_that_runs_all_by_sudo_leaves_nothing(
    db1: DatabaseHost, shop: Path, start_inv: Any
) -> None:
    settings = db1.settings(
        database="postgres", user="postgres", ssh={"silence": SILENCE, "sudo_user": "postgres"}
    )
    (shop / "env" / "stage.yaml").write_text(json.dumps(settings))
    process = start_inv("work", "--what", "quiet", cwd=shop)
    at_work(process, db1)
    with db1.cut():
        process.communicate(timeout=PATIENCE)
        until(lambda: not alive_of_ours(db1), lambda: f"{alive_of_ours(db1)}")
        assert left(db1) == []
    assert process.returncode == 4


def test_a_line_that_is_cut_at_the_jump_host_is_lost_too(db2: DatabaseHost, jump: Host) -> None:
    host = SshHost(Link(Login(**db2.place(silence=SILENCE))))
    try:
        with Pipeline(host, [Command(("/bin/sh", "-c", "sleep 4711 & exec sleep 4712"))]) as work:
            until(lambda: running(db2, "sleep 4712"), lambda: f"{db2.processes()}")
            with jump.cut(), pytest.raises(Unreachable, match=f"no answer in {SILENCE} s"):
                work.check()
            until(lambda: not alive_of_ours(db2), lambda: f"{alive_of_ours(db2)}")
            assert left(db2) == []
    finally:
        host.close()
