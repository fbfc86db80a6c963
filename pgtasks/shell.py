"""psql on the terminal, led to the target."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence

from pgtasks import commandline, reach, tools, typed
from pgtasks.errors import Failed, Refused, Unreachable
from pgtasks.host import HERE, Command
from pgtasks.target import Target
from pgtasks.tools import Toolset

_LOST = 2  # psql(1), "Exit Status": the connection went bad


def command(toolset: Toolset, target: Target, passfile: str, *, read_only: bool) -> Command:
    """Return psql with its user's psqlrc; it does not ask for a password, which we did."""
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


def refuse_words(argv: Sequence[str], task: str) -> None:
    """Refuse words behind `--`: psql's own flags would be left out without a word."""
    words = commandline.behind_dashes(argv)
    if not words:
        return
    sql = words[1] if words[0] in ("-c", "--command") and len(words) == 2 else "SELECT ..."
    raise Refused(
        f"{task} takes no flags of psql, found {shlex.join(words)!r}: pipe SQL into it, or "
        + typed.task("db.run", "--sql", shlex.quote(sql))
    )


def worth(target: Target) -> str:
    """Return what a read-only session is worth, for the person who gets it."""
    if target.reader and target.user == target.reader:
        return f"role {target.user!r} is what keeps it: SET can lift the read-only setting"
    return (
        "this is a belt against slips, no lock: SET can lift it, only a role that cannot write "
        f"(reader: ROLE in env/{target.environment}.yaml) is one"
    )


def open_shell(target: Target, *, read_only: bool) -> None:
    """Give the terminal to psql until it ends, raising Failed where it ends badly."""
    with HERE.passfile(target) as passfile:
        code = HERE.interact(command(psql(target), target, passfile, read_only=read_only))
    if code == _LOST:
        raise Unreachable(f"{target}: psql lost the connection")
    if code:
        raise Failed(f"psql ended with exit code {code}")
