"""Ask the process that forks for a run of `inv`; as a program, be that run for a shell.

A program that only asks starts in a hundredth of a second: it imports next to nothing.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys
from collections.abc import Sequence
from typing import Any

FORKS = "TESTS_FORKS"  # the variable that has the descriptor of the socket to ask on


def ask(forks: Any, request: dict[str, Any], streams: Sequence[int]) -> Any:
    """Ask for a run on these standard streams; return the socket that tells its pid and its end."""
    answer, theirs = _socket.socketpair()
    given = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (*streams, theirs.fileno()))
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, given)
    try:
        forks.sendmsg([marshal.dumps(request)], [rights])
    finally:
        theirs.close()
    return answer


def umask() -> int:
    """Return the umask of this process, which a run inherits; only Linux tells it by a look."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))


def told(answer: Any) -> int:
    """Return the next number that is told, raising EOFError if there is none."""
    text = b""
    while not text.endswith(b"\n"):
        more = answer.recv(1)
        if not more:
            raise EOFError
        text += more
    return int(text)


def _main() -> None:
    forks = _socket.socket(fileno=int(os.environ.pop(FORKS)))
    request = {"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}  # noqa: PTH109
    request["umask"] = umask()
    answer = ask(forks, request, (0, 1, 2))
    told(answer)
    code = os.waitstatus_to_exitcode(told(answer))
    os._exit(code if code >= 0 else 128 - code)  # as the shell tells of a signal


if __name__ == "__main__":
    _main()
