"""Targets: an environment resolved to where its database lives and how to reach it."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgtasks import libpq
from pgtasks.environment import Environment
from pgtasks.secret import Secret

_SOCKET_FOLDERS = ("/var/run/postgresql", "/tmp")  # Debian's and PostgreSQL's own default


@dataclass(frozen=True)
class Target:
    """Where an environment's database lives. `host` is a name, an address or a socket folder."""

    environment: str
    host: str
    port: int
    database: str
    user: str
    protected: bool = False
    password: Secret | None = None
    passfile: str = ""
    password_command: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = False
    major: int | None = None
    jobs: int = 2
    maintenance: str = "postgres"
    template: str = "template0"
    tools: str = ""
    ssh: str = ""
    seeds: tuple[str, ...] = ()
    backup: Mapping[str, object] = field(default_factory=dict)

    @property
    def socket(self) -> bool:
        """Whether the server is reached over a unix socket."""
        return self.host.startswith("/")

    def at(self, database: str) -> Target:
        """Return the same place with another database."""
        return replace(self, database=database)

    def url(self, *, reveal: bool = False, driver: str = "") -> str:
        """Return the URL, its password as *** unless `reveal`."""
        shown = self.password.reveal() if self.password and reveal else ""
        url = libpq.make_url(
            host=self.host,
            port=self.port,
            database=self.database,
            user=self.user,
            password=shown or ("\0" if self.password else ""),
            parameters=self.parameters,
            scheme=f"postgresql+{driver}" if driver else "postgresql",
        )
        return url.replace("%00", "***", 1)

    def __str__(self) -> str:
        host = "embedded server" if self.embedded else f"{self.host}:{self.port}"
        return f"{self.user}@{host}/{self.database}"

    def line(self) -> str:
        """Return the line that opens every task: where it works, protected or not."""
        guard = "protected" if self.protected else "not protected"
        return f"{self.environment}: {self} ({guard})"


def from_environment(environment: Environment) -> Target:
    """Return the target of an environment; an embedded server has no host until it runs."""
    embedded = environment.get("server") == "embedded"
    port = environment.get("port")
    parameters = dict(environment.parameters)
    for key in ("sslmode", "sslrootcert"):
        if environment.get(key):
            parameters[key] = environment.get(key)
    parameters["connect_timeout"] = str(environment.get("connect_timeout"))
    return Target(
        environment=environment.name,
        host="" if embedded else environment.get("host") or _default_host(port),
        port=port,
        database=environment.get("database"),
        user=environment.get("user") or ("postgres" if embedded else getpass.getuser()),
        protected=environment.protected,
        password=environment.password,
        passfile=str(Path(environment.get("passfile") or "").expanduser())
        if environment.get("passfile")
        else "",
        password_command=environment.get("password_command") or "",
        parameters=parameters,
        embedded=embedded,
        major=environment.get("major"),
        jobs=environment.get("jobs"),
        maintenance=environment.get("maintenance"),
        template=environment.get("template"),
        tools=environment.get("tools") or "",
        ssh=environment.get("ssh") or "",
        seeds=tuple(environment.get("seeds") or ()),
        backup=environment.get("backup") or {},
    )


def _default_host(port: int) -> str:
    for folder in _SOCKET_FOLDERS:
        if (Path(folder) / f".s.PGSQL.{port}").exists():
            return folder
    return "localhost"
