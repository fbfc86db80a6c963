"""The connection of a run to a database host: opened once, watched, closed with the run."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fabric
import paramiko

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.ssh import config, hostkeys
from pgtasks.ssh.config import Settings
from pgtasks.ssh.keys import Keys
from pgtasks.ssh.lifeline import Lifeline
from pgtasks.ssh.login import Login
from pgtasks.ssh.login import parse as parse_login
from pgtasks.ssh.transport import Transport

_PROHIBITED, _NO_SUCH_KIND = 1, 3  # RFC 4254, section 5.1

# what it has to say is in the exceptions; without a handler logging prints tracebacks
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class Link:
    """An open connection to a host. `lost` says why it is no more, as long as that is not us.

    `opened` is how many seconds it took.
    """

    def __init__(self, login: Login, *, environment: str = "") -> None:
        self.login = login
        self.lost = ""
        self._gone = threading.Event()
        began = time.monotonic()
        self.settings = config.settings(login)
        self.connection = _opened(login, self.settings, environment)
        self.transport: Transport = self.connection.transport
        self.opened = time.monotonic() - began
        try:
            self.lifeline = Lifeline(self.session(), login, self._lose)
        except BaseException as exc:
            _close(self.connection)
            if isinstance(exc, (paramiko.SSHException, OSError, EOFError)):
                raise Unreachable(f"{self}: no command starts there: {exc}") from None
            raise

    def __str__(self) -> str:
        return str(self.login)

    @property
    def room(self) -> str:
        """Return the folder of this run there, gone with it."""
        return self.lifeline.room

    def _lose(self, why: str) -> None:
        self.lost = why
        self._gone.set()
        self.transport.close()

    def why_lost(self, seconds: float) -> str:
        """Return `lost`, giving a line that is being lost some time to be known as such."""
        self._gone.wait(seconds)
        return self.lost

    def session(self) -> paramiko.Channel:
        """Open a channel for a command, raising Unreachable."""
        return self._channel("one more command (MaxSessions?)", self.transport.open_session)

    def socket(self, path: str) -> paramiko.Channel:
        """Open a channel to a unix socket there, raising Forbidden where sshd allows none."""
        return self._channel(path, partial(self.transport.open_socket, path))

    def port(self, host: str, port: int) -> paramiko.Channel:
        """Open a channel to a port that is reached from there, raising Forbidden likewise."""
        there = partial(self.transport.open_channel, "direct-tcpip", (host, port), ("127.0.0.1", 0))
        return self._channel(f"{host}:{port}", there)

    def _channel(self, what: str, open_it: Callable[..., paramiko.Channel]) -> paramiko.Channel:
        if self.lost:
            raise Unreachable(f"{self}: {self.lost}")
        try:
            return open_it(timeout=float(self.login.channel_timeout))
        except paramiko.ChannelException as exc:
            if exc.code in (_PROHIBITED, _NO_SUCH_KIND):
                raise Forbidden(f"{self}: sshd opens no channel for {what}: {exc.text}") from None
            raise Unreachable(f"{self}: {what}: {exc.text.lower()}") from None
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise Unreachable(f"{self}: {self.lost or exc}") from None

    def close(self) -> None:
        """Close the connection; what still runs there is ended by the lifeline."""
        self.lifeline.close()
        _close(self.connection)


class Forbidden(Failed):
    """Report a channel that the host's sshd is told not to open."""


def _close(connection: Any) -> None:
    """Close a connection, and those to its jump hosts."""
    while isinstance(connection, fabric.Connection):
        connection.close()
        connection = connection.gateway


class Denied(Unreachable):
    """Report a host that lets none of our keys in."""


class Speechless(Unreachable):
    """Report a host that lets us in and starts no command."""


def _opened(login: Login, settings: Settings, environment: str) -> fabric.Connection:
    """Connect and log in, by way of the jump hosts, raising Unreachable."""
    gateway: Any = settings.proxy_command or None
    for number, jump in enumerate(settings.jumps):
        hop = Login(**{**_waits(login), **parse_login(jump, "ssh.jump")})
        hop = Login(**{**vars(hop), "port": int(hop.port) if hop.port else None})
        found = config.settings(_hop(login, hop))
        # the first one may itself need jump hosts: ssh would follow those too
        gateway = _one(login, found, gateway if number else None, environment)
    return _one(login, settings, gateway, environment)


def _waits(login: Login) -> dict[str, Any]:
    names = ("connect_timeout", "banner_timeout", "auth_timeout", "channel_timeout", "silence")
    return {name: getattr(login, name) for name in names}


def _hop(login: Login, hop: Login) -> Login:
    """Return the login of a jump host: its keys are known by the same file."""
    return Login(**{**vars(hop), "known_hosts": login.known_hosts, "identity": login.identity})


def _one(login: Login, settings: Settings, gateway: Any, environment: str) -> fabric.Connection:
    keys = Keys(settings)
    overrides = {"load_ssh_configs": False}
    connection = fabric.Connection(
        settings.host,
        user=settings.user,
        port=settings.port,
        gateway=gateway,
        connect_timeout=login.connect_timeout,
        config=fabric.Config(overrides=overrides, lazy=True),
        connect_kwargs={
            "auth_strategy": keys,
            "transport_factory": partial(_transport, hostkeys.known_types(settings)),
            "banner_timeout": login.banner_timeout,
            "auth_timeout": login.auth_timeout,
            "channel_timeout": login.channel_timeout,
        },
    )
    connection.client.set_missing_host_key_policy(hostkeys.Policy(settings, environment))
    try:
        connection.open()
    except BaseException as exc:
        connection.close()
        raise _explained(exc, login, settings, keys) from None
    return connection


def _transport(known: list[str], *args: Any, **options: Any) -> Transport:
    made = Transport(*args, **options)
    made.prefer_keys(known)
    return made


def _explained(exc: BaseException, login: Login, settings: Settings, keys: Keys) -> BaseException:
    """Return what went wrong, in one line; what is ours already, or no error, as it is."""
    if isinstance(exc, PgtasksError) or not isinstance(exc, Exception):
        return exc
    place = f"ssh {settings}"
    if isinstance(exc, paramiko.AuthenticationException):
        tried = ", ".join(keys.tried) or "no key was there to try"
        return Denied(f"{place}: not let in as {settings.user!r}: {tried}")
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"{place}: no such name: {str(exc.strerror).lower()}")
    if isinstance(exc, TimeoutError):
        return Unreachable(
            f"{place}: no answer in {login.connect_timeout} s (connect_timeout): a firewall, "
            "or no such host?"
        )
    if isinstance(exc, paramiko.ssh_exception.NoValidConnectionsError):
        faults = {str(getattr(error, "strerror", error)).lower() for error in exc.errors.values()}
        return Unreachable(f"{place}: {', '.join(sorted(faults))}")
    if isinstance(exc, paramiko.ChannelException):
        return Unreachable(f"{place}: the jump host does not get there: {exc.text.lower()}")
    if isinstance(exc, (paramiko.SSHException, OSError, EOFError)):
        words = getattr(exc, "strerror", None) or str(exc) or "the connection was closed"
        return Unreachable(f"{place}: {words[:1].lower()}{words[1:]}")
    return exc
