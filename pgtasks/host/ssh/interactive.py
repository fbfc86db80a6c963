"""Give the terminal of a person to a program on the host.

The terminal is in raw mode meanwhile, so that the program gets each key as it is typed, Ctrl-C and
Ctrl-Z too. Keys that were typed before are not lost. Nothing of what passes is kept. `~.` after
Enter ends a session whose host does not, as with ssh.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko

from pgtasks.errors import Failed, Unreachable
from pgtasks.host import signals
from pgtasks.host.ssh.link import Link
from pgtasks.host.ssh.process import CHUNK
from pgtasks.host.ssh.transport import within

_KEYS = 4096  # bytes of a paste that are read at once
_PASTED = 1 << 16  # bytes that wait for a program that reads nothing
_LEAVE = re.compile(rb"[\r\n]~\.")  # ssh(1), "Escape characters"
_FULL = 0.05  # seconds between two attempts to send to a program that reads nothing
_LOSS = 2.0  # seconds in which the loss of a connection is detected
_TERM = "xterm"  # where TERM is not set


def converse(link: Link, line: str | None) -> int:
    """Give the terminal to a command line on the host, None for a login shell, until it ends.

    Returns its exit code, that of subprocess.Popen where a signal has ended it. Raises Unreachable
    if sshd gives no terminal, or the connection is lost, and Failed if the terminal is gone.
    """
    sys.stdout.flush()
    channel = link.session()
    try:
        _begin(link, channel, line)
        with _raw(sys.stdin.fileno()), _resizes() as resizes:
            _pass_on(channel, resizes)
        code = channel.recv_exit_status()
    except termios.error as exc:
        raise Failed(f"the terminal is gone: {exc.args[-1]}") from None
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
    limit = link.login.channel_timeout
    try:
        with within(channel, limit):
            channel.get_pty(os.environ.get("TERM") or _TERM, columns, rows)
    except paramiko.SSHException:
        why = link.why_lost(_LOSS)
        refused = "sshd gives no terminal there (PermitTTY, or `pty` in authorized_keys)"
        raise Unreachable(f"{link}: {why or refused}") from None
    with within(channel, limit):
        if line is None:
            channel.invoke_shell()
        else:
            channel.exec_command(line)  # nosec B601  SshHost.interact quotes each word
    channel.setblocking(False)


def _unreported(link: Link, channel: paramiko.Channel) -> int:
    """Return the exit code of a program whose host reported none."""
    if number := link.transport.signals.get(channel.chanid):
        return -number
    lost = link.why_lost(_LOSS)
    raise Unreachable(f"{link}: {lost or 'the channel was closed before an exit code came'}")


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Pass each key on as it is typed, for the length of a block."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSANOW)  # not TCSAFLUSH: it drops what was typed before
        yield
    finally:
        with signals.held(), suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(terminal, termios.TCSANOW, before)


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
    unsent, line = b"", b"\r"
    while True:
        sources = [arrivals, resizes, *([keys] if len(unsent) < _PASTED else [])]
        ready, _, _ = select.select(sources, [], [], _FULL if unsent else None)
        if arrivals in ready:
            output = _received(channel)
            if output == b"":
                return
            _show(screen, output or b"")
        if resizes in ready:
            os.read(resizes, _KEYS)
            with suppress(paramiko.SSHException):  # the program has ended
                channel.resize_pty(*os.get_terminal_size(screen))
        if keys in ready:
            typed = _typed(keys)
            unsent, line = unsent + typed, line[-2:] + typed
            if _LEAVE.search(line):
                raise KeyboardInterrupt
        if unsent:
            unsent = unsent[_sent(channel, unsent) :]


def _typed(keys: int) -> bytes:
    """Return what was typed, raising Failed if the terminal is gone."""
    try:
        typed = os.read(keys, _KEYS)
    except OSError as exc:
        raise Failed(f"the terminal is gone: {exc.strerror}") from None
    if not typed:
        raise Failed("the terminal is gone: no more keys")
    return typed


def _show(screen: int, output: bytes) -> None:
    """Write to the screen, raising Failed if it is gone."""
    view = memoryview(output)
    while view:
        try:
            view = view[os.write(screen, view) :]
        except BlockingIOError:  # a program before us has left the terminal so
            select.select([], [screen], [])
        except OSError as exc:
            raise Failed(f"the terminal is gone: {exc.strerror}") from None


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
    except OSError:
        return len(data)  # the program has ended; its last output is still to be shown
