"""Database hosts for the tests of remote runs: sshd and PostgreSQL on machines of their own.

db1     a database host that this machine reaches
jump    a machine without a database that this machine reaches
db2     a database host that only `jump` reaches

Each has an account `deploy` (SSH, and the role that may create databases) and `postgres`, as whom
`deploy` may run everything with sudo. The servers listen on /var/run/postgresql alone and trust
the account of whoever connects (peer). Backups may lie in /srv/backups.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import machines
import pytest
import servers
from machines import Machine, Process, Site, until
from servers import Cluster

USER = "deploy"
SOCKETS = "/var/run/postgresql"
BACKUPS = "/srv/backups"
_SERVER = "postgres"
_SSHD = {
    "Port": "22",
    "HostKey": "/etc/ssh/host_key",
    "AuthorizedKeysFile": "/etc/ssh/authorized_keys .ssh/authorized_keys",
    "UsePAM": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitRootLogin": "no",
    "PidFile": "none",
    "PrintMotd": "no",
    "AcceptEnv": "LANG LC_*",
    "Subsystem": "sftp internal-sftp",
    "LogLevel": "VERBOSE",
}
# what a server runs for itself; sessions of clients and their workers are not among it
_OWN = re.compile(
    r"postgres: (checkpointer|background writer|walwriter|autovacuum (launcher|worker)"
    r"|logical replication launcher|archiver|stats collector|startup|io worker)\b"
)


_H = TypeVar("_H", bound="Host")


@dataclass
class Host:
    """A machine with an sshd. `user` may log in with `identity`; `known_hosts` knows its key."""

    machine: Machine
    identity: Path
    known_hosts: Path
    user: str = USER
    port: int = 22
    jump: Host | None = None
    _sshd: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Return what the machine calls itself."""
        return self.machine.name

    @property
    def address(self) -> str:
        """Return its address on its first link."""
        return self.machine.address

    def place(self, **more: Any) -> dict[str, Any]:
        """Return the `ssh` block of an environment."""
        block: dict[str, Any] = {"host": self.address, "port": self.port, "user": self.user}
        block |= {"identity": str(self.identity), "known_hosts": str(self.known_hosts)}
        if self.jump:
            block["jump"] = f"{self.jump.user}@{self.jump.address}:{self.jump.port}"
        return block | more

    def ssh(self, *command: str, **options: str) -> list[str]:
        """Return the command line of the OpenSSH client that runs a command there."""
        config = self.machine.folder / "ssh_config"
        blocks = [(self, self.name)] + ([(self.jump, self.jump.name)] if self.jump else [])
        config.write_text("\n".join(host._block(alias) for host, alias in blocks))
        given = [f"-o{name}={value}" for name, value in options.items()]
        return ["ssh", "-F", str(config), *given, self.name, *command]

    def _block(self, alias: str) -> str:
        lines = [f"Host {alias}", f"HostName {self.address}", f"Port {self.port}"]
        lines += [f"User {self.user}", f"IdentityFile {self.identity}", "IdentitiesOnly yes"]
        lines += [f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile none"]
        lines += ["BatchMode yes", "StrictHostKeyChecking yes"]
        return "\n".join([*lines, *([f"ProxyJump {self.jump.name}"] if self.jump else [])])

    def run(
        self, *argv: str | Path, user: str = "root", input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, not over SSH, to its end."""
        return self.machine.run(*argv, user=user, input=input)

    def do(self, *argv: str | Path, user: str = "root", input: str | None = None) -> str:
        """Run a command there that must succeed and return its output."""
        return self.machine.do(*argv, user=user, input=input)

    def path(self, path: str | Path) -> Path:
        """Return the path by which this machine sees a file of that one (symlinks aside)."""
        return self.machine.path(path)

    def processes(self) -> list[Process]:
        """Return what runs there beside the sshd that listens and the server's own processes."""
        kept = self._own()
        return [each for each in self.machine.everything() if each.outside not in kept]

    def _own(self) -> set[int]:
        return {
            each.outside
            for each in self.machine.everything()
            if self._sshd and each.parent == self._sshd.pid
        }

    def cut(self) -> ExitStack:
        """Let all packets from and to the machine vanish, until `restore` or the block's end."""
        for link in self.machine.links:
            link.cut()
        return _until_left(self.restore)

    def restore(self) -> None:
        """Let packets through again."""
        for link in self.machine.links:
            link.restore()

    def renew_key(self, *, known: bool = True) -> None:
        """Give the machine another host key, for the next start of its sshd."""
        public = _keygen(self.machine.folder / "host_key")
        key = self.path("/etc/ssh/host_key")
        key.unlink(missing_ok=True)
        shutil.copy(self.machine.folder / "host_key", key)
        if known:
            lines = self.known_hosts.read_text().splitlines()
            others = [line for line in lines if not line.startswith(f"{self.address} ")]
            line = f"{self.address} {' '.join(public.split()[:2])}"
            self.known_hosts.write_text("\n".join([*others, line]) + "\n")

    def start_sshd(self, **config: str) -> None:
        """Start the sshd, with these lines of sshd_config above the usual ones."""
        lines = [f"{key} {value}\n" for key, value in {**_SSHD, **config}.items()]
        self.path("/etc/ssh/sshd_config").write_text("".join(lines))
        log = self.machine.folder / "sshd.log"
        log.write_bytes(b"")
        self._sshd = self.machine.start("/usr/sbin/sshd", "-D", "-e", log=log)
        until(
            lambda: "Server listening" in log.read_text() or self._sshd.poll() is not None,
            f"sshd does not listen: {log.read_text()}",
        )
        assert self._sshd.poll() is None, log.read_text()

    def stop_sshd(self) -> ExitStack:
        """Kill the sshd and its sessions, not what these started; a block's end starts it anew."""
        for each in self.machine.everything():
            if re.match(r"(/usr/sbin/sshd|sshd:) ", each.command):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.outside, signal.SIGKILL)
        if self._sshd:
            self._sshd.wait(machines.PATIENCE)
        self._sshd = None
        return _until_left(self.start_sshd)


@dataclass
class DatabaseHost(Host):
    """A host with a PostgreSQL server; `cluster` is the server as this machine reaches it."""

    cluster: Cluster = field(kw_only=True)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return an environment's settings that lead here; `ssh={...}` changes parts of that."""
        ssh = self.place(**more.pop("ssh", {}))
        return {"ssh": ssh, "host": SOCKETS, "port": 5432, "user": self.user, **more}

    def _own(self) -> set[int]:
        everything = self.machine.everything()
        server = {each.outside for each in everything if each.parent == self.cluster.process.pid}
        own = {
            each.outside
            for each in everything
            if each.parent in server and _OWN.match(each.command)
        }
        return super()._own() | server | own


class Network:
    """The hosts of a test session, made when they are first asked for."""

    def __init__(self) -> None:
        self.site = Site()
        self.hosts: dict[str, Host] = {}
        self.identity = self.site.folder / "id_ed25519"
        self.known_hosts = self.site.folder / "known_hosts"
        _keygen(self.identity)
        self.known_hosts.touch()

    def __getitem__(self, name: str) -> Host:
        """Return one of db1, jump, db2."""
        if name not in self.hosts:
            {"db1": self.database, "jump": self.plain, "db2": self._behind}[name](name)
        return self.hosts[name]

    def _behind(self, name: str) -> Host:
        return self.database(name, jump=self["jump"])

    def plain(self, name: str) -> Host:
        """Make a host without a database."""
        machine = Machine.booted(self.site, name, {})
        return self._listening(Host(self._furnished(machine), self.identity, self.known_hosts))

    def database(
        self,
        name: str,
        *,
        jump: Host | None = None,
        bin: Path | None = None,
        settings: dict[str, str] | None = None,
        hba: str = "",
    ) -> DatabaseHost:
        """Make a database host; `hba` are lines of pg_hba.conf above the one for peers."""
        binds, inner = _programs(bin or _newest_bin())
        sockets = self.site.folder / f"{name}.s"
        sockets.mkdir()
        machine = Machine.booted(self.site, name, {**binds, sockets: "/run/postgresql"})
        self._furnished(machine, jump)
        shutil.chown(sockets, _SERVER)
        cluster = _served(machine, sockets, inner, settings or {}, hba)
        cluster.bin = bin or inner
        host = DatabaseHost(machine, self.identity, self.known_hosts, jump=jump, cluster=cluster)
        return self._listening(host)

    def _furnished(self, machine: Machine, jump: Host | None = None) -> Machine:
        machine.wait()
        machine.connect(jump.machine if jump else None)
        path = machine.path
        path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{machine.address} {machine.name}\n")
        kept = [line for line in path("/etc/passwd").read_text().splitlines() if _of_system(line)]
        path("/etc/passwd").write_text("\n".join(kept) + "\n")
        if _SERVER not in machine.accounts().values():
            add_account(machine, _SERVER, home="/var/lib/postgresql")
        add_account(machine, USER)
        machine.do("install", "-d", "-o", USER, "-g", USER, "-m", "700", BACKUPS)
        sudoers = path("/etc/sudoers")
        sudoers.unlink(missing_ok=True)
        sudoers.write_text(f"root ALL=(ALL:ALL) ALL\n{USER} ALL=({_SERVER}) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
        machine.do("sh", "-c", "rm -rf /etc/ssh && mkdir /etc/ssh")
        shutil.copy(self.identity.with_suffix(".pub"), path("/etc/ssh/authorized_keys"))
        return machine

    def _listening(self, host: _H) -> _H:
        host.renew_key()
        host.start_sshd()
        self.hosts[host.name] = host
        return host

    def close(self) -> None:
        """End all hosts."""
        self.site.close()


def _keygen(path: Path) -> str:
    """Make a key and return its public half."""
    path.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(path.name + ".pub").read_text()


def _newest_bin() -> Path:
    found = {major: bin for major, bin in servers.system_bins().items() if 14 <= major <= 18}
    return found[max(found)] if found else servers.wheel_bin(16)


def _programs(bin: Path) -> tuple[dict[Path, str], Path]:
    """Return what a machine must see for these programs, and their folder there."""
    if bin.is_relative_to("/usr"):
        return {}, bin
    package = bin.parent.parent
    binds = {package: "/opt/server"}
    for libraries in package.parent.glob(f"{package.name}.libs"):
        binds[libraries] = f"/opt/{package.name}.libs"  # their rpath: ../../NAME.libs
    return binds, Path("/opt/server", *bin.parts[-2:])


def _of_system(line: str) -> bool:
    number = int(line.split(":")[2])
    return number < 1000 or number == 65534


def add_account(machine: Machine, name: str, *, shell: str = "/bin/sh", home: str = "") -> None:
    """Make an account with a home folder and no password on a machine."""
    number = max([2000, *(uid for uid in machine.accounts() if uid < 60000)]) + 1
    home = home or f"/home/{name}"
    for file, line in {
        "passwd": f"{name}:x:{number}:{number}::{home}:{shell}",
        "group": f"{name}:x:{number}:",
        "shadow": f"{name}:*:19000:0:99999:7:::",
    }.items():
        with machine.path(f"/etc/{file}").open("a") as out:
            out.write(line + "\n")
    machine.do("install", "-d", "-o", name, "-g", name, "-m", "755", home)


def _served(
    machine: Machine, sockets: Path, bin: Path, settings: dict[str, str], hba: str
) -> Cluster:
    data = "/var/lib/postgresql/data"
    machine.do("install", "-d", "-o", _SERVER, "-m", "700", data)
    initdb = [bin / "initdb", "-D", data, "-U", servers.SUPERUSER, "-E", "UTF8", "-A", "peer"]
    machine.do(*initdb, "--locale=C.UTF-8", "--no-sync", "--no-instructions", user=_SERVER)
    machine.path(f"{data}/pg_hba.conf").write_text(f"{hba}\nlocal all all peer map=host\n")
    # root is who runs the tests, on this machine
    mapped = [f"root {role}" for role in (servers.SUPERUSER, USER)] + [r"/^(.*)$ \1"]
    machine.path(f"{data}/pg_ident.conf").write_text("".join(f"host {line}\n" for line in mapped))
    options = {**servers.SPEED, "max_wal_size": "256MB", "listen_addresses": ""}
    options |= {"unix_socket_directories": SOCKETS, "cluster_name": "", **settings}
    log = machine.folder / "log"
    process = machine.start(
        *(bin / "postgres", "-D", data, *(f"--{key}={value}" for key, value in options.items())),
        log=log,
        user=_SERVER,
    )
    cluster = Cluster(
        host=str(sockets),
        port=5432,
        superuser=servers.SUPERUSER,
        major=int(machine.do(bin / "postgres", "--version").split()[2].split(".")[0]),
        bin=bin,
        folder=machine.folder,
        process=process,
    )
    servers.wait_for(cluster)
    cluster.execute(f"CREATE ROLE {USER} LOGIN CREATEDB")
    return cluster


def _until_left(undo: Callable[[], object]) -> ExitStack:
    """Return what undoes a change when a block ends; without a block nothing is undone."""
    stack = ExitStack()
    stack.callback(undo)
    return stack


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Return what makes hosts, where machines of their own can be made."""
    if reason := machines.missing():
        pytest.skip(reason)
    made = Network()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def db1(network: Network) -> DatabaseHost:
    """A database host that this machine reaches."""
    return network["db1"]


@pytest.fixture(scope="session")
def jump(network: Network) -> Host:
    """A host without a database, between this machine and db2."""
    return network["jump"]


@pytest.fixture(scope="session")
def db2(network: Network) -> DatabaseHost:
    """A database host that only `jump` reaches."""
    return network["db2"]
