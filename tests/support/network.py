"""The hosts of a test session, and their fixtures.

db1     a database host that this machine reaches
jump    a machine without a database that this machine reaches
db2     a database host that only `jump` reaches
db18    as db1, but its server is the wheel's 18, in /opt: all tools in the usual places are older
network makes them when first asked for, and others: `network.database(name, ...)`

Each has an account `deploy`: SSH, the role that may create databases, and sudo as `postgres`. The
servers listen on /var/run/postgresql alone and trust the account of whoever connects (peer).
Backups may lie in the folder `host.backups`, temporary files in `host.temporary`.

Where namespaces cannot be made, sshd listens on loopback ports and the account is the one that
runs the tests (`host.user`); what needs a machine of its own then skips.
"""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import loopback
import machines
import pytest
import servers
from accounts import add_account, furnish
from hosts import DatabaseHost, Host, keygen
from loopback import Loopback
from machines import Machine
from psycopg2 import sql
from servers import Cluster
from sites import Site

USER = "deploy"
SOCKETS = "/var/run/postgresql"
_DATA = "/var/lib/postgresql/data"
_SERVER = "postgres"

_H = TypeVar("_H", bound=Host)


class Network:
    """The hosts of a test session; with `lacks` they are ports of this machine."""

    def __init__(self, lacks: str = "") -> None:
        self.lacks = lacks
        self.site = Site(addresses=not lacks)
        self.hosts: dict[str, Host] = {}
        self.identity = self.site.folder / "id_ed25519"
        self.known_hosts = self.site.folder / "known_hosts"
        self.known_hosts.touch()
        self.public = keygen(self.identity)

    def plain(self, name: str) -> Host:
        """Return the host of that name, made without a database where there is none yet."""
        if name in self.hosts:
            return self.hosts[name]
        machine = self._loopback(name) if self.lacks else self._machine(name)
        return self._opened(Host(machine, self._user, self.identity, self.known_hosts))

    def database(
        self,
        name: str,
        *,
        jump: Host | None = None,
        bin: Path | None = None,
        settings: dict[str, str] | None = None,
        hba: str = "",
    ) -> DatabaseHost:
        """Return the database host of that name, made where there is none yet.

        `bin` has the server's programs, `hba` are lines of pg_hba.conf above the one for peers.
        """
        if name in self.hosts:
            found = self.hosts[name]
            assert isinstance(found, DatabaseHost)
            return found
        bin = bin or _newest_bin()
        make = self._served_here if self.lacks else self._served_there
        return self._opened(make(name, jump, bin, settings or {}, hba))

    @property
    def _user(self) -> str:
        return getpass.getuser() if self.lacks else USER

    def _opened(self, host: _H) -> _H:
        """Let the tests' key in and start the sshd."""
        host.path(host.machine.ssh / "authorized_keys").write_text(self.public)
        host.renew_key()
        host.start_sshd()
        host.trust()
        self.hosts[host.name] = host
        return host

    # machines

    def _machine(
        self,
        name: str,
        jump: Host | None = None,
        layers: dict[str, Path] | None = None,
        binds: dict[str, Path] | None = None,
    ) -> Machine:
        machine = Machine.booted(self.site, name, layers=layers or {}, binds=binds or {})
        machine.wait()
        near = jump.machine if jump else None
        assert near is None or isinstance(near, Machine)
        machine.connect(near)
        furnish(machine)
        if _SERVER not in machine.accounts().values():
            add_account(machine, _SERVER, home="/var/lib/postgresql")
        add_account(machine, USER, sudo=True)
        machine.do("install", "-d", "-o", USER, "-g", USER, "-m", "700", machine.backups)
        return machine

    def _served_there(
        self, name: str, jump: Host | None, bin: Path, settings: dict[str, str], hba: str
    ) -> DatabaseHost:
        layers, inner = _programs(bin)
        sockets = self.site.folder / f"{name}.s"
        sockets.mkdir()
        machine = self._machine(name, jump, layers, {"/run/postgresql": sockets})
        machine.do("chown", _SERVER, SOCKETS)
        _prepare(machine, inner, hba)
        serve = partial(_serve, machine, inner, settings)
        place = Cluster(str(sockets), 5432, servers.SUPERUSER, 0, bin, machine.folder, serve())
        place.major = int(servers.version(bin).split(".")[0])
        servers.wait_for(place)
        place.execute(f"CREATE ROLE {USER} LOGIN CREATEDB")
        return DatabaseHost(
            *(machine, USER, self.identity, self.known_hosts, jump),
            cluster=place,
            sockets=SOCKETS,
            bin=inner,
            serve=serve,
        )

    # ports of this machine

    def _loopback(self, name: str) -> Loopback:
        return Loopback(self.site, name, self.lacks)

    def _served_here(
        self, name: str, jump: Host | None, bin: Path, settings: dict[str, str], hba: str
    ) -> DatabaseHost:
        machine = self._loopback(name)
        place = self.site.stack.enter_context(servers.running(bin, settings=settings))
        machine.roots.add(place.process.pid)
        machine.places.append(Path(place.host))
        if self._user != servers.SUPERUSER:
            role = sql.Identifier(self._user)
            place.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
        return DatabaseHost(
            *(machine, self._user, self.identity, self.known_hosts, jump),
            cluster=place,
            sockets=place.host,
            bin=place.bin,
        )


