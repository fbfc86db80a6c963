"""What we lean on in Fabric and paramiko, without a host: see docs/upgrading.md."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_CHANNEL_REQUEST,
    MSG_NEWKEYS,
)
from waiting import PATIENCE

from pgtasks.errors import Unreachable
from pgtasks.host.ssh import auth
from pgtasks.host.ssh.auth import Keys
from pgtasks.host.ssh.config import Settings
from pgtasks.host.ssh.route import Route
from pgtasks.host.ssh.transport import Transport
from pgtasks.settings.ssh import Login

HOST = Settings("127.0.0.1", 22, "deploy", "127.0.0.1")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two sockets that are connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def sent() -> list[bytes]:
    """Return the messages that `transport` has sent."""
    return []


@pytest.fixture
def transport(pair: tuple[socket.socket, socket.socket], sent: list[bytes]) -> Any:
    """Return a transport that is past its handshake, as far as it knows."""
    made = Transport(pair[0])
    made.packetizer.send_message = lambda data: sent.append(data.asbytes())  # type: ignore[method-assign]
    made.active = True
    made.clear_to_send.set()
    return made


def message(kind: int, *fields: int | str | bool) -> paramiko.Message:
    """Return a message as it is sent, its kind first; without a kind (0) as it is received."""
    made = paramiko.Message()
    if kind:
        made.add_byte(bytes([kind]))
    for field in fields:
        add: dict[type, Callable[[Any], object]] = {
            bool: made.add_boolean,
            int: made.add_int,
            str: made.add_string,
        }
        add[type(field)](field)
    return made if kind else paramiko.Message(made.asbytes())


def test_fabric_gives_paramiko_what_is_ours(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("paramiko.SSHClient.connect", lambda self, **options: given.update(options))
    monkeypatch.setattr(Route, "_socket", lambda self, settings: pair[0])

    route = Route(Login("127.0.0.1"))
    route.enter(HOST)

    assert given["sock"] is pair[0]
    assert isinstance(given["auth_strategy"], Keys)
    assert isinstance(given["transport_factory"](pair[0]), Transport)


def test_a_channel_to_a_socket_names_it(transport: Any, sent: list[bytes]) -> None:
    with pytest.raises(paramiko.SSHException):
        transport.open_socket("/run/x", timeout=0.1)

    [data] = sent
    opening = paramiko.Message(data)
    assert opening.get_byte() == bytes([MSG_CHANNEL_OPEN])
    assert opening.get_text() == "direct-streamlocal@openssh.com"
    for _ in range(3):  # number, window, size of a packet
        opening.get_int()
    # path, reserved text, reserved number; get_text would fill up what is missing
    assert opening.get_remainder() == text(b"/run/x") + text(b"") + bytes(4)


def test_messages_wait_for_new_keys(
    transport: Any, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def renewed(self: Any, data: paramiko.Message) -> None:
        self.clear_to_send.set()

    monkeypatch.setattr("paramiko.Transport._parse_newkeys", renewed)
    monkeypatch.setattr("pgtasks.host.ssh.transport.threading.current_thread", lambda: transport)
    transport.clear_to_send.clear()
    late = message(MSG_CHANNEL_DATA, 5, "x")

    transport._send_user_message(late)

    assert sent == []
    transport._handler_table[MSG_NEWKEYS](paramiko.Message())
    assert sent == [late.asbytes()]


def test_nothing_follows_the_end_of_a_channel(transport: Any, sent: list[bytes]) -> None:
    data, end = message(MSG_CHANNEL_DATA, 5, "x"), message(MSG_CHANNEL_CLOSE, 5)
    for each in (data, end, data, end):
        transport._send_user_message(each)
    assert sent == [data.asbytes(), end.asbytes()]

    reused = message(0, 0, 5, 1 << 20, 1 << 15)
    transport._handler_table[MSG_CHANNEL_OPEN_SUCCESS](reused)

    transport._send_user_message(data)
    assert sent == [data.asbytes(), end.asbytes(), data.asbytes()]


def test_the_signal_that_ended_a_command_is_noted(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = message(0, 3, "exit-signal", False, "TERM")
    received = (MSG_CHANNEL_REQUEST, ended)
    monkeypatch.setattr("paramiko.packet.Packetizer.read_message", lambda self: received)
    transport: Any = Transport(pair[0])
    channel = paramiko.Channel(3)
    transport._channels.put(3, channel)

    assert transport.packetizer.read_message() == received

    assert transport.signals == {3: signal.SIGTERM}
    assert channel.status_event.is_set()
    assert ended.get_int() == 3  # paramiko reads it from its beginning


@pytest.mark.skipif(
    not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such limit"
)
def test_unsent_bytes_are_limited() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        transport = Transport(client)
        assert transport.sock is client
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 1 << 17


def test_a_channel_has_what_we_read(transport: Any) -> None:
    channel: Any = paramiko.Channel(7)
    channel._set_transport(transport)
    assert (channel.chanid, channel.transport, channel.closed) == (7, transport, False)
    assert (channel.exit_status, channel.eof_received) == (-1, False)
    assert not channel.status_event.is_set()

    channel._handle_request(message(0, "exit-status", False, 3))
    channel._handle_eof(paramiko.Message())

    assert channel.status_event.is_set()
    assert (channel.exit_status, channel.eof_received) == (3, True)


# ---- keys


def test_the_next_key_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, list[str]] = {"first": ["publickey"], "second": []}
    transport: Any = SimpleNamespace(
        is_active=lambda: True, auth_publickey=lambda user, key: answers[key]
    )
    keys = Keys(HOST)
    sources = [auth._Key(keys, name, name) for name in answers]  # type: ignore[arg-type]
    monkeypatch.setattr(keys, "get_sources", lambda: iter(sources))

    keys.authenticate(transport)

    assert keys.tried == ["first (accepted, but publickey is required too)", "second"]
    assert keys.taken == "second"


def text(value: bytes) -> bytes:
    """Return a text as SSH's messages have it."""
    return struct.pack(">I", len(value)) + value


