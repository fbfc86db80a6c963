"""Give the terminal of a person to a program on the host.

The terminal is in raw mode meanwhile, so that the program gets each key as it is typed, Ctrl-C and
Ctrl-Z too. Keys that were typed before are not lost. Nothing of what passes is kept.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko

from pgtasks.errors import Unreachable
from pgtasks.host.ssh.link import Link
from pgtasks.host.ssh.process import CHUNK, LOST, write

_KEYS = 4096  # bytes of a paste that are read at once
_FULL = 0.05  # seconds between two attempts to send to a program that reads nothing
_LOSS = 2.0  # seconds in which the loss of a connection is detected
_TERM = "xterm"  # where TERM is not set


def converse(link: Link, line: str | None) -> int:
    """Give the terminal to a command line on the host, None for a login shell, until it ends.

    Returns its exit code, that of subprocess.Popen where a signal has ended it. Raises Unreachable
    if sshd gives no terminal, or the connection is lost.
    """
    sys.stdout.flush()
    channel = link.session()
    try:
        _begin(link, channel, line)
        with _raw(sys.stdin.fileno()), _resizes() as resizes:
            _pass_on(channel, resizes)
        code = channel.recv_exit_status()
    except (paramiko.SSHException, OSError, EOFError) as exc:
        raise Unreachable(f"{link}: {link.why_lost(_LOSS) or exc}") from None
    finally:
        channel.close()
    if code < 0:
        return _unreported(link, channel)
    return code


def _begin(link: Link, channel: paramiko.Channel, line: str | None) -> None:
    """Start the program on a terminal of the host that is like ours."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    channel.set_combine_stderr(True)
    try:
        channel.get_pty(os.environ.get("TERM") or _TERM, columns, rows)
    except paramiko.SSHException:
        why = link.why_lost(_LOSS)
        refused = "sshd gives no terminal there (PermitTTY, or `pty` in authorized_keys)"
        raise Unreachable(f"{link}: {why or refused}") from None
    if line is None:
        channel.invoke_shell()
    else:
        channel.exec_command(line)
    channel.setblocking(False)


def _unreported(link: Link, channel: paramiko.Channel) -> int:
    """Return the exit code of a program whose host reported none."""
    if number := link.transport.signals.get(channel.chanid):
        return -number
    if lost := link.why_lost(_LOSS):
        raise Unreachable(f"{link}: {lost}")
    return LOST


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Pass each key on as it is typed, for the length of a block."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSANOW)  # not TCSAFLUSH: it drops what was typed before
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextmanager
def _resizes() -> Iterator[int]:
    """Provide a pipe that has bytes after the terminal has changed its size."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def note(*_: object) -> None:
        # the channel's locks may be held where a signal arrives
        with suppress(BlockingIOError):
            os.write(writer, b".")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)


def _pass_on(channel: paramiko.Channel, resizes: int) -> None:
    """Pass keys to the program and its output to the screen, until it ends."""
    keys, screen, arrivals = sys.stdin.fileno(), sys.stdout.fileno(), channel.fileno()
    unsent = b""
    while True:
        sources = [arrivals, resizes] if unsent else [arrivals, resizes, keys]
        ready, _, _ = select.select(sources, [], [], _FULL if unsent else None)
        if arrivals in ready:
            output = _received(channel)
            if output == b"":
                return
            write(screen, output or b"")
        if resizes in ready:
            os.read(resizes, _KEYS)
            channel.resize_pty(*os.get_terminal_size(screen))
        if keys in ready:
            unsent = os.read(keys, _KEYS)
            if not unsent:  # the terminal is gone
                channel.close()
        if unsent:
            unsent = unsent[_sent(channel, unsent) :]


def _received(channel: paramiko.Channel) -> bytes | None:
    """Return output of the program, None if there is none now, and no bytes at its end."""
    try:
        return channel.recv(CHUNK)
    except TimeoutError:
        return None


def _sent(channel: paramiko.Channel, data: bytes) -> int:
    """Send what the program takes now, and return the number of bytes."""
    try:
        return channel.send(data)
    except TimeoutError:
        return 0
