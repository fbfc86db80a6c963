"""paramiko's transport, with channels to Unix sockets of the host."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import paramiko

from pgtasks.host.worker import limited

_SOCKET = "direct-streamlocal@openssh.com"
_REQUEST = b"\x62"  # SSH_MSG_CHANNEL_REQUEST
_OPEN = b"\x5a"  # SSH_MSG_CHANNEL_OPEN
_EOF = 96  # SSH_MSG_CHANNEL_EOF
_CLOSE = 97  # SSH_MSG_CHANNEL_CLOSE
_OF_A_CHANNEL = range(93, 101)  # messages about an open channel (RFC 4254, section 9)
# unsent bytes: more would delay the keepalives behind them
_WAITING = 1 << 17


class Transport(paramiko.Transport):
    """A transport that prefers authenticated ciphers, and opens Unix sockets of the host.

    `heard` is the time of the last message; `signals` has the number of the signal that ended a
    command, by its channel's number (0: a signal that this system does not have).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ciphers = self.get_security_options().ciphers
        # twice as fast as a cipher and a separate MAC
        self.get_security_options().ciphers = tuple(
            sorted(ciphers, key=lambda name: "gcm" not in name)
        )
        self._opening = threading.local()
        self._held: list[Any] = []  # messages that wait for new keys
        self.heard = time.monotonic()
        self.signals: dict[int, int] = {}
        self._ended: set[int] = set()  # the host's numbers of channels that we closed
        self._read_message = self.packetizer.read_message
        self.packetizer.read_message = self._hear  # type: ignore[method-assign]
        _wait_little(self.sock)

    def _hear(self) -> Any:
        """Return the next message, noting signals, which paramiko does not report."""
        kind, message = self._read_message()
        self.heard = time.monotonic()
        if kind == _REQUEST[0]:
            _note_signal(self, message)
        return kind, message

    def allow(self, algorithms: Mapping[str, Sequence[str]]) -> None:
        """Allow only these algorithms of each kind, raising SSHException if paramiko has none."""
        options = self.get_security_options()
        for kind, allowed in algorithms.items():
            kept = tuple(name for name in getattr(options, kind) if name in allowed)
            if not kept:
                words = f"{kind.replace('_', ' ')} {','.join(allowed)}"
                raise paramiko.SSHException(f"none of the {words} of ssh_config is known here")
            setattr(options, kind, kept)

    def prefer_keys(self, types: list[str]) -> None:
        """Prefer host keys of these types, which are the known ones."""
        options = self.get_security_options()
        wanted = [name for kind in types for name in _signatures(kind)]
        first = [name for name in wanted if name in options.key_types]
        rest = [name for name in options.key_types if name not in first]
        options.key_types = (*first, *rest)

    def open_socket(self, path: str, *, timeout: float) -> paramiko.Channel:
        """Open a channel to a Unix socket of the host (OpenSSH's PROTOCOL, section 2.4)."""
        self._opening.path = path
        try:
            return self.open_channel(_SOCKET, timeout=timeout)
        finally:
            self._opening.path = None

    def _send_user_message(self, data: Any) -> None:
        # open_channel writes the fields of the kinds it knows; sshd closes the whole connection
        # on a message without those of this one: path, reserved text, reserved number
        if getattr(self._opening, "path", None) and data.asbytes()[:1] == _OPEN:
            data.add_string(self._opening.path)
            data.add_string("")
            data.add_int(0)
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            # new keys are being agreed on, by this thread: paramiko lets it wait for itself when
            # the other side closes a channel meanwhile
            self._held.append(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _parse_newkeys(self, message: paramiko.Message) -> None:
        super()._parse_newkeys(message)  # type: ignore[misc]
        while self._held:
            super()._send_user_message(self._held.pop(0))  # type: ignore[misc]

    def _send_message(self, data: Any) -> None:
        # paramiko writes a message under a channel's lock and sends it outside: another thread may
        # send the end before it, and sshd closes the whole connection on what comes after an end.
        # Here its lock for sending is held.
        header = data.asbytes()[:5]
        if header[0] in _OF_A_CHANNEL:
            number = int.from_bytes(header[1:], "big")
            if number in self._ended:
                return
            if header[0] == _CLOSE:
                self._ended.add(number)
        try:
            super()._send_message(data)  # type: ignore[misc]
        except EOFError:
            # paramiko raises this if the connection just closed; a socket raises OSError
            if header[0] not in (_EOF, _CLOSE):
                raise ConnectionResetError("the connection is closed") from None

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        begin = message.packet.tell()
        message.get_int()
        self._ended.discard(message.get_int())  # numbers are reused
        message.packet.seek(begin)
        super()._parse_channel_open_success(message)  # type: ignore[misc]


@contextmanager
def within(channel: paramiko.Channel, seconds: float) -> Iterator[None]:
    """Close a channel if a block takes too long, and raise TimeoutError.

    paramiko waits without a limit for the host's answer to a request, as to start a command.
    """
    with limited(seconds, channel.close) as late:
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError):
            if late.is_set():
                raise TimeoutError(f"no answer within {seconds:g} s (channel_timeout)") from None
            raise


def _note_signal(transport: Any, message: paramiko.Message) -> None:
    """Note the signal that ended a command (RFC 4254, section 6.10)."""
    begin = message.packet.tell()
    number = message.get_int()
    channel = transport._channels.get(number)
    if channel is not None and message.get_text() == "exit-signal":
        message.get_boolean()
        name = f"SIG{message.get_text()}"
        transport.signals[number] = int(getattr(signal, name, 0))
        channel.status_event.set()
    message.packet.seek(begin)


def _wait_little(sock: Any) -> None:
    """Limit the unsent bytes in the kernel, if the system supports that."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None or not isinstance(sock, socket.socket):
        return
    if sock.family in (socket.AF_INET, socket.AF_INET6):  # not the socket of a ProxyCommand
        sock.setsockopt(socket.IPPROTO_TCP, option, _WAITING)


def _signatures(kind: str) -> list[str]:
    return ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
