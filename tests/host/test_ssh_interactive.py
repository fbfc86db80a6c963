"""A terminal that is given to a program on a host: a host that answers oddly, one that is gone."""

from __future__ import annotations

import os
import socket
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
import prefork
import pytest
from hosts import DatabaseHost
from projects import make_project
from terminal import resize
from waiting import PATIENCE, until

from pgtasks.errors import Failed, Unreachable
from pgtasks.host.ssh import interactive
from pgtasks.host.ssh.transport import Transport
from pgtasks.host.ssh.watchdog import Watchdog
from pgtasks.settings.ssh import Login

INV = Path(sys.executable).parent / "inv"


class Sshd(paramiko.ServerInterface):
    """A server that lets anybody in, and answers requests while `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.asked: list[str] = []

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL  # type: ignore[attr-defined,no-any-return]

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined,no-any-return]

    def _answer(self, request: str) -> bool:
        self.asked.append(request)
        return self.open.wait(PATIENCE)

    def check_channel_pty_request(self, *_: Any) -> bool:
        return self._answer("pty")

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        return self._answer("shell")

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return self._answer("exec")


@dataclass
class Line:
    """A connection to a server in this process, as a Link has it."""

    sshd: Sshd
    transport: Transport
    theirs: paramiko.Transport
    lost: str = ""
    login: Login = field(default_factory=lambda: Login(host="impostor", channel_timeout=1))

    def __str__(self) -> str:
        return "impostor"

    def session(self) -> paramiko.Channel:
        return self.transport.open_session()

    def why_lost(self, seconds: float) -> str:
        return self.lost

    def program(self) -> paramiko.Channel:
        """Return the server's end of the channel, after the shell has been asked for."""
        channel = self.theirs.accept(PATIENCE)
        assert channel is not None
        until(lambda: "shell" in self.sshd.asked)
        return channel


@pytest.fixture
def line() -> Iterator[Line]:
    ours, theirs = socket.socketpair()
    server, sshd = paramiko.Transport(theirs), Sshd()
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(server=sshd, event=threading.Event())
    client = Transport(ours)
    client.start_client(timeout=PATIENCE)
    client.auth_none("anybody")
    yield Line(sshd, client, server)
    sshd.open.set()
    client.close()
    server.close()


@dataclass
class Pty:
    """A terminal; `screen` is what was shown on it so far."""

    master: int
    slave: int
    modes: list[Any]
    screen: bytes = b""

    def shows(self, words: bytes) -> None:
        """Read what is shown until the words are there."""
        while words not in self.screen:
            self.screen += os.read(self.master, 65536)


@pytest.fixture
def pty() -> Iterator[Pty]:
    master, slave = os.openpty()
    resize(slave, rows=24, columns=80)
    yield Pty(master, slave, termios.tcgetattr(slave))
    for handle in (master, slave):
        try:
            os.close(handle)
        except OSError:
            pass  # the test has closed it


def conversing(
    line: Line, pty: Pty, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Hold a conversation on a terminal, while a thread acts for the host and the person."""
    acting = threading.Thread(target=act, daemon=True)
    with (
        os.fdopen(os.dup(pty.slave), "r") as keys,
        os.fdopen(os.dup(pty.slave), "w") as screen,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", keys)
        patch.setattr(sys, "stdout", screen)
        acting.start()
        try:
            return interactive.converse(line, None)  # type: ignore[arg-type]
        finally:
            acting.join(PATIENCE)


def test_the_last_output_is_shown_where_keys_are_typed_after_the_end(
    line: Line, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on = interactive._pass_on

    def late(channel: paramiko.Channel, resizes: int) -> None:
        until(lambda: channel.closed)  # all of it has arrived, and the keys too
        os.write(pty.master, b"more\n")
        passed_on(channel, resizes)

    def host() -> None:
        channel = line.program()
        channel.sendall(b"last words")
        channel.send_exit_status(3)
        channel.close()

    monkeypatch.setattr(interactive, "_pass_on", late)
    assert conversing(line, pty, host, monkeypatch) == 3
    pty.shows(b"last words")
    assert termios.tcgetattr(pty.slave) == pty.modes


def test_an_end_without_an_exit_code(line: Line, pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "^impostor: the channel was closed before an exit code came$"
    with pytest.raises(Unreachable, match=words):
        conversing(line, pty, lambda: line.program().close(), monkeypatch)
    assert termios.tcgetattr(pty.slave) == pty.modes


def test_a_host_that_neither_reads_nor_ends_is_left(
    line: Line, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def person() -> None:
        channel = line.program()
        channel.sendall(b"here")
        pty.shows(b"here")
        os.write(pty.master, b"in ~. the middle\r~")
        os.write(pty.master, b".")

    with pytest.raises(KeyboardInterrupt):
        conversing(line, pty, person, monkeypatch)
    assert termios.tcgetattr(pty.slave) == pty.modes


_NO_ANSWER = r"no answer within 1 s \(channel_timeout\)$"


def test_a_terminal_that_the_host_does_not_answer_for(
    line: Line, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.sshd.open.clear()
    with pytest.raises(Unreachable, match=f"^impostor: {_NO_ANSWER}"):
        conversing(line, pty, list, monkeypatch)
    assert line.sshd.asked == ["pty"]  # whose answer the server still holds back


def test_a_command_that_the_host_does_not_answer_for(line: Line) -> None:
    line.sshd.open.clear()
    with pytest.raises(TimeoutError, match=f"^{_NO_ANSWER}"):
        Watchdog(line.session(), line.login, print)
    assert line.sshd.asked == ["exec"]


def test_a_terminal_that_is_gone(line: Line, pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    def go() -> None:
        line.program()
        os.close(pty.master)

    with pytest.raises(Failed, match=r"^the terminal is gone: "):
        conversing(line, pty, go, monkeypatch)


def test_a_terminal_that_closes_ends_the_run(tmp_path: Path, db1: DatabaseHost, pty: Pty) -> None:
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    root = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    (root / "env" / "shop.yaml").write_text(f"ssh: {db1.place()}\nhost: x\ndatabase: x\n")
    argv = [INV, "remote.shell", "--env", "shop"]
    with (tmp_path / "said").open("w+") as said:
        process = prefork.start(
            argv, cwd=root, terminal=True, stdin=pty.slave, stdout=pty.slave, stderr=said
        )
        os.close(pty.slave)
        pty.shows(b"$ ")
        os.close(pty.master)
        assert process.wait(PATIENCE) == 130
        said.seek(0)
        assert said.read().splitlines()[1:] == [
            "error: interrupted: what was done in the shell stays"
        ]
    db1.quiet()
