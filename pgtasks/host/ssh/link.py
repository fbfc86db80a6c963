"""The SSH connection of a run: opened once, watched, closed with the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import paramiko

from pgtasks.errors import Failed, Unreachable
from pgtasks.host.ssh.route import Route
from pgtasks.host.ssh.transport import Transport
from pgtasks.host.ssh.watchdog import NoCommand, Watchdog
from pgtasks.settings.ssh import Login

_PROHIBITED, _NO_SUCH_KIND = 1, 3  # RFC 4254, section 5.1


class Link:
    """An open connection to a host. `lost` says why it ended, unless we closed it.

    `opened` is the number of seconds that it took to open.
    """

    def __init__(self, login: Login, *, environment: str = "") -> None:
        self.login = login
        self.lost = ""
        self._gone = threading.Event()
        began = time.monotonic()
        self.route = Route(login, environment=environment)
        self.settings = self.route.hosts[-1]
        self.connection = self.route.walk()
        self.transport: Transport = self.connection.transport
        self.opened = time.monotonic() - began
        try:
            self.lifeline = Watchdog(self.session(), login, self._lose)
        except BaseException as exc:
            self.route.close()
            if isinstance(exc, (paramiko.SSHException, OSError, EOFError)):
                raise NoCommand(f"{self}: no command starts there: {exc}") from None
            raise

    def __str__(self) -> str:
        return str(self.login)

    @property
    def room(self) -> str:
        """Return the folder of this run on the host, which is removed with the run."""
        return self.lifeline.room

    def _lose(self, why: str) -> None:
        self.lost = why
        self._gone.set()
        self.transport.close()

    def why_lost(self, seconds: float) -> str:
        """Return `lost`, after waiting shortly for a loss to be detected."""
        self._gone.wait(seconds)
        return self.lost

    def session(self) -> paramiko.Channel:
        """Open a channel for a command, raising Unreachable."""
        return self._channel("one more command (MaxSessions?)", self.transport.open_session)

    def socket(self, path: str) -> paramiko.Channel:
        """Open a channel to a Unix socket on the host; raises ChannelForbidden."""
        return self._channel(path, partial(self.transport.open_socket, path))

    def port(self, host: str, port: int) -> paramiko.Channel:
        """Open a channel to a port as seen from the host; raises ChannelForbidden."""
        open_channel = partial(
            self.transport.open_channel, "direct-tcpip", (host, port), ("127.0.0.1", 0)
        )
        return self._channel(f"{host}:{port}", open_channel)

    def _channel(self, purpose: str, open_it: Callable[..., paramiko.Channel]) -> paramiko.Channel:
        if self.lost:
            raise Unreachable(f"{self}: {self.lost}")
        try:
            return open_it(timeout=float(self.login.channel_timeout))
        except paramiko.ChannelException as exc:
            if exc.code in (_PROHIBITED, _NO_SUCH_KIND):
                raise ChannelForbidden(
                    f"{self}: sshd opens no channel for {purpose}: {exc.text}"
                ) from None
            raise Unreachable(f"{self}: {purpose}: {exc.text.lower()}") from None
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise Unreachable(f"{self}: {self.lost or exc}") from None

    def close(self) -> None:
        """Close the connection; the watchdog ends what still runs on the host."""
        self.lifeline.close()
        self.route.close()


class ChannelForbidden(Failed):
    """The host's sshd is configured not to open such a channel."""
