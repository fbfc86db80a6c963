"""psql on the terminal, led to the target."""

from __future__ import annotations

import signal

from pgtasks import host, reach, tools
from pgtasks.errors import Failed, Unreachable
from pgtasks.host import Command
from pgtasks.target import Target
from pgtasks.tools import Toolset

_LOST = 2  # psql(1), "Exit Status": the connection went bad


def command(toolset: Toolset, target: Target, passfile: str, *, read_only: bool) -> Command:
    """Return psql with its user's psqlrc; it does not ask for a password, which we did."""
    argv = (toolset.tool("psql"), "--no-password")
    env = tools.environment(target, passfile, read_only=read_only)
    return Command(argv, env, stop=signal.SIGHUP)


def open_shell(target: Target, *, read_only: bool) -> None:
    """Give the terminal to psql until it ends, raising Failed where it ends badly."""
    here = host.for_target(target)
    toolset = tools.for_psql(
        tools.installed(here, setting=target.tools), reach.server_major(target), target
    )
    with here.passfile(target) as passfile:
        code = here.interact(command(toolset, target, passfile, read_only=read_only))
    if code == _LOST:
        raise Unreachable(f"{target}: psql lost the connection")
    if code:
        raise Failed(f"psql ended with exit code {code}")
