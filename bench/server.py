"""A throw-away PostgreSQL server with realistic settings; gone when its block ends."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from pgtasks.errors import Failed
from pgtasks.server.embedded import account, programs
from pgtasks.server.embedded.programs import Binaries

USER = "postgres"
PORT = 5432
# Said in the output: what a small server of one's own has, and nothing that a lost machine would
# take revenge for.
SETTINGS = {
    "fsync": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "100",
}
_PATIENCE = 60.0  # seconds until a server that does not answer is a failure


@dataclass(frozen=True)
class Server:
    """A running server: its programs, its socket folder, its process."""

    bin: Path
    sockets: Path
    version: str
    origin: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Return the postmaster's process id."""
        return self.process.pid

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{USER}@/{database}?host={self.sockets}&port={PORT}"

    def place(self) -> dict[str, str]:
        """Return the variables that lead the stock tools here."""
        return {"PGHOST": str(self.sockets), "PGPORT": str(PORT), "PGUSER": USER}

    def connect(self, database: str = "postgres") -> Any:
        """Connect in autocommit; the caller closes."""
        connection = psycopg2.connect(self.url(database), connect_timeout=10)
        connection.autocommit = True
        return connection

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each for itself."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def value(self, query: str, database: str = "postgres") -> Any:
        """Return the first column of the first row."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchone()[0]
        finally:
            connection.close()

    def quiet(self) -> None:
        """Leave no work of one command to the next: no dirty buffer, nothing unwritten."""
        self.execute("CHECKPOINT")
        os.sync()


@contextmanager
def running(bin: Path | None = None) -> Iterator[tuple[Server, Path]]:
    """Make a server for the length of a block, in a folder of its own that goes with it.

    Without `bin` it is the server that `server: embedded` would choose. As root it runs as an
    unprivileged account.
    """
    found = _binaries(bin)
    room = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short: a socket lies in it
    room.chmod(0o755)
    try:
        server = _started(found, room)
        try:
            yield server, room
        finally:
            _stop(server)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _binaries(bin: Path | None) -> Binaries:
    found = programs.binaries()
    if bin is None:
        return programs.choose(found, major=None)
    for one in found:
        if one.bin.resolve() == bin.resolve():
            return one
    if not (bin / "initdb").exists():
        raise Failed(f"there is no PostgreSQL server in {str(bin)!r}")
    return Binaries(int(_version(bin).split(".")[0]), bin.resolve(), "given")


def _version(bin: Path) -> str:
    done = subprocess.run([bin / "postgres", "--version"], capture_output=True, text=True)
    return done.stdout.split()[2]


def _started(found: Binaries, room: Path) -> Server:
    home = account.for_server(room / "data")
    bin = found.bin
    if found.origin == "wheel" and not home.reaches(bin, bin / "postgres"):
        bin = programs.copy_of(found, room / "programs")
    for folder in (room / "data", room / "s"):
        folder.mkdir(mode=0o700)
        home.take(folder)
    environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_MESSAGES": "C"}
    argv = [str(bin / "initdb"), "-D", str(room / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
    argv += ["--locale=C.UTF-8", "--no-instructions"]
    done = subprocess.run(argv, cwd=room, env=environ, capture_output=True, **home.identity())
    if done.returncode:
        raise Failed("initdb failed", hint=done.stderr.decode(errors="replace"))
    options = {
        **SETTINGS,
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(room / "s"),
    }
    with (room / "log").open("wb") as log:
        process = subprocess.Popen(
            [bin / "postgres", "-D", room / "data", *(f"--{k}={v}" for k, v in options.items())],
            cwd=room,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the benchmark, which stops the server in order
            preexec_fn=end_with_parent(signal.SIGQUIT),
            **home.identity(),
        )
    server = Server(bin, room / "s", _version(found.bin), found.origin, process)
    try:
        _wait(server, room / "log")
    except BaseException:
        _stop(server)
        raise
    return server


def _wait(server: Server, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            server.connect().close()
            return
        except psycopg2.OperationalError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(encoding="utf-8", errors="replace")
                raise Failed("the server did not start", hint=words) from None
            time.sleep(0.05)


def _stop(server: Server) -> None:
    """Stop the server at once and for good: its data is worth nothing."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGQUIT)
    server.process.wait(_PATIENCE)


def end_with_parent(sign: signal.Signals) -> Callable[[], object] | None:
    """Return what ends a child whose benchmark was killed (prctl(2), Linux alone)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, sign)
