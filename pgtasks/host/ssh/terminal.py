"""An interactive shell or command on a database host."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pgtasks.errors import Refused
from pgtasks.host.base import Command
from pgtasks.host.ssh import interactive
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import Link
from pgtasks.host.ssh.process import RemoteProcess
from pgtasks.host.worker import Worker
from pgtasks.report import typed
from pgtasks.report.terminal import is_terminal
from pgtasks.settings import ssh
from pgtasks.settings.target import Target

_CHUNK = 1 << 16
# as `ssh host command` does: in the home folder
_AT_HOME = 'cd 2>/dev/null; exec /bin/sh -c "$1"'


class _Typed(Command):
    """A command that a person typed; its argv names only the shell."""

    def __str__(self) -> str:
        return "the command"


@contextmanager
def _host(target: Target) -> Iterator[SshHost]:
    wanted = ssh.required(target.ssh, target.environment)
    host = SshHost(Link(wanted, environment=target.environment))
    try:
        yield host
    finally:
        host.close()


def on_terminal() -> bool:
    """Return whether there is a person to talk to."""
    return is_terminal(sys.stdin) and is_terminal(sys.stdout)


def open_shell(target: Target) -> None:
    """Give the terminal to a login shell on the host until it ends, whatever its exit code."""
    if not on_terminal():
        way = typed.task("remote.run", "'COMMAND'")
        raise Refused(f"remote.shell needs a terminal, {way} needs none")
    with _host(target) as host:
        interactive.converse(host.link, None)


def run(target: Target, command: str) -> None:
    """Run a command in the home folder of the account, and pass its output on.

    Its stdin is empty. Raises Failed if its exit code is not 0.
    """
    with _host(target) as host:
        argv = ("/bin/sh", "-c", _AT_HOME, "sh", command)
        streamed(host, _Typed(argv), stdin=None)


def streamed(host: SshHost, command: Command, *, stdin: int | None) -> None:
    """Run a command with our own stdin and stdout, raising Failed if it fails."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    process = host.start(command, stdin=stdin, stdout=sys.stdout.fileno())
    try:
        talk = Worker(_passed, process)
        talk.start()
        code = process.wait()
        talk.wait(1)
    except BaseException:
        process.end(command.stop)
        raise
    if code == -signal.SIGPIPE:
        raise BrokenPipeError  # our reader has closed stdout, as with `| head`
    if code:
        raise process.failure("")


def _passed(process: RemoteProcess) -> None:
    """Pass the stderr of a command on."""
    assert process.stderr is not None
    while data := process.stderr.read1(_CHUNK):  # type: ignore[attr-defined]
        os.write(sys.stderr.fileno(), data)
