"""Runs of `inv` that start no Python of their own: forks of a process that has all modules loaded.

To start Python and to import Invoke, Fabric and paramiko is most of the CPU time of a short run,
and the suite makes more than a thousand of them. A fork is a process of its own all the same: it
has its own folder, variables, descriptors, signals and exit code. What depends on how a Python
starts (its command line, its encodings, what it has imported) is tested on real starts: those of
`start_inv`, terminal.py and watching.py, and the first of each test of
whole/test_remote_every_task.py.

This file is both sides: `Prefork` asks; run as a program, it is what forks.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_AT_START = ("PYTHON", "LC_", "LANG", "LD_")  # variables that a Python or its loader reads first
_PACKAGES = ("pgtasks", "invoke", "fabric", "paramiko", "sqlalchemy", "alembic", "postgast", "rich")
_LENGTH = struct.Struct("!I")
_GONE = 10.0  # seconds until the process that forks must have ended


def possible() -> bool:
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


class Prefork:
    """The process that forks; its forks run `inv`."""

    def __init__(self, inv: Path) -> None:
        """Start it; modules are loaded while the tests go on."""
        self._inv, self._start = inv, _at_start(os.environ)
        self._socket, theirs = socket.socketpair()
        self._turn = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                # pipes, as those of the forks: Python's streams know what they were opened on
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )

    def like(self, environ: Mapping[str, str]) -> bool:
        """Return whether a Python that starts with these variables starts as this one did."""
        return _at_start(environ) == self._start

    def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        input: str,
        seconds: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run `inv` to its end, as subprocess.run does with captured output."""
        argv = [str(self._inv), *args]
        answer, (stdin, stdout, stderr) = self._asked(argv, cwd=cwd, env=env)
        with answer:
            said: dict[int, bytes] = {}
            threads = [
                threading.Thread(
                    target=_write, args=(stdin, input.encode("utf-8", "surrogateescape"))
                ),
                *(threading.Thread(target=_read, args=(fd, said)) for fd in (stdout, stderr)),
            ]
            for thread in threads:
                thread.start()
            code = self._wait(answer, argv, seconds)
            for thread in threads:
                thread.join(seconds)
                if thread.is_alive():
                    raise subprocess.TimeoutExpired(argv, seconds)
        texts = [_text(said[fd]) for fd in (stdout, stderr)]
        return subprocess.CompletedProcess(argv, code, *texts)

    def start(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Fork:
        """Start `inv` as the leader of a session, without input, and return it."""
        argv = [str(self._inv), *args]
        answer, (stdin, stdout, stderr) = self._asked(argv, cwd=cwd, env=env, leads=True)
        os.close(stdin)
        return Fork(argv, answer, stdout, stderr)

    def _asked(
        self, argv: list[str], *, cwd: Path, env: Mapping[str, str], leads: bool = False
    ) -> tuple[socket.socket, tuple[int, int, int]]:
        """Ask for a fork; return where its end is told, and our ends of its streams."""
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        answer, theirs = socket.socketpair()
        given = [stdin[0], stdout[1], stderr[1], theirs.detach()]
        try:
            self._ask({"argv": argv, "cwd": str(cwd), "env": dict(env), "leads": leads}, given)
        finally:
            for descriptor in given:
                os.close(descriptor)
        return answer, (stdin[1], stdout[0], stderr[0])

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> None:
        body = json.dumps(request).encode()
        with self._turn:
            socket.send_fds(self._socket, [_LENGTH.pack(len(body))], descriptors)
            self._socket.sendall(body)

    def _wait(self, answer: socket.socket, argv: list[str], seconds: float) -> int:
        """Return the exit code; end a run that takes longer."""
        with answer.makefile("r") as lines:
            started = lines.readline()
            assert started, self._process.communicate()[1].decode()  # it could not load modules
            pid = int(started)
            answer.settimeout(seconds)
            try:
                return int(lines.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(argv, seconds) from None

    def close(self) -> None:
        """End the process that forks."""
        self._socket.close()
        self._process.communicate(timeout=_GONE)


class Fork:
    """A run of `inv` that was started: what tests use of subprocess.Popen."""

    def __init__(self, argv: list[str], answer: socket.socket, stdout: int, stderr: int) -> None:
        """Wait until it is there."""
        self.args, self._answer = argv, answer
        self.pid = int(self._line())
        self.returncode: int | None = None
        self.stdout = os.fdopen(stdout, encoding="utf-8", errors="surrogateescape")
        self.stderr = os.fdopen(stderr, encoding="utf-8", errors="surrogateescape")

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended."""
        if self.returncode is None:
            if not select.select([self._answer], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
        return self.returncode

    def _line(self) -> bytes:
        """Read one line and nothing of the next, so that `select` knows of that."""
        line = b""
        while not line.endswith(b"\n") and (byte := self._answer.recv(1)):
            line += byte
        return line

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it says until its end, and that of all that has its streams."""
        if self.stdout.closed:
            return "", ""
        said: dict[str, str] = {}
        streams = {"stdout": self.stdout, "stderr": self.stderr}
        threads = [
            threading.Thread(target=lambda name=name: said.update({name: streams[name].read()}))
            for name in streams
        ]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join(timeout)
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.close()
        return said["stdout"], said["stderr"]

    def close(self) -> None:
        """Close our ends."""
        for each in (self._answer, self.stdout, self.stderr):
            each.close()


def _write(descriptor: int, content: bytes) -> None:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(content)
    except BrokenPipeError:
        pass  # it ended without reading


def _read(descriptor: int, said: dict[int, bytes]) -> None:
    with os.fdopen(descriptor, "rb") as pipe:
        said[descriptor] = pipe.read()


def _text(content: bytes) -> str:
    # as text=True of subprocess reads it
    return content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


# what runs as a program


class _Ends:
    """The runs that have not ended: their processes, and where the exit code is awaited."""

    def __init__(self, requests: socket.socket) -> None:
        self.requests = requests
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ)

    def add(self, pid: int, answer: int) -> None:
        os.write(answer, f"{pid}\n".encode())
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))

    def ended(self, key: selectors.SelectorKey) -> None:
        pid, answer = key.data
        self.selector.unregister(key.fileobj)
        os.close(key.fd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            os.write(answer, f"{code}\n".encode())
        except BrokenPipeError:
            pass  # who asked has given up
        os.close(answer)

    def forget(self) -> None:
        """Close, in a fork, what is the business of the process that forks."""
        for key in list(self.selector.get_map().values()):
            os.close(key.fd)
            if key.data:
                os.close(key.data[1])
        self.selector.close()


def _requested(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(requests, _LENGTH.size, 4)
    if not head:
        return None
    (length,), body = _LENGTH.unpack(head), b""
    while len(body) < length:
        body += requests.recv(length - len(body))
    return json.loads(body), descriptors


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make a fork what a new process would be."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["leads"]:
        os.setsid()  # a signal to its group reaches all that a terminal's would


def _forks(requests: socket.socket) -> None:
    """Fork for each request; return in the forks. The process itself ends here."""
    ends = _Ends(requests)
    while True:
        for key, _ in ends.selector.select():
            if key.data:
                ends.ended(key)
                continue
            asked = _requested(requests)
            if asked is None:
                os._exit(0)
            request, descriptors = asked
            if (pid := os.fork()) == 0:
                ends.forget()
                return _become(request, descriptors)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            ends.add(pid, descriptors[3])


def _load() -> None:
    for package in _PACKAGES:
        module = importlib.import_module(package)
        if package == "pgtasks":
            for each in pkgutil.walk_packages(module.__path__, f"{package}."):
                if not each.name.endswith("__main__"):
                    importlib.import_module(each.name)


class _Exit:
    """Ends a fork after its last line, before Python takes all modules apart.

    To free what the forks share would copy every page of it: more time than most runs take.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)  # the first to be registered is the last to be called

    def run(self) -> None:
        """Run `inv`, its arguments in sys.argv."""
        from invoke.main import program

        try:
            program.run()
            self.code = 0
        except SystemExit as exc:
            self.code = exc.code or 0 if isinstance(exc.code, int | None) else None
            raise

    def _leave(self) -> None:
        if self.code is not None:  # else the end is one that Python itself knows how to tell
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def _main(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes
    sys.path.pop(0)  # this folder: a project's module may have the name of one of these
    at_end = _Exit()
    _load()
    gc.collect()
    gc.freeze()  # so that forks share the pages of what is loaded
    _forks(socket.socket(fileno=descriptor))
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    at_end.run()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
