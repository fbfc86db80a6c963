"""End the commands of a run that was killed.

A shell reads the process groups of our commands from a pipe. The pipe ends when this process does,
however it ends, and the shell then signals the groups that are left. Unlike prctl(PR_SET_PDEATHSIG)
this needs no `preexec_fn`, which is unsafe in a process with threads, and a command may outlive the
thread that started it.
"""

from __future__ import annotations

import os
import signal
from functools import cache

# A line is the name of a signal and a group to watch, or "-" and a group that has ended.
_SCRIPT = """
cd /
groups=
while read -r name group; do
    kept=
    for each in $groups; do
        [ "${each#*:}" = "$group" ] || kept="$kept $each"
    done
    groups=$kept
    [ "$name" = - ] || groups="$groups $name:$group"
done
for each in $groups; do
    kill -s "${each%%:*}" -- "-${each#*:}" 2>/dev/null
    kill -s CONT -- "-${each#*:}" 2>/dev/null # a stopped process takes no other signal
done
"""


def watch(group: int, sign: signal.Signals) -> None:
    """Signal a process group when this process ends."""
    _tell(f"{sign.name.removeprefix('SIG')} {group}\n")


def forget(group: int) -> None:
    """Stop watching a process group that has ended, because its ID may be reused."""
    _tell(f"- {group}\n")


def _tell(line: str) -> None:
    try:
        os.write(_shell(os.getpid()), line.encode())
    except BrokenPipeError:
        pass  # the shell was killed: the next run cleans up


@cache
def _shell(pid: int) -> int:
    """Start the shell of this process, which a fork does not share, and return its pipe."""
    reader, writer = os.pipe()
    try:
        os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _SCRIPT],
            {"PATH": "/usr/bin:/bin"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reader, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,  # Ctrl-C must not reach it
        )
    finally:
        os.close(reader)
    return writer
