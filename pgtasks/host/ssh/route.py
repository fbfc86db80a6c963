"""Connect to a host through its jump hosts, checking the key of each."""

from __future__ import annotations

import logging
import socket
import subprocess
from dataclasses import replace
from functools import partial
from typing import Any

import fabric
import paramiko

from pgtasks import report
from pgtasks.errors import BadConfiguration, PgtasksError, Unreachable
from pgtasks.host import child
from pgtasks.host.ssh import config, hostkeys
from pgtasks.host.ssh.auth import Keys
from pgtasks.host.ssh.config import Settings
from pgtasks.host.ssh.transport import Transport
from pgtasks.settings.ssh import Login
from pgtasks.settings.ssh import parse as parse_login

_PROHIBITED = 1  # RFC 4254, section 5.1

# its messages are in the exceptions; without a handler, logging prints tracebacks
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class LoginDenied(Unreachable):
    """The host accepts none of our keys."""


class Route:
    """The hosts on the way, ending at the destination, and the `connections` so far.

    `key` is the key of the last login.
    """

    def __init__(self, login: Login, *, environment: str = "") -> None:
        self.login, self.environment = login, environment
        self.hosts = _hosts(config.settings(login), login)
        self.connections: list[fabric.Connection] = []
        self.key = ""
        self._proxies: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, the last one first."""
        for connection in reversed(self.connections):
            connection.close()
        for proxy in self._proxies:
            proxy.terminate()
            proxy.wait()

    def walk(self) -> fabric.Connection:
        """Log in to all hosts and return the connection to the last, raising Unreachable."""
        try:
            for settings in self.hosts[len(self.connections) :]:
                self.enter(settings)
                for line in settings.unapplied:
                    report.say(f"note: {settings.host}: ssh_config says {line}, of no effect here")
        except BaseException:
            self.close()
            raise
        return self.connections[-1]

    def enter(self, settings: Settings) -> None:
        """Log in to the next host."""
        keys = Keys(settings)
        connection = fabric.Connection(
            settings.host,
            user=settings.user,
            port=settings.port,
            config=fabric.Config(overrides={"load_ssh_configs": False}, lazy=True),
            connect_kwargs={
                "auth_strategy": keys,
                "transport_factory": partial(_transport, settings),
                "banner_timeout": self.login.banner_timeout,
                "auth_timeout": self.login.auth_timeout,
                "channel_timeout": self.login.channel_timeout,
            },
        )
        connection.client.set_missing_host_key_policy(hostkeys.Policy(settings, self.environment))
        try:
            connection.connect_kwargs["sock"] = self._socket(settings)
            connection.open()
        except BaseException as exc:
            connection.client.close()  # Fabric does not close a connection that failed to open
            raise self._explained(exc, settings, keys) from None
        finally:
            keys.close()
        self.connections.append(connection)
        self.key = keys.taken

    def presented(self, settings: Settings) -> paramiko.PKey:
        """Return the key of the next host, without a login."""
        try:
            transport = _transport(settings, self._socket(settings))
            transport.banner_timeout = self.login.banner_timeout
            try:
                transport.start_client()
                return transport.get_remote_server_key()
            finally:
                transport.close()
        except BaseException as exc:
            raise self._explained(exc, settings) from None

    def _socket(self, settings: Settings) -> Any:
        """Return a socket to the next host's sshd, or a channel of the host before."""
        seconds = float(self.login.connect_timeout)
        if self.connections:
            open_channel = self.connections[-1].transport.open_channel
            place = (settings.host, settings.port)
            return open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=seconds)
        if settings.proxy_command:
            return self._proxied(settings.proxy_command)
        made = socket.create_connection((settings.host, settings.port), seconds)
        # paramiko does not set it: small messages would wait 40 ms for an acknowledgement
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _proxied(self, command: str) -> socket.socket:
        """Return a socket to a ProxyCommand."""
        ours, theirs = socket.socketpair()
        with theirs:
            argv, end = ["/bin/sh", "-c", f"exec {command}"], theirs.fileno()
            self._proxies.append(
                subprocess.Popen(argv, stdin=end, stdout=end, env=child.for_programs())
            )
        return ours

    def _explained(
        self, exc: BaseException, settings: Settings, keys: Keys | None = None
    ) -> BaseException:
        """Return an error in one line; our own errors are unchanged."""
        if isinstance(exc, PgtasksError) or not isinstance(exc, Exception):
            return exc
        place, login = f"ssh {settings}", self.login
        if isinstance(exc, paramiko.AuthenticationException):
            tried = ", ".join(keys.tried if keys else ()) or "there was no key to try"
            return LoginDenied(f"{place}: login as {settings.user!r} denied: {tried}")
        if isinstance(exc, socket.gaierror):
            return Unreachable(f"{place}: no such name: {str(exc.strerror).lower()}")
        if isinstance(exc, TimeoutError) or str(exc) == "Timeout opening channel.":
            return Unreachable(
                f"{place}: no answer in {login.connect_timeout} s (connect_timeout): a firewall, "
                "or no such host?"
            )
        if isinstance(exc, paramiko.ChannelException):
            before = f"the jump host {self.hosts[len(self.connections) - 1]}"
            if exc.code == _PROHIBITED:
                return Unreachable(f"{place}: {before} forwards nothing: {exc.text.lower()}")
            return Unreachable(f"{place}: {before} cannot connect to it: {exc.text.lower()}")
        if str(exc).startswith(("Error reading SSH protocol", "Indecipherable protocol")):
            return Unreachable(
                f"{place}: no sshd answers there, or not within {login.banner_timeout} s "
                "(banner_timeout)"
            )
        if isinstance(exc, (paramiko.SSHException, OSError, EOFError)):
            words = getattr(exc, "strerror", None) or str(exc) or "the connection was closed"
            return Unreachable(f"{place}: {words[:1].lower()}{words[1:]}")
        return exc


def _hosts(last: Settings, login: Login, heirs: tuple[Settings, ...] = ()) -> list[Settings]:
    """Return the hosts on the way, as ssh finds them.

    Several jump hosts are the whole path; the first of them may have jump hosts of its own.
    """
    way: list[Settings] = []
    for number, jump in enumerate(last.jumps):
        settings = config.settings(_jump(login, jump))
        if login.identity:
            identities = (login.identity, *settings.identities)
            settings = replace(settings, identities=identities)
        if settings in heirs:
            raise BadConfiguration(f"ssh {settings}: a cycle of jump hosts")
        if number == 0:
            way += _hosts(settings, login, (*heirs, settings))
        else:
            way.append(settings)
    return [*way, last]


def _jump(login: Login, jump: str) -> Login:
    """Return the login of a jump host, with the same known_hosts file."""
    jump_login = parse_login(jump, "ssh.jump")
    port = int(jump_login["port"]) if "port" in jump_login else None
    return Login(
        jump_login["host"], jump_login.get("user", ""), port, known_hosts=login.known_hosts
    )


def _transport(settings: Settings, *args: Any, **options: Any) -> Transport:
    made = Transport(*args, **options)
    made.allow(settings.algorithms)
    made.prefer_keys(hostkeys.known_types(settings))
    return made
