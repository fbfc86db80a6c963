"""A throw-away server: made for the length of a block, gone with all its data when that ends.

For tests, benchmarks and trials. It ends with the process that made it, however that ends; the
folder of a killed process is removed by the next run, see host/tempfiles.py.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from pgtasks.errors import Failed
from pgtasks.host import orphans, tempfiles
from pgtasks.server.embedded import account, datadir, programs
from pgtasks.server.embedded.account import Account
from pgtasks.server.embedded.port import free_port
from pgtasks.server.embedded.programs import Binaries
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

SUPERUSER = datadir.SUPERUSER
# Nothing in it survives a lost machine, so nothing waits for a disk.
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SHORT = "/tmp"  # nosec B108  a folder whose path leaves room for that of a socket
_PORT = 5432  # in the socket's name
_PATIENCE = 60.0  # seconds until a server that does not answer is a failure


@dataclass(frozen=True)
class TemporaryServer:
    """A running server, its programs and its folder; `host` is the folder of its socket."""

    bin: Path
    major: int
    folder: Path
    host: str
    port: int
    process: subprocess.Popen[bytes]
    password: str = ""  # the superuser's, where the server asks for one
    tcp_port: int = 0  # on 127.0.0.1, where the server listens there
    superuser: str = SUPERUSER

    def target(self, database: str = "postgres", *, environment: str = "dev") -> Target:
        """Return the target of one of its databases, as the superuser."""
        password = Secret(self.password) if self.password else None
        return Target(
            environment=environment,
            host=self.host,
            port=self.port,
            database=database,
            user=self.superuser,
            password=password,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one of its databases, with its password if there is one."""
        return self.target(database).url(reveal=True)

    def stop(self) -> None:
        """End its clients, stop it, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast"
        self.process.wait(_PATIENCE)
        orphans.forget(self.process.pid)


@contextmanager
def running(
    binaries: Binaries,
    *,
    settings: Mapping[str, str] = VOLATILE,
    password: str = "",
    tcp: bool = False,
    encoding: str = "UTF8",
    locale: str = "C.UTF-8",
    standby_of: TemporaryServer | None = None,
    shared: bool = False,
    superuser: str = SUPERUSER,
    within: str = SHORT,
) -> Iterator[TemporaryServer]:
    """Run a server for the length of a block; as root, by an unprivileged account.

    With a password the server asks everybody for it (scram-sha-256), and listens on 127.0.0.1 too,
    as it does with `tcp`. Without one, whoever can connect is a superuser: other accounts can with
    `tcp`, or with `shared`, which opens the folder of the socket to them. That is below `within`,
    whose path must be short: a socket's has about 100 bytes. Raises Failed with the log of a server
    that does not start.
    """
    folder = tempfiles.folder(within=within)
    try:
        folder.chmod(0o755)
        owner = account.for_server(folder / "data")
        bin = _reachable(binaries, folder, owner)
        _make_folder(folder / "data", owner, mode=0o700)
        _make_folder(folder / "s", owner, mode=0o777 if shared else 0o700)
        if standby_of:
            _copy(standby_of, folder / "data", owner)
        else:
            _initdb(bin, folder / "data", owner, encoding, locale, password, superuser)
        server = _start(bin, folder, owner, binaries.major, settings, password, tcp, superuser)
        try:
            _wait(server)
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable(binaries: Binaries, folder: Path, owner: Account) -> Path:
    """Return the programs' folder, that of a copy where the server's account cannot enter it."""
    if owner.reaches(binaries.bin, binaries.bin / "postgres"):
        return binaries.bin
    return programs.copy_of(binaries, folder / "programs")


def _make_folder(path: Path, owner: Account, *, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    owner.take(path)


def _initdb(
    bin: Path,
    data: Path,
    owner: Account,
    encoding: str,
    locale: str,
    password: str,
    superuser: str,
) -> None:
    argv = [str(bin / "initdb"), "-D", str(data), "-U", superuser, "-E", encoding]
    argv += [f"--locale={locale}", "--no-sync", "--no-instructions"]
    secret = data.parent / "password"
    if password:
        secret.touch(0o600)
        owner.take(secret)
        secret.write_text(password, encoding="utf-8")
        argv.append(f"--pwfile={secret}")
    argv.append(f"--auth={'scram-sha-256' if password else 'trust'}")
    _run(argv, data.parent, owner)
    secret.unlink(missing_ok=True)


def _copy(primary: TemporaryServer, data: Path, owner: Account) -> None:
    """Make the data folder of a hot standby."""
    argv = [str(primary.bin / "pg_basebackup"), "-D", str(data), "-R", "-X", "stream", "-c", "fast"]
    argv += ["-h", primary.host, "-p", str(primary.port), "-U", primary.superuser, "--no-sync"]
    _run(argv, data.parent, owner)


def _run(argv: list[str], folder: Path, owner: Account) -> None:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=datadir.environment(Path(argv[0]).parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        **owner.identity(),
    )
    if done.returncode:
        stderr = done.stderr.decode(errors="replace")
        raise Failed(f"{argv[0]!r} failed: {datadir.complaint(stderr)}", hint=stderr.strip())


def _start(
    bin: Path,
    folder: Path,
    owner: Account,
    major: int,
    settings: Mapping[str, str],
    password: str,
    tcp: bool,
    superuser: str,
) -> TemporaryServer:
    tcp_port = free_port() if tcp or password else 0
    options = {
        "listen_addresses": "127.0.0.1" if tcp_port else "",
        "port": str(tcp_port or _PORT),
        "unix_socket_directories": str(folder / "s"),
        **settings,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(bin / "postgres"), "-D", str(folder / "data"), *_options(options)],
            cwd=folder,
            env=datadir.environment(bin),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process, which stops it in order
            **owner.identity(),
        )
    orphans.watch(process.pid, signal.SIGQUIT)
    return TemporaryServer(
        bin=bin,
        major=major,
        folder=folder,
        host=str(folder / "s"),
        port=tcp_port or _PORT,
        process=process,
        password=password,
        tcp_port=tcp_port,
        superuser=superuser,
    )


def _options(options: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _wait(server: TemporaryServer) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return psycopg2.connect(server.url()).close()
        except psycopg2.OperationalError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                log = (server.folder / "log").read_text("utf-8", errors="replace")
                raise Failed(
                    f"the server did not start: {datadir.complaint(log)}", hint=log
                ) from None
            time.sleep(0.02)
