"""Targets: the address of the database of an environment, and how to reach it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgtasks.errors import BadConfiguration
from pgtasks.report import account
from pgtasks.settings import libpq
from pgtasks.settings import ssh as login
from pgtasks.settings.blocks import EMBEDDED, Backup, Settings
from pgtasks.settings.environment import Environment
from pgtasks.settings.secret import Secret
from pgtasks.settings.ssh import Login

# Debian's and PostgreSQL's own default
SOCKET_FOLDERS = ("/var/run/postgresql", "/tmp")  # nosec B108
REQUIREPEER = "requirepeer"  # parameter of libpq: the owner of a socket
NAME_BYTES = 63  # NAMEDATALEN - 1
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1|")
# parameters about TLS, which Unix sockets do not use
_TLS = ("sslmode", "sslrootcert", "sslnegotiation", "channel_binding")


@dataclass(frozen=True)
class SocketFacts:
    """Facts about a socket; `own` is the account that read them.

    `makers` are the owners of entries (the socket, folders above it) in folders where anybody may
    write, with those entries.
    """

    folder: str
    own: str
    owner: str = ""
    makers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """This machine's end of a tunnel: a socket's folder, or an address, and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class Target:
    """The address of an environment's database, and how to connect to it.

    `host` is a name, an address or a socket folder. With SSH it is as seen from the database host,
    and may be empty until the login; `end` is then the local end of the tunnel, and `peer` are the
    facts about the socket on the host.
    """

    environment: str
    host: str
    port: int
    database: str
    user: str
    protected: bool = False
    password: Secret | None = None
    passfile: str = ""
    password_command: str = ""
    password_command_timeout: int = Settings.password_command_timeout  # seconds
    reader: str = ""  # the role for reads in a protected environment
    reader_password: Secret | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = False
    major: int | None = None
    jobs: int = Settings.jobs
    maintenance: str = Settings.maintenance
    template: str = Settings.template
    keep_old: int | None = None
    journal: Path | None = field(default=None, compare=False)  # its folder
    tools: str = ""
    ssh: Login | None = None
    end: End | None = None
    peer: SocketFacts | None = field(default=None, compare=False, repr=False)
    lineage: tuple[str, ...] = field(default=(), compare=False)  # of its environment
    seeds: tuple[str, ...] = ()
    backup: Backup = field(default_factory=Backup)
    role: str = ""  # the role of sessions, as after SET ROLE
    secrets: Mapping[str, Secret] = field(default_factory=dict)  # settings of sessions

    @property
    def socket(self) -> bool:
        """Whether the server is reached over a Unix socket."""
        return self.host.startswith("/")

    @property
    def loopback(self) -> bool:
        """Whether the server is reached without leaving the machine."""
        return not self.host or self.socket or _LOOPBACK.fullmatch(self.host) is not None

    def at(self, database: str) -> Target:
        """Return the target with another database on the same server."""
        return replace(self, database=database)

    def as_reader(self) -> Target:
        """Return the target with the role `reader`, unchanged if there is none.

        The password of that role comes from its variable, else from a passfile.
        """
        if not self.reader or self.reader == self.user:
            return self
        return replace(self, user=self.reader, password=self.reader_password, password_command="")

    def here(self) -> Target:
        """Return the target for clients on this machine: through the tunnel, if there is one."""
        if self.end is None:
            return self
        parameters = dict(self.parameters)
        parameters.pop("hostaddr", None)  # the destination of the tunnel
        if self.end.host.startswith("/"):
            other = (*_TLS, REQUIREPEER)  # the socket of the tunnel is ours
            kept = {key: value for key, value in parameters.items() if key not in other}
            known = replace(self, parameters=kept, end=None, peer=None)
            return replace(known, host=self.end.host, port=self.end.port)
        # the name stays, because the server's certificate must match it
        parameters["hostaddr"] = self.end.host
        return replace(self, port=self.end.port, parameters=parameters, end=None)

    def url(self, *, reveal: bool = False, driver: str = "") -> str:
        """Return the URL, with the password as *** unless `reveal`.

        `driver` is for SQLAlchemy: "psycopg" gives postgresql+psycopg://. It names the passfile, in
        which libpq looks up the password.
        """
        shown = self.password.reveal() if self.password and reveal else ""
        parameters = dict(self.parameters)
        if parameters.get("connect_timeout") == str(Settings.connect_timeout):
            del parameters["connect_timeout"]
        if self.passfile and not self.password:
            parameters["passfile"] = self.passfile
        url = libpq.make_url(
            host=self.host,
            port=self.port,
            database=self.database,
            user=self.user,
            password=shown or ("\0" if self.password else ""),
            parameters=parameters,
            scheme=f"postgresql+{driver}" if driver else "postgresql",
        )
        return url.replace("%00", "***", 1)

    def __str__(self) -> str:
        host = "embedded server" if self.embedded else f"{self.host or 'socket'}:{self.port}"
        over = f" on {self.ssh}" if self.ssh else ""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}/{self.database}{over}"

    def line(self) -> str:
        """Return the first line of every task: the target, and whether settings protect it.

        A database of an unprotected environment may count as protected, which its stamp decides.
        """
        return f"{self.environment}: {self}{' (protected)' if self.protected else ''}"


def from_environment(environment: Environment) -> Target:
    """Return the target of an environment; that of an embedded server has no host yet."""
    settings = environment.settings
    embedded = settings.server == EMBEDDED
    ssh = login.checked(settings.ssh, environment.layer("ssh.host"))
    if embedded and ssh:
        raise BadConfiguration(
            f"environment {environment.name!r} has ssh: {ssh} and server: embedded, which runs on "
            "this machine only: keep one"
        )
    _check_name(environment)
    own = {
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        REQUIREPEER: settings.requirepeer,
        "connect_timeout": str(settings.connect_timeout),
    }
    return Target(
        environment=environment.name,
        lineage=environment.lineage,
        host=settings.host or ("" if embedded or ssh else _default_host(settings.port)),
        port=settings.port,
        database=settings.database,
        user=settings.user or _default_user(environment.name, ssh),
        protected=environment.protected,
        password=environment.password,
        passfile=settings.passfile,
        password_command=settings.password_command,
        password_command_timeout=settings.password_command_timeout,
        reader=settings.reader,
        reader_password=environment.reader_password,
        parameters={**environment.parameters, **{key: text for key, text in own.items() if text}},
        embedded=embedded,
        major=settings.major,
        jobs=settings.jobs,
        maintenance=settings.maintenance,
        template=settings.template,
        keep_old=settings.keep_old,
        tools=settings.tools,
        ssh=ssh,
        seeds=settings.seeds,
        backup=settings.backup,
    )


def _check_name(environment: Environment) -> None:
    """Refuse a name that the server would truncate, to that of another database."""
    name = environment.settings.database
    if len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES:
        raise BadConfiguration(
            f"{environment.layer('database')}: database {name!r} is longer than the {NAME_BYTES} "
            "bytes that a name may have, and PostgreSQL would truncate it"
        )


def _default_user(environment: str, ssh: Login | None) -> str:
    """Return the role to connect as; with SSH the account on the host, if known."""
    if ssh:
        return ssh.sudo_user or ssh.user
    return _own_name(environment)


def _own_name(environment: str) -> str:
    """Return the account's name, the default role of libpq."""
    if name := account.user():
        return name
    raise BadConfiguration(
        f"environment {environment!r} names no user, and this account has no name"
    )


def _default_host(port: int) -> str:
    for folder in SOCKET_FOLDERS:
        if Path(libpq.socket_path(folder, port)).exists():
            return folder
    return "localhost"
