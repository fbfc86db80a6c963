"""Runs of `inv` that start no Python of their own: forks of a process that has all modules loaded.

To start Python and to import Invoke, Fabric and paramiko is most of the CPU time of a short run,
and the suite makes thousands of them. A fork is a process of its own all the same: it has its own
folder, variables, descriptors, session, terminal, signals and exit code. What depends on how a
Python starts (its command line, its encodings, what it has imported) is tested on real starts:
those that tests of cli/ make themselves, and one of whole/test_remote_every_task.py for each
collection of tasks.

`start` and `run` are for all programs, and fork where it is this environment's `inv`; what they
start is a `subprocess.Popen`. forking.py is the process that forks.
"""

from __future__ import annotations

import fcntl
import functools
import os
import select
import shlex
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asking
from paths import HOMES
from waiting import PATIENCE

INV = Path(sys.executable).parent / "inv"
_FORKING = Path(__file__).with_name("forking.py")
_AT_START = ("PYTHON", "LC_", "LANG", "LD_")  # variables that a Python or its loader reads first
_ROOM = 1024**2  # bytes for a request on its way: words and variables


def _possible() -> bool:
    """Return whether the kernel tells the end of a process by a descriptor (Linux 5.3)."""
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_AT_START)}


class Forked(subprocess.Popen[Any]):
    """A run of `inv`: a Popen, but that the process is a child of the one that forks.

    With `terminal`, its standard streams are a terminal that nobody controls yet.
    """

    def __init__(
        self, forks: Prefork, argv: Sequence[str | Path], *, terminal: bool = False, **options: Any
    ) -> None:
        self._forks, self._terminal = forks, terminal
        super().__init__([str(word) for word in argv], **options)

    def _execute_child(self, *given: Any) -> None:
        # in the order of subprocess: from Python 3.10 to 3.14 these are the same
        argv, cwd, env, pipes, new_session = given[0], given[5], given[6], given[10:16], given[21]
        request = {
            "argv": argv,
            "cwd": str(cwd or Path.cwd()),
            "env": {**(os.environ if env is None else env)},
            "session": new_session or self._terminal,
            "umask": asking.umask(),
            "terminal": self._terminal,
        }
        ours = (pipes[0], pipes[3], pipes[5])
        streams = [number if end == -1 else end for number, end in enumerate(ours)]
        self._answer = self._forks.ask(request, streams)
        self.pid = self._forks.told(self._answer)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if flags == os.WNOHANG and not select.select([self._answer], [], [], 0)[0]:
            return 0, 0
        status = self._forks.told(self._answer)
        self._answer.close()
        return self.pid, status

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid and self.returncode is None:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


class Prefork:
    """The process that forks; its forks run `inv`."""

    def __init__(self) -> None:
        """Start it; modules are loaded while the tests go on."""
        self._start = _at_start(os.environ)
        self.socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, _FORKING, str(theirs.fileno()), HOMES],
                # pipes, as those of the forks: Python's streams know what they were opened on
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )

    def like(self, environ: Mapping[str, str]) -> bool:
        """Return whether a Python that starts with these variables starts as this one did."""
        return _at_start(environ) == self._start

    def ask(self, request: dict[str, Any], streams: Sequence[int]) -> Any:
        """Ask for a fork; return what tells its pid and its end."""
        return asking.ask(self.socket, request, streams)

    def told(self, answer: Any) -> int:
        """Return the next number that is told."""
        try:
            return asking.told(answer)
        except EOFError:  # it could not load modules
            raise AssertionError(self._process.communicate()[1].decode()) from None

    def close(self) -> None:
        """End the process that forks."""
        self.socket.close()
        self._process.communicate(timeout=PATIENCE)


@functools.cache
def forks() -> Prefork | None:
    """Return the process that forks, started when first asked for; None where there can be none."""
    return Prefork() if _possible() else None


def start(
    argv: Sequence[str | Path], *, terminal: bool = False, **options: Any
) -> subprocess.Popen[Any]:
    """Start a program as subprocess.Popen does, and leave it running.

    With `terminal`, its stdin is a terminal that nobody controls yet, and that it controls then.
    """
    known = forks() if Path(argv[0]) == INV else None
    if known and known.like(os.environ if options.get("env") is None else options["env"]):
        return Forked(known, argv, terminal=terminal, **options)
    if terminal:
        options |= {"start_new_session": True, "preexec_fn": _control}
    return subprocess.Popen([str(word) for word in argv], **options)


def _control() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def run(
    argv: Sequence[str | Path], *, input: str, seconds: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as subprocess.run does with captured output."""
    text = {"text": True, "encoding": "utf-8", "errors": "surrogateescape"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start(argv, **text, **pipes, **options) as process:
        try:
            said = process.communicate(input, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def shell(folder: Path) -> dict[str, Any]:
    """Return options of a Popen for a shell whose `inv` is a fork, by a program in a folder."""
    known = forks()
    env = {**os.environ, "PATH": os.pathsep.join([str(INV.parent), os.environ["PATH"]])}
    if known is None:
        return {"env": env}
    words = shlex.join([sys.executable, "-IS", asking.__file__, str(INV)])
    program = folder / INV.name
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    descriptor = known.socket.fileno()
    env |= {"PATH": os.pathsep.join([str(folder), env["PATH"]]), asking.FORKS: str(descriptor)}
    return {"env": env, "pass_fds": [descriptor]}


def close() -> None:
    """End the process that forks, if there is one."""
    if forks.cache_info().currsize and (known := forks()):
        known.close()
    forks.cache_clear()
