"""The connection of a run to a database host: opened once, watched, closed with the run.

A lifeline runs there (see `wrapper.lifeline`): it ends what the run started when it hears nothing
more of us. We close the connection when we hear nothing more of it.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fabric
import paramiko

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.ssh import config, hostkeys, wrapper
from pgtasks.ssh.config import Settings
from pgtasks.ssh.keys import Keys
from pgtasks.ssh.login import Login
from pgtasks.ssh.login import parse as parse_login
from pgtasks.ssh.transport import Transport

_PROHIBITED, _NO_SUCH_KIND = 1, 3  # RFC 4254, section 5.1
_BEATS = 4  # signs of life in the time after which silence counts as the end

# what it has to say is in the exceptions; without a handler logging prints tracebacks
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class Link:
    """An open connection to a host. `lost` says why it is no more, as long as that is not us.

    `room` is the folder of this run there, gone with it; `opened` how many seconds it took.
    """

    def __init__(self, login: Login, *, environment: str = "") -> None:
        self.login = login
        self.lost = ""
        self._closing = False
        self._lock = threading.Lock()
        began = time.monotonic()
        self.settings = config.settings(login)
        self.connection = _opened(login, self.settings, environment)
        self.transport: Transport = self.connection.transport
        self.opened = time.monotonic() - began
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.login)

    def _begin(self) -> None:
        """Start the lifeline, raising Unreachable where no command starts."""
        mark = secrets.token_hex(8)
        self._lifeline = self.session()
        self._lifeline.settimeout(self.login.channel_timeout)
        self._lifeline.exec_command(wrapper.begin(self.login.sudo_user))
        self._lifeline.sendall(wrapper.lifeline(mark, self.login.silence))
        words = self._words_after(f"\n{mark} ".encode())
        _, _, self.room = words.partition(" ")
        for work in (self._beat, self._listen):
            threading.Thread(target=work, daemon=True).start()

    def _words_after(self, mark: bytes) -> str:
        """Return the lifeline's first line; a login shell may have printed its own before."""
        said = b""
        try:
            while mark not in said or b"\n" not in said.partition(mark)[2]:
                more = self._lifeline.recv(4096)
                if not more:
                    raise Speechless(f"{self}: no command starts there: {self._why(said)}")
                said += more
        except TimeoutError:
            seconds = self.login.channel_timeout
            raise Speechless(
                f"{self}: no command starts there within {seconds} s (channel_timeout)"
            ) from None
        return said.partition(mark)[2].split(b"\n")[0].decode()

    def _why(self, said: bytes) -> str:
        words = said + self._lifeline.recv_stderr(4096)
        code = self._lifeline.recv_exit_status()
        last = words.decode(errors="replace").strip().splitlines()[-1:] or ["no word why"]
        return f"{last[0]} (exit code {code})"

    def _beat(self) -> None:
        """Give signs of life, as long as there is anybody to give them to."""
        pause = self.login.silence / _BEATS
        while not self._closing and not self.lost:
            self._tell(".")
            time.sleep(pause)

    def _listen(self) -> None:
        """Hear the answers, and take their absence for the end.

        Not the thread that sends: on a cut line that one may be stuck in a full buffer.
        """
        self._lifeline.settimeout(self.login.silence / _BEATS)
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < self.login.silence:
            try:
                if not self._lifeline.recv(4096):
                    self._lose("the line was lost")
                    return
                silent_since = time.monotonic()
            except TimeoutError:
                pass
            except (OSError, EOFError):
                break
        self._lose(f"no answer in {self.login.silence} s, the line is cut")

    def _lose(self, why: str) -> None:
        if not self._closing and not self.lost:
            self.lost = why
            self.transport.close()

    def _tell(self, line: str) -> bool:
        try:
            with self._lock:
                self._lifeline.sendall(line.encode() + b"\n")
        except (OSError, EOFError, paramiko.SSHException):
            return False
        return True

    def signal(self, pid: int, sign: signal.Signals) -> bool:
        """Send a signal to a process there and its group; return whether the line takes it."""
        return self._tell(f"{sign.name.removeprefix('SIG')} {pid}")

    def ended(self, mark: str) -> None:
        """Say that a command has ended, so that nobody signals another process of its ID."""
        self._tell(f"-{mark}")

    def session(self) -> paramiko.Channel:
        """Open a channel for a command, raising Unreachable or Failed."""
        return self._channel("a command", self.transport.open_session)

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
        self._closing = True
        gateway: Any = self.connection
        while isinstance(gateway, fabric.Connection):
            connection, gateway = gateway, gateway.gateway
            connection.close()


class Forbidden(Failed):
    """Report a channel that the host's sshd is told not to open."""


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
