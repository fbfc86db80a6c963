"""Run psql on the terminal, on this machine or on the database host."""

from __future__ import annotations

import signal
import sys

from pgtasks.errors import Failed, Unreachable
from pgtasks.host import tools
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.host.tools import Toolset
from pgtasks.server import reach
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

_LOST = 2  # psql(1), "Exit Status": the connection was lost


def command(toolset: Toolset, target: Target, passfile: str, *, read_only: bool) -> Command:
    """Return the command of psql, with psqlrc, without a password prompt."""
    argv = (toolset.tool("psql"), "--no-password")
    env = tools.environment(target.here(), passfile, read_only=read_only)
    return Command(argv, env, stop=signal.SIGHUP)


def psql(target: Target) -> Toolset:
    """Return the tools on this machine whose psql fits the target's server.

    psql works here, over SSH too: the files, \\i, \\copy and the psqlrc that people mean are
    those of this machine, and what it says goes through the tunnel.
    """
    place = target.here()
    return tools.for_psql(tools.available(HERE, target), reach.server_major(target), place)


def worth(target: Target) -> str:
    """Return the note on how far a read-only session is protected."""
    if target.reader and target.user == target.reader:
        return f"the rights of role {target.user!r} protect it: SET can lift the read-only setting"
    return (
        "this only prevents accidents, SET can lift it: only a role that cannot write "
        f"(reader: ROLE in env/{target.environment}.yaml) is safe"
    )


def open_shell(target: Target, *, read_only: bool) -> None:
    """Give the terminal to psql until it ends, raising Failed if it fails."""
    with HERE.passfile(target) as passfile:
        code = HERE.interact(command(psql(target), target, passfile, read_only=read_only))
    if code == _LOST:
        raise Unreachable(f"{target}: psql lost the connection")
    if code:
        raise Failed(f"psql ended with exit code {code}")


def open_there(reached: Reached, *, read_only: bool) -> None:
    """Run psql on the target's host, on a terminal if there is one."""
    from pgtasks.host.ssh import terminal
    from pgtasks.host.ssh.host import SshHost

    target, host = reached.target, reached.host
    assert isinstance(host, SshHost)
    toolsets = tools.available(host, target)
    chosen = tools.for_psql(toolsets, reach.server_major(target), target)
    with host.passfile(target) as passfile:
        env = tools.environment(reached.there, passfile, read_only=read_only)
        command = Command((chosen.tool("psql"), "--no-password"), env, stop=signal.SIGHUP)
        if not terminal.on_terminal():
            terminal.streamed(host, command, stdin=sys.stdin.fileno())
            return
        code = host.interact(command)
        if code:
            kind = Unreachable if code == _LOST else Failed
            raise kind(f"psql on {host.name} ended with exit code {code}")
