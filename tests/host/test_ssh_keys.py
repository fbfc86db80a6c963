"""Who we are to a host: real keys, a real agent, a real sshd."""

from __future__ import annotations

import io
import os
import signal
import socket as socketlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hosts import DatabaseHost, keygen, run_keygen
from waiting import PATIENCE, until

from pgtasks.host.ssh import auth
from pgtasks.host.ssh.route import LoginDenied, Route
from pgtasks.settings.ssh import Login

_PASSPHRASE = "pässphrase"


def make(path: Path, kind: str = "ed25519", *options: str, passphrase: str = "") -> Path:
    """Make a key."""
    run_keygen("-t", kind, *options, "-N", passphrase, "-C", path.name, "-f", str(path))
    return path


def public(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text()


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody to ask


@pytest.fixture
def account(db1: DatabaseHost) -> str:
    """Return an account of db1."""
    return db1.user if db1.machine.lacks else db1.user_with(role=False)


@pytest.fixture
def let_in(db1: DatabaseHost, account: str) -> Callable[..., None]:
    """Return what lets these keys in, beside the one that db1 always lets in."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")

    def let(*paths: Path) -> None:
        home = f"/home/{account}/.ssh"
        db1.do("install", "-d", "-o", account, "-m", "700", home)
        db1.path(f"{home}/authorized_keys").write_text("".join(map(public, paths)))

    return let


@dataclass
class Agent:
    """An ssh-agent; `add` gives it a key."""

    socket: Path

    def add(self, *paths: Path) -> None:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.socket)}
        argv = ["ssh-add", "-q", *map(str, paths)]
        subprocess.run(argv, env=environment, check=True, capture_output=True)


def _answers(path: Path) -> bool:
    with socketlib.socket(socketlib.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Return an agent that no variable leads to yet."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _answers(socket), lambda: "the agent does not start")
        yield Agent(socket)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def login(host: DatabaseHost, account: str, **more: Any) -> Login:
    """Return a login that names no key, unless told."""
    known = {"known_hosts": str(host.known_hosts)}
    return Login(**{"host": host.address, "user": account, "port": host.port, **known, **more})


def used(wanted: Login) -> str:
    """Log in and return the key that let us in."""
    with Route(wanted) as route:
        assert route.walk().transport.is_authenticated()
        return route.key


def denied(wanted: Login) -> str:
    """Return why a login fails."""
    with Route(wanted) as route, pytest.raises(LoginDenied) as caught:
        route.walk()
    said = caught.value.message
    assert "\n" not in said
    start = f"ssh {wanted}: login as {wanted.user!r} denied: "
    assert said.startswith(start)
    return said.removeprefix(start)


def configure(text: str) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(text)


class TestFile:
    @pytest.mark.parametrize(
        "kind", [("ed25519",), ("ecdsa",), ("rsa",), ("rsa", "-m", "PEM"), ("ecdsa", "-m", "PEM")]
    )
    def test_of_every_kind(
        self,
        db1: DatabaseHost,
        account: str,
        let_in: Callable[..., None],
        tmp_path: Path,
        kind: tuple[str, ...],
    ) -> None:
        key = make(tmp_path / "my key", *kind)
        let_in(key)
        assert used(login(db1, account, identity=str(key))) == str(key)

    def test_that_ssh_config_names(self, db1: DatabaseHost, account: str) -> None:
        configure(f"Host {db1.address}\n IdentityFile {db1.identity}\n")
        assert used(login(db1, account)) == str(db1.identity)

    def test_that_the_host_does_not_know(
        self, db1: DatabaseHost, account: str, tmp_path: Path
    ) -> None:
        key = make(tmp_path / "stranger")
        assert denied(login(db1, account, identity=str(key))) == str(key)

    def test_that_is_not_there(self, db1: DatabaseHost, account: str) -> None:
        said = denied(login(db1, account, identity="/nowhere/id"))
        assert said == "/nowhere/id (no such file)"

    def test_that_is_none(self, db1: DatabaseHost, account: str, tmp_path: Path) -> None:
        (tmp_path / "garbage").write_bytes(b"\xff\x00 no key\n")
        said = denied(login(db1, account, identity=str(tmp_path / "garbage")))
        assert said.startswith(f"{tmp_path}/garbage (not read: ")

    def test_none_at_all(self, db1: DatabaseHost, account: str) -> None:
        assert denied(login(db1, account)) == "there was no key to try"

    def test_with_a_passphrase_and_nobody_to_ask(
        self, db1: DatabaseHost, account: str, let_in: Callable[..., None], tmp_path: Path
    ) -> None:
        key = make(tmp_path / "id", passphrase=_PASSPHRASE)
        let_in(key)
        said = denied(login(db1, account, identity=str(key)))
        assert said == f"{key} (it has a passphrase, and there is no terminal: ssh-add it)"

    def test_a_second_one_where_one_is_not_enough(
        self, db1: DatabaseHost, account: str, let_in: Callable[..., None], tmp_path: Path
    ) -> None:
        one, two = make(tmp_path / "one"), make(tmp_path / "two")
        let_in(one, two)
        both = f"IdentityFile {one}\nIdentityFile {two}\n"
        with db1.start_sshd(AuthenticationMethods="publickey,publickey"):
            configure(both)
            assert used(login(db1, account)) == str(two)
            said = denied(login(db1, account, identity=str(one)))
        assert said == f"{one} (accepted, but publickey is required too)"


class TestPassword:
    def test_is_never_tried(self, db1: DatabaseHost, account: str, tmp_path: Path) -> None:
        key = make(tmp_path / "stranger")
        with db1.start_sshd(PasswordAuthentication="yes", KbdInteractiveAuthentication="yes"):
            log = db1.machine.folder / "sshd.log"
            denied(login(db1, account, identity=str(key)))
            until(lambda: "closed by authenticating" in log.read_text(), log.read_text)
            assert "password" not in log.read_text()


class TestAgent:
    def test_its_keys_are_tried(
        self, db1: DatabaseHost, account: str, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agent.add(db1.identity)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        assert used(login(db1, account)).startswith("the agent's key ")

    def test_named_by_ssh_config(self, db1: DatabaseHost, account: str, agent: Agent) -> None:
        agent.add(db1.identity)
        configure(f"IdentityAgent {agent.socket}\n")
        assert used(login(db1, account)).startswith("the agent's key ")

    def test_switched_off_by_ssh_config(
        self, db1: DatabaseHost, account: str, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agent.add(db1.identity)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        configure("IdentityAgent none\n")
        assert denied(login(db1, account)) == "there was no key to try"

    def test_one_that_is_gone(
        self, db1: DatabaseHost, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
        assert used(login(db1, account, identity=str(db1.identity))) == str(db1.identity)

    @pytest.mark.parametrize("pub", [True, False])
    def test_the_environments_key_goes_alone(
        self,
        db1: DatabaseHost,
        account: str,
        agent: Agent,
        let_in: Callable[..., None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        pub: bool,
    ) -> None:
        # sshd hangs up after six keys; which one is ours stands in its file, encrypted or not
        key = make(tmp_path / "id", passphrase=_PASSPHRASE)
        let_in(key)
        agent.add(*(make(tmp_path / f"other{number}") for number in range(7)))
        copy = tmp_path / "copy"
        copy.write_bytes(key.read_bytes())
        copy.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", _PASSPHRASE, "-N", "", "-f", copy])
        agent.add(copy)
        if not pub:
            key.with_name("id.pub").unlink()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        assert used(login(db1, account, identity=str(key))).startswith("the agent's key ")

    def test_a_key_whose_public_half_alone_is_here(
        self,
        db1: DatabaseHost,
        account: str,
        agent: Agent,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        agent.add(db1.identity)
        half = tmp_path / "id.pub"
        half.write_text(public(db1.identity))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        assert used(login(db1, account, identity=str(half))).startswith("the agent's key ")

    def test_keys_of_the_files_go_first(
        self,
        db1: DatabaseHost,
        account: str,
        agent: Agent,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        agent.add(*(make(tmp_path / f"other{number}") for number in range(7)), db1.identity)
        configure(f"IdentityFile {db1.identity}\n")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        assert used(login(db1, account)).startswith("the agent's key ")

    def test_too_many_keys(
        self,
        db1: DatabaseHost,
        account: str,
        agent: Agent,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        agent.add(*(make(tmp_path / f"other{number}") for number in range(8)))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        said = denied(login(db1, account))
        assert said.count("the agent's key other") == 8
        assert said.endswith("(not tried: the host had hung up)")


class TestPublicHalf:
    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    def test_stands_in_the_private_file(self, tmp_path: Path, kind: str) -> None:
        key = make(tmp_path / "id", kind, passphrase=_PASSPHRASE)
        said = public(key).split()[1]
        key.with_name("id.pub").unlink()
        assert auth.public_half(str(key)) == said

    def test_stands_beside_an_older_one(self, tmp_path: Path) -> None:
        key = make(tmp_path / "id", "rsa", "-m", "PEM")
        assert auth.public_half(str(key)) == public(key).split()[1]
        key.with_name("id.pub").unlink()
        assert auth.public_half(str(key)) == ""

    def test_is_not_guessed(self, tmp_path: Path) -> None:
        path = tmp_path / "id"
        assert auth.public_half(str(path)) == ""
        for text in ("", "a b", "-----BEGIN OPENSSH PRIVATE KEY-----\n!\n"):
            path.write_text(text)
            assert auth.public_half(str(path)) == ""
        keygen(path)
        lines = path.read_text().splitlines()
        path.with_name("id.pub").unlink()
        path.write_text("\n".join([lines[0], lines[1][:20], lines[-1]]))
        assert auth.public_half(str(path)) == ""
