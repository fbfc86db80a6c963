"""The watchdog: a small process on the host that cleans up after a run.

It owns the run's folder, and ends the processes of the run when it hears nothing from us
(`scripts.lifeline` is its text). If it does not answer, we treat the connection as lost.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import paramiko

from pgtasks.errors import Unreachable
from pgtasks.host.ssh import scripts
from pgtasks.host.ssh.transport import Transport, within
from pgtasks.settings.ssh import Login

_BEATS = 4  # keepalives during the time of `silence`
_CHUNK = 4096
_BANNER = 1 << 20  # bytes that a login shell may print before the watchdog begins
_LONGEST = 1024  # characters of a folder's path


class NoCommand(Unreachable):
    """The host accepts the login but starts no command."""


class Watchdog:
    """A running watchdog; `lose` is called once, with the reason, if the connection is lost.

    `room` is the folder of this run on the host, which is removed with the run.
    """

    def __init__(self, channel: paramiko.Channel, login: Login, lose: Callable[[str], None]):
        self._channel, self._login, self._lose = channel, login, lose
        assert isinstance(channel.transport, Transport)
        self._transport = channel.transport
        self._sending = threading.Lock()
        self._over = threading.Event()
        mark = secrets.token_hex(8)
        channel.settimeout(login.channel_timeout)
        with within(channel, login.channel_timeout):
            channel.exec_command(scripts.begin_lifeline(login.sudo_user))  # nosec B601
        with suppress(OSError):  # a shell may end before it reads; what it printed says why
            channel.sendall(scripts.lifeline(mark, login.silence))
        self.room = self._word_after(f"\n{mark} ".encode())
        self.answered = time.monotonic()
        for work in (self._beat, self._listen):
            threading.Thread(target=work, daemon=True).start()

    def _word_after(self, mark: bytes) -> str:
        """Return the rest of the line after the mark; a login shell may print before it."""
        received, deadline = b"", time.monotonic() + self._login.channel_timeout
        try:
            while b"\n" not in received.partition(mark)[2]:
                # a limit for all of it, whatever is received meanwhile
                self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
                more = self._channel.recv(_CHUNK)
                if not more or len(received) > _BANNER:
                    raise NoCommand(
                        f"{self._login}: no command starts there: {self._why(received)}"
                    )
                received += more
        except TimeoutError:
            seconds = self._login.channel_timeout
            raise NoCommand(
                f"{self._login}: no command starts there within {seconds} s (channel_timeout)"
            ) from None
        return self._room(received.partition(mark)[2].split(b"\n")[0])

    def _room(self, received: bytes) -> str:
        """Return the path of the folder, checked because it goes into commands."""
        path = received.decode(errors="replace")
        if not path.startswith("/") or len(path) > _LONGEST or not path.isprintable():
            raise NoCommand(f"{self._login}: no folder for a run there: {path[:_LONGEST]!r}")
        return path

    def _why(self, received: bytes) -> str:
        if len(received) > _BANNER:
            return f"its login shell printed more than {_BANNER:,} bytes"
        words = received + self._channel.recv_stderr(_CHUNK)
        self._channel.status_event.wait(self._login.channel_timeout)
        code = self._channel.exit_status
        last = words.decode(errors="replace").strip().splitlines()[-1:] or ["no word why"]
        return f"{last[0]} (exit code {code})"

    def _beat(self) -> None:
        """Send keepalives until the connection ends."""
        pause = self._login.silence / _BEATS
        while self._tell(".") and not self._over.wait(pause):
            pass

    def _listen(self) -> None:
        """Read the answers; if none arrives in time, the connection is lost.

        This is not the thread that sends, which may be stuck in a full buffer if the connection is
        cut. Other messages count too, because answers wait behind them.
        """
        self._channel.settimeout(self._login.silence / _BEATS)
        why = f"no answer in {self._login.silence} s, the line is cut"
        while time.monotonic() - self._transport.heard < self._login.silence:
            try:
                if not self._channel.recv(_CHUNK):
                    why = "the line was lost"
                    break
                self.answered = time.monotonic()
            except TimeoutError:
                pass
        if not self._over.is_set():
            self._over.set()
            self._lose(why)

    def _tell(self, line: str) -> bool:
        try:
            with self._sending:
                self._channel.sendall(line.encode() + b"\n")
        except (OSError, EOFError, paramiko.SSHException):
            return False
        return True

    def signal(self, mark: str, sign: signal.Signals) -> bool:
        """Send a signal to a command and its process group; return whether it could be sent.

        A command that has not begun by then does not begin at all.
        """
        return self._tell(f"{sign.name.removeprefix('SIG')} {mark}")

    def ended(self, mark: str) -> None:
        """Report that a command has ended, so that its process ID is not signalled again."""
        self._tell(f"-{mark}")

    def close(self) -> None:
        """Stop the keepalives."""
        self._over.set()