def _newest_bin() -> Path:
    found = {major: bin for major, bin in servers.system_bins().items() if 14 <= major <= 18}
    return found[max(found)] if found else servers.wheel_bin(16)


def _programs(bin: Path) -> tuple[dict[str, Path], Path]:
    """Return what a machine must see for these programs, and their folder there."""
    if bin.is_relative_to("/usr"):
        return {}, bin
    package = bin.parent.parent
    layers = {"/opt/server": package}
    for libraries in package.parent.glob(f"{package.name}.libs"):
        layers[f"/opt/{package.name}.libs"] = libraries  # the programs look in ../../../NAME.libs
    return layers, Path("/opt/server", *bin.parts[-2:])


def _prepare(machine: Machine, bin: Path, hba: str) -> None:
    """Make the server's data folder; who connects is the role of the same name."""
    machine.do("install", "-d", "-o", _SERVER, "-m", "700", _DATA)
    what = ("-U", servers.SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8", "-A", "peer")
    machine.do(
        *(bin / "initdb", "-D", _DATA, *what, "--no-sync", "--no-instructions"), user=_SERVER
    )
    machine.path(f"{_DATA}/pg_hba.conf").write_text(f"{hba}\nlocal all all peer map=own\n")
    # root is who runs the tests: on this machine, not on that one
    root = [f"own root {role}\n" for role in (servers.SUPERUSER, USER)]
    machine.path(f"{_DATA}/pg_ident.conf").write_text("".join([*root, "own /^(.*)$ \\1\n"]))


def _serve(machine: Machine, bin: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    options = {**servers.SPEED, "listen_addresses": "", "unix_socket_directories": SOCKETS}
    options |= {"max_wal_size": "256MB", **settings}  # all of it lies in memory
    words = [f"--{key}={value}" for key, value in options.items()]
    log = machine.folder / "log"
    return machine.start(bin / "postgres", "-D", _DATA, *words, log=log, user=_SERVER)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Return what makes hosts."""
    if (lacks := machines.missing()) and (less := loopback.missing()):
        pytest.skip(f"{lacks}; {less}")
    made = Network(lacks)
    try:
        yield made
    finally:
        made.site.close()


@pytest.fixture(scope="session")
def db1(network: Network) -> DatabaseHost:
    """A database host that this machine reaches."""
    return network.database("db1")


@pytest.fixture(scope="session")
def jump(network: Network) -> Host:
    """A host without a database, between this machine and db2."""
    return network.plain("jump")


@pytest.fixture(scope="session")
def db2(network: Network, jump: Host) -> DatabaseHost:
    """A database host that only `jump` reaches."""
    return network.database("db2", jump=jump)


@pytest.fixture(scope="session")
def db18(network: Network) -> DatabaseHost:
    """A database host whose server is newer than the tools in the usual places there."""
    return network.database("db18", bin=servers.wheel_bin(18))
