"""The server of a benchmark, with realistic settings; gone when its block ends."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from pgtasks.errors import Failed
from pgtasks.server.embedded import programs, temporary
from pgtasks.server.embedded.programs import Binaries
from pgtasks.server.embedded.temporary import SUPERUSER

# Said in the output: what a small server of one's own has, and nothing that a lost machine would
# take revenge for.
SETTINGS = {
    "fsync": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "100",
}
_SHARED = ("/tmp", "/var/tmp")  # nosec B108


@dataclass(frozen=True)
class Server:
    """A running server: its programs, its socket folder, its process."""

    bin: Path
    sockets: Path
    port: int
    version: str
    origin: str
    pid: int  # of its postmaster

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.sockets}&port={self.port}"

    def place(self) -> dict[str, str]:
        """Return the variables that lead the stock tools here."""
        return {"PGHOST": str(self.sockets), "PGPORT": str(self.port), "PGUSER": SUPERUSER}

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
    """Run a server for the length of a block, in a folder of its own that goes with it.

    Without `bin` it is the server that `server: embedded` would choose. As root it runs as an
    unprivileged account.
    """
    binaries = _binaries(bin)
    with temporary.running(binaries, settings=SETTINGS, within=_within()) as server:
        version = _version(binaries.bin)
        yield (
            Server(
                server.bin,
                Path(server.host),
                server.port,
                version,
                binaries.origin,
                server.process.pid,
            ),
            server.folder,
        )


def _within() -> str:
    """Return a folder in which no account can rename the files of others.

    Some machines have a /tmp that anybody may change: what a backup there holds gets no rights.
    """
    sticky = (each for each in _SHARED if Path(each).stat().st_mode & stat.S_ISVTX)
    return next(sticky, _SHARED[0])


def _binaries(bin: Path | None) -> Binaries:
    installed = programs.binaries()
    if bin is None:
        return programs.choose(installed, major=None)
    for binaries in installed:
        if binaries.bin.resolve() == bin.resolve():
            return binaries
    if not (bin / "initdb").exists():
        raise Failed(f"there is no PostgreSQL server in {str(bin)!r}")
    return Binaries(int(_version(bin).split(".")[0]), bin.resolve(), "given")


def _version(bin: Path) -> str:
    done = subprocess.run([bin / "postgres", "--version"], capture_output=True, text=True)
    return done.stdout.split()[2]
