"""Where a password comes from, how long it may take, and that it shows nowhere."""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSWORD
from servers import Cluster
from terminal import answer
from waiting import until

from pgtasks.errors import BadConfiguration, Refused, Unreachable
from pgtasks.host import password, tempfiles
from pgtasks.server import connection, reach
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

INV = Path(sys.executable).parent / "inv"


def target(**others: object) -> Target:
    return replace(Target("dev", "localhost", 5432, "shop", "alice"), **others)  # type: ignore[arg-type]


def program(folder: Path, text: str) -> str:
    """Write a shell script and return the command that runs it."""
    path = folder / "secret.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# --- password_command ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo s3cret", "s3cret"),
        ("printf s3cret", "s3cret"),
        (r"printf 's3cret\r\n'", "s3cret"),
        (r"printf ' a b  \n'", " a b  "),
        ("echo noise >&2; echo s3cret", "s3cret"),
        (r"printf '\303\274:@'", "ü:@"),
    ],
)
def test_a_program_prints_the_password(tmp_path: Path, text: str, expected: str) -> None:
    found = password.unlocked(target(password_command=program(tmp_path, text))).password
    assert found is not None
    assert found.reveal() == expected
    assert expected not in f"{found!r} {found}"


def test_a_program_runs_in_the_project(tmp_path: Path) -> None:
    program(tmp_path, "pwd")
    found = password.unlocked(target(password_command="./secret.sh"), tmp_path).password
    assert found == Secret(str(tmp_path))


def test_a_program_gets_its_arguments_and_no_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROD_DATABASE_URL", "postgresql://u:of-another@h/d")
    command = program(tmp_path, 'echo "$1|$2|$PROD_DATABASE_URL"')
    found = password.unlocked(target(password_command=f"{command} 'a b' c")).password
    assert found == Secret("a b|c|")


