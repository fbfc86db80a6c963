"""Database hosts as tests of remote runs see them; network.py makes them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import servers
from accounts import add_account, write_greeting
from loopback import Loopback
from machines import PATH, Machine, Process
from psycopg2 import sql
from servers import Cluster
from waiting import PATIENCE, until

_SSHD = {
    "Port": "22",
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
_SERVER_OWN = re.compile(
    r"postgres: (checkpointer|background writer|walwriter|autovacuum (launcher|worker)"
    r"|logical replication launcher|archiver|stats collector|startup|io worker)\b"
)
_SSHD_TITLE = re.compile(r"(/usr/sbin/sshd|sshd(-session|-auth)?:) ")
_NO_TOOL = ("postgres", "postmaster", "initdb", "pg_ctl", "pg_controldata")


@dataclass
class Host:
    """A machine with an sshd: `user` may log in with `identity`; `known_hosts` knows its key.

    What changes a host returns a context manager that changes it back; without a block it stays.
    """

    machine: Machine | Loopback
    user: str
    identity: Path
    known_hosts: Path
    jump: Host | None = None
    port: int = 22
    _sshd: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Return what the machine calls itself."""
        return self.machine.name

    @property
    def address(self) -> str:
        """Return its address, on the link by which it is reached."""
        return self.machine.address

    @property
    def temporary(self) -> str:
        """Return the folder for temporary files there."""
        return self.machine.temporary

    @property
    def backups(self) -> str:
        """Return the folder for backups there."""
        return self.machine.backups

    def place(self, **more: Any) -> dict[str, Any]:
        """Return the `ssh` block of an environment."""
        if more.get("backups"):
            self.machine.own(Path("/", more["backups"]))  # a relative one is below the home
        if more.get("sudo_user"):
            self._real()
            self.needs("sudo")
        block: dict[str, Any] = {"host": self.address, "port": self.port, "user": self.user}
        block |= {"identity": str(self.identity), "known_hosts": str(self.known_hosts)}
        if self.jump:
            block["jump"] = f"{self.jump.user}@{self.jump.address}:{self.jump.port}"
        return block | more

    def config(self, alias: str = "") -> str:
        """Return what ~/.ssh/config needs to know, the jump host's block included."""
        lines = [f"Host {alias or self.name}", f"HostName {self.address}", f"Port {self.port}"]
        lines += [f"User {self.user}", f"IdentityFile {self.identity}", "IdentitiesOnly yes"]
        lines += [f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile none"]
        if not self.jump:
            return "\n".join([*lines, ""])
        return "\n".join([*lines, f"ProxyJump {self.jump.name}", self.jump.config()])

    def ssh(self, *command: str, **options: str) -> list[str]:
        """Return the command line of the OpenSSH client that runs a command there."""
        self.machine.own(*command)
        config = self.machine.folder / "client_config"
        config.write_text(f"{self.config()}Host *\nBatchMode yes\nStrictHostKeyChecking yes\n")
        given = [f"-o{name}={value}" for name, value in options.items()]
        return ["ssh", "-F", str(config), *given, self.name, *command]

    def run(
        self, *argv: str | Path, user: str = "root", input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, not over SSH, to its end."""
        return self.machine.run(*argv, user=user, input=input)

    def do(self, *argv: str | Path, user: str = "root", input: str | None = None) -> str:
        """Run a command there that must succeed and return its output."""
        return self.machine.do(*argv, user=user, input=input)

    def needs(self, program: str) -> None:
        """Skip where the system has no such program."""
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")

    def path(self, path: str | Path) -> Path:
        """Return the path by which this machine sees a file of that one (symlinks aside)."""
        return self.machine.path(path)

    def processes(self) -> list[Process]:
        """Return what runs there beside the sshd that listens and the server's own processes."""
        everything = self.machine.everything()
        kept = self._kept(everything)
        return [each for each in everything if each.outside not in kept]

    def _kept(self, everything: list[Process]) -> set[int]:
        return {self.machine.process_of(self._sshd)} if self._sshd else set()

    def quiet(self) -> None:
        """Wait until nothing runs there any more; what stays is the failure."""
        until(lambda: not self.processes(), lambda: f"still runs there: {self.processes()}")

    # the line

    def cut(self) -> ExitStack:
        """Let all packets from and to it vanish; nothing is closed, no end is told."""
        for link in self._real().links:
            link.cut()
        return _left(self.restore)

    def restore(self) -> None:
        """Let packets through again."""
        for link in self._real().links:
            link.restore()

    def slow(self, rate: str) -> ExitStack:
        """Let no more than a rate through each way, as tc writes it (8mbit, 500kbit)."""
        links = self._real().links
        if why := " ".join(filter(None, (link.slow(rate) for link in links))):
            pytest.skip(f"a link cannot be slowed here: {why}")
        return _left(*(link.hasten for link in links))

    # the sshd

    def start_sshd(self, **config: str) -> ExitStack:
        """Start the sshd (anew, where it runs) with these lines of sshd_config."""
        self.stop_sshd()
        folder, log = self.machine.ssh, self.machine.folder / "sshd.log"
        keys = {"AuthorizedKeysFile": f"{folder}/authorized_keys .ssh/authorized_keys"}
        lines = {**_SSHD, "HostKey": f"{folder}/host_key", **keys, **self._needs(), **config}
        self.port = int(lines["Port"])
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        self.path(folder / "sshd_config").write_text(text)
        log.write_bytes(b"")
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
        sshd = self._sshd = self.machine.start(*argv, log=log)
        until(
            lambda: "Server listening" in log.read_text() or sshd.poll() is not None,
            lambda: f"sshd does not listen: {log.read_text()}",
        )
        assert sshd.poll() is None, log.read_text()
        return _left(self.start_sshd)

    def stop_sshd(self) -> ExitStack:
        """Kill the sshd and its sessions, not what these started."""
        for each in self.machine.everything():
            if _SSHD_TITLE.match(each.command):
                _kill(each.outside, signal.SIGKILL)
        if self._sshd:
            self._sshd.wait(PATIENCE)
        self._sshd = None
        return _left(self.start_sshd)

    def _needs(self) -> dict[str, str]:
        if isinstance(self.machine, Machine):
            return {}
        return {**self.machine.sshd(), **({"Port": str(self.port)} if self.port != 22 else {})}

    @contextmanager
    def new_host_key(self, *, known: bool = False) -> Iterator[None]:
        """Have another host key for a block; `known_hosts` knows the old one, or else the new."""
        key, before = self.path(self.machine.ssh / "host_key"), self.known_hosts.read_text()
        old = key.read_bytes()
        self.renew_key()
        if known:
            self.trust()
        self.start_sshd()
        try:
            yield
        finally:
            self._put_key(old)
            self.known_hosts.write_text(before)
            self.start_sshd()

    def renew_key(self) -> None:
        """Make a host key for the next start of the sshd."""
        keygen(self.machine.folder / "host_key")
        self._put_key((self.machine.folder / "host_key").read_bytes())

    def trust(self) -> None:
        """Let `known_hosts` know the key that was made last."""
        public = (self.machine.folder / "host_key.pub").read_text()
        place = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        lines = self.known_hosts.read_text().splitlines()
        others = [line for line in lines if not line.startswith(f"{place} ")]
        line = f"{place} {' '.join(public.split()[:2])}"
        self.known_hosts.write_text("\n".join([*others, line]) + "\n")

    def _put_key(self, key: bytes) -> None:
        path = self.path(self.machine.ssh / "host_key")
        path.touch(0o600)
        path.write_bytes(key)

    # accounts and files

    def user_with(
        self,
        *,
        name: str = "",
        shell: str = "/bin/sh",
        greeting: str = "",
        home: str = "",
        home_writable: bool = True,
        sudo: bool = False,
    ) -> str:
        """Make another account and return its name; `greeting` is what its shell always prints."""
        machine = self._real()
        if not self.path(os.path.realpath(shell)).exists():
            pytest.skip(f"{shell} is not installed")
        name = name or f"user{len(machine.accounts())}"
        home = home or f"/home/{name}"
        add_account(machine, name, shell=shell, home=home, sudo=sudo)
        if greeting:
            write_greeting(machine, home, greeting)
        if not home_writable:
            machine.do("sh", "-c", 'chown -R root: "$0" && chmod 555 "$0"', home)
        return name

    @contextmanager
    def full_disk(self, path: str, bytes: int) -> Iterator[None]:
        """Have a disk of that size, empty, at a folder there for a block."""
        owner, group, mode = self._real().do("stat", "-c", "%u %g %a", path).split()
        options = f"size={bytes},uid={owner},gid={group},mode={mode}"
        self.do("mount", "-t", "tmpfs", "-o", options, "tmpfs", path)
        try:
            yield
        finally:
            self.do("umount", "-l", path)

    def _real(self) -> Machine:
        if not isinstance(self.machine, Machine):
            pytest.skip(f"needs a machine of its own: {self.machine.lacks}")
        return self.machine


@dataclass
class DatabaseHost(Host):
    """A host with a PostgreSQL server; `cluster` is the server as this machine reaches it.

    The server listens on the folder `sockets` there alone. `bin` is where its programs are there.
    """

    cluster: Cluster = field(kw_only=True)
    sockets: str = field(kw_only=True)
    bin: Path = field(kw_only=True)
    serve: Callable[[], subprocess.Popen[bytes]] | None = field(kw_only=True, default=None)

    def settings(self, *, ssh: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Return an environment's settings that lead here; `ssh` changes parts of that block."""
        place = self.place(**(ssh or {}))
        server = {"host": self.sockets, "port": self.cluster.port, "user": self.user}
        return {"ssh": place, **server, **more}

    def user_with(self, *, role: bool = True, **more: Any) -> str:
        """Make an account, and the role that it is to the server."""
        name = super().user_with(**more)
        if role:
            statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(name))
            self.cluster.execute(statement)
        return name

    @contextmanager
    def hidden_tools(self, *names: str) -> Iterator[None]:
        """Have no PostgreSQL clients (or not these) there for a block."""
        folders = [*self._real().path("/usr/lib/postgresql").glob("*/bin"), self.path(self.bin)]
        tools = names or {tool.name for folder in folders for tool in folder.iterdir()}
        places = {*folders, *map(self.path, ("/usr/bin", "/usr/local/bin"))}
        room = self.path("/usr/hidden-tools")
        room.mkdir()
        moved: dict[Path, Path] = {}
        for tool in sorted(set(tools) - set(_NO_TOOL)):
            for place in sorted(places):
                if os.path.lexists(place / tool):
                    moved[place / tool] = room / str(len(moved))
                    shutil.move(place / tool, moved[place / tool])
        try:
            yield
        finally:
            for tool, kept in moved.items():
                shutil.move(kept, tool)
            room.rmdir()

    def stop_server(self) -> ExitStack:
        """End the PostgreSQL server, its sessions with it."""
        self._real()
        _kill(self.machine.process_of(self.cluster.process), signal.SIGINT)
        self.cluster.process.wait(PATIENCE)
        return _left(self.start_server)

    def start_server(self) -> None:
        """Start the PostgreSQL server."""
        assert self.serve is not None
        self.cluster.process = self.serve()
        servers.wait_for(self.cluster)

    def _kept(self, everything: list[Process]) -> set[int]:
        server = self.machine.process_of(self.cluster.process)
        own = {each.outside for each in everything if _SERVER_OWN.match(each.command)}
        children = {each.outside for each in everything if each.parent == server}
        return super()._kept(everything) | {server} | (own & children)


def run_keygen(*arguments: str) -> None:
    """Run ssh-keygen, which not every machine has."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("openssh-client is not installed")
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, stdin=subprocess.DEVNULL)


def keygen(path: Path) -> str:
    """Make a key and return its public half."""
    path.unlink(missing_ok=True)
    run_keygen("-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path))
    return path.with_name(path.name + ".pub").read_text()


def _kill(pid: int, by: signal.Signals) -> None:
    if pid:  # 0, of a process that there is not, would be this one and all beside it
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pid, by)


def _left(*undo: Callable[[], object]) -> ExitStack:
    """Return what undoes a change when a block ends."""
    stack = ExitStack()
    for each in undo:
        stack.callback(each)
    return stack