def test_the_agent_is_found_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = text(b"ssh-ed25519") + text(bytes(32))
    answer = text(bytes([12]) + struct.pack(">I", 1) + text(key) + text(b"laptop"))
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(64)
                client.sendall(answer)
                client.recv(64)  # until it is closed

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with closing(Keys(Settings("h", 22, "deploy", "h", agent=str(path)))) as keys:
            names = [source.name for source in keys.get_sources()]  # type: ignore[attr-defined]
        thread.join(PATIENCE)
    assert names == ["the agent's key laptop (ssh-ed25519)"]
    assert "SSH_AUTH_SOCK" not in os.environ


def test_a_key_with_a_passphrase_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Ed25519PrivateKey.generate()
    lock = BestAvailableEncryption(b"right")
    path = tmp_path / "key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock))
    keys = Keys(HOST)

    with pytest.raises(paramiko.SSHException):
        keys.opened(str(path))
    assert keys.tried == [f"{path} (it has a passphrase, and there is no terminal: ssh-add it)"]

    typed = iter(["wrong", "right"])
    console = SimpleNamespace(interactive=True, ask_secret=lambda question: next(typed))
    monkeypatch.setattr(auth, "CONSOLE", console)
    assert keys.opened(str(path)).get_name() == "ssh-ed25519"
    assert list(typed) == []


# ---- errors


@pytest.mark.parametrize("answer", [b"", b"no sshd\r\n" * 200])
def test_an_error_is_explained(pair: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    transport = Transport(pair[0])
    transport.banner_timeout = 0.2
    pair[1].sendall(answer)
    with pytest.raises(paramiko.SSHException) as caught:
        transport.start_client()
    assert "no sshd answers there" in explained(caught.value)


def test_a_channel_that_is_not_answered_is_explained(transport: Any) -> None:
    with pytest.raises(paramiko.SSHException) as caught:
        transport.open_channel("direct-tcpip", ("db2", 22), ("127.0.0.1", 0), timeout=0.1)
    assert "a firewall, or no such host?" in explained(caught.value)


def explained(error: Exception) -> str:
    """Return the line for an error of a host on the way."""
    exc = Route(Login("127.0.0.1"))._explained(error, HOST)
    assert isinstance(exc, Unreachable)
    return exc.message