def test_a_password_at_hand_spares_the_program(tmp_path: Path) -> None:
    command = program(tmp_path, f"touch {tmp_path}/ran; echo other")
    given = target(password=Secret("own"), password_command=command)
    assert password.unlocked(given).password == Secret("own")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo 'vault is sealed' >&2; exit 3", "exit code 3"),
        ("kill -9 $$", "exit code -9"),
        ("true", "expected one line with the password"),
        ("echo", "expected one line with the password"),
        ("echo a; echo b", "expected one line with the password"),
        ("yes", "expected one line with the password"),
    ],
)
def test_a_program_that_fails_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    command = program(tmp_path, text)
    with pytest.raises(BadConfiguration) as caught:
        password.unlocked(target(password_command=f"{command} --token=t0ken"))
    assert caught.value.message == f"environment 'dev': password_command {command!r}: {message}"
    assert caught.value.hint == ("vault is sealed" if "vault" in text else "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nowhere/to-be-found", "No such file or directory"),
        ("echo 'open", "no closing quotation"),
    ],
)
def test_a_command_that_is_none_is_one_line(command: str, message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        password.unlocked(target(password_command=command))


@pytest.mark.parametrize(
    "text",
    [
        "echo $$ > {pid}; while :; do read x < {fifo}; done",
        # what it started goes with it, and what left its group does not hold the run up
        "sh -c 'echo $$ > {pid}; read x < {fifo}'; exit 0",
        "exec >&- 2>&-; echo $$ > {pid}; read x < {fifo}",
    ],
)
def test_a_program_that_hangs_is_ended(tmp_path: Path, text: str) -> None:
    fifo, pid = tmp_path / "fifo", tmp_path / "pid"
    os.mkfifo(fifo)
    command = program(tmp_path, text.format(fifo=fifo, pid=pid))
    with pytest.raises(BadConfiguration) as caught:
        password.unlocked(target(password_command=command, password_command_timeout=1))
    assert caught.value.message.endswith("no end within 1 s (password_command_timeout)")
    until(lambda: not _runs(int(pid.read_text())))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie that its new parent has not reaped yet is no program any more
    argv = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(argv, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Path]:
    """Return a file for the pid of what a program leaves behind; it is ended after the test."""
    pid = tmp_path / "agent"
    yield pid
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_an_agent_that_keeps_the_pipe_open_does_not_hang_the_run(
    tmp_path: Path, agents: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"setsid sh -c 'echo $$ > {agents}; read x < {fifo}' & \
        while [ ! -s {agents} ]; do :; done; echo s3cret"
    command = program(tmp_path, text)
    assert password.unlocked(target(password_command=command)).password == Secret("s3cret")
    assert _runs(int(agents.read_text()))


def test_a_program_that_ends_between_two_looks_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look finds nothing; then the program prints, and has ended before it is asked for."""
    started: list[subprocess.Popen[bytes]] = []
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    class Started(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    class Late(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
        looks = 0

        def select(self, timeout: float | None = None) -> Any:
            self.looks += 1
            if self.looks > 1:
                return super().select(timeout)
            fifo.write_text("go on")
            os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)
            return []

    monkeypatch.setattr("pgtasks.host.password.subprocess.Popen", Started)
    monkeypatch.setattr("pgtasks.host.password.selectors.DefaultSelector", Late)
    command = program(tmp_path, f"read x < {fifo}; echo s3cret")
    assert password.unlocked(target(password_command=command)).password == Secret("s3cret")


# --- passfiles ---


def test_an_open_passfile_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pass"
    path.write_text("*:*:*:*:x\n")
    path.chmod(0o644)
    with pytest.raises(BadConfiguration) as caught:
        password.unlocked(target(passfile=str(path)))
    assert caught.value.message == (
        f"environment 'dev': passfile {str(path)!r} can be read by others, libpq ignores it: "
        f"chmod 600 {path}"
    )


def test_the_passfile_for_children_is_private_and_goes(tmp_path: Path) -> None:
    def read_and_fail() -> None:
        with password.passfile(target(password=Secret("s3cret"))) as path:
            seen.append(Path(path))
            assert stat.S_IMODE(seen[0].stat().st_mode) == 0o600
            assert seen[0].read_text() == "localhost:5432:shop:alice:s3cret\n"
            raise ZeroDivisionError

    seen: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        read_and_fail()
    assert not seen[0].exists()


def test_without_a_password_the_passfile_is_the_settings_own() -> None:
    with password.passfile(target(passfile="/of/the/setting")) as path:
        assert path == "/of/the/setting"


def test_what_a_killed_run_left_is_swept() -> None:
    code = (
        "import sys, os; from pgtasks.host import password\n"
        "from pgtasks.settings.secret import Secret\n"
        "from pgtasks.settings.target import Target\n"
        "made = password.passfile(Target('dev', 'h', 1, 'd', 'u', password=Secret('x')))\n"
        "print(made.__enter__(), flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    left = Path(done.stdout.strip())
    assert (done.returncode, left.exists()) == (-signal.SIGKILL, True)
    with password.passfile(target(password=Secret("y"))) as own:
        tempfiles.sweep()
        assert not left.exists()
        assert Path(own).exists()


# --- against a server that wants one ---


@pytest.fixture
def locked(password_cluster: Cluster, fresh_database: Callable[..., str]) -> Target:
    """Return a target whose password is known to nobody yet."""
    name = fresh_database(password_cluster)
    return replace(password_cluster.target(name), password=None)


def test_without_a_terminal_no_password_is_asked_for(locked: Target, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="requires a password and there is no terminal to ask on"):
        reach.reach(locked, tmp_path)


def test_a_wrong_password_is_unreachable(locked: Target, tmp_path: Path) -> None:
    wrong = replace(locked, password=Secret("wr0ng-one"))
    with pytest.raises(Unreachable, match="password authentication failed") as caught:
        reach.reach(wrong, tmp_path)
    assert "wr0ng-one" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("way", ["command", "passfile", "home", "target"])
def test_each_way_leads_in(locked: Target, tmp_path: Path, way: str) -> None:
    line = f"*:*:*:{locked.user}:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n"
    if way == "command":
        (tmp_path / "word").write_text(PASSWORD + "\n", encoding="utf-8")
        locked = replace(locked, password_command=f"cat {tmp_path}/word")
    elif way == "target":
        locked = replace(locked, password=Secret(PASSWORD))
    else:
        path = Path.home() / ".pgpass" if way == "home" else tmp_path / "pass"
        path.write_text(line, encoding="utf-8")
        path.chmod(0o600)
        locked = replace(locked, passfile="" if way == "home" else str(path))
    reached = reach.reach(locked, tmp_path)
    with reached.session() as conn:
        assert connection.value(conn, "SELECT current_database()") == locked.database


def project_of(locked: Target, folder: Path) -> Path:
    (folder / "env").mkdir(parents=True)
    (folder / "tasks.py").write_text("import pgtasks\n\nns = pgtasks.namespace(__file__)\n")
    (folder / "env" / "dev.yaml").write_text(f"url: '{locked.url()}'\n")
    return folder


@pytest.mark.parametrize(
    ("typed", "code", "shown"),
    [
        (PASSWORD + "\n", 0, "the database's name must be typed"),
        ("wr0ng-one\n", 4, "password authentication failed"),
        ("\x04", 2, "no password was typed"),
        ("\x03", 130, "interrupted"),
    ],
)
def test_a_terminal_is_asked_and_shows_no_password(
    locked: Target, tmp_path: Path, typed: str, code: int, shown: str
) -> None:
    folder = project_of(locked, tmp_path / "shop")
    made = replace(locked, password=Secret(PASSWORD))
    with connection.session(made) as conn:
        connection.execute(conn, "CREATE TABLE public.t ()")
    # the guard speaks once the server has let us in
    argv = [INV, "env.stamp", "--dry"]
    ended = answer(argv, [(f"password for .*{locked.database}: ", typed)], cwd=folder)
    assert ended.code == code, ended.screen
    assert shown in ended.screen
    assert PASSWORD not in ended.screen
    assert "wr0ng-one" not in ended.screen
