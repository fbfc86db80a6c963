"""The `ssh` setting of an environment: the login to a database host."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.settings.fields import number, path, text

PORT = 22
NONE = "none"  # in place of a host; removes that of lower layers
# user@host:port, with brackets around a host that contains colons
_TEXT = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:@/\[\]]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_ADDRESS = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(?:%\w+)?")  # IPv6, no brackets


_SECONDS = (1, 3600)


@dataclass(frozen=True)
class Login:
    """The login to a host, and its timeouts in seconds.

    Empty values come from ~/.ssh/config.
    """

    host: str = text("name or address of the database host, or its alias in ~/.ssh/config")
    user: str = text("account on the host")
    port: int | None = number("port of sshd", range=(1, 65535))
    identity: str = path("file of the private key")
    jump: str = text("jump host user@host, several separated by commas; `none` for none")
    known_hosts: str = path("known_hosts file of trusted host keys")
    connect_timeout: int = number("seconds to connect to the port", default=10, range=_SECONDS)
    banner_timeout: int = number("seconds until sshd identifies itself", default=15, range=_SECONDS)
    auth_timeout: int = number("seconds for the login", default=30, range=_SECONDS)
    channel_timeout: int = number("seconds to start a command", default=30, range=_SECONDS)
    silence: int = number("seconds of silence that end the connection", default=20, range=(5, 3600))
    bin: str = text("folder with pg_dump, pg_restore and psql on the host")
    backups: str = text("folder for backups on the host")
    sudo_user: str = text("account that runs the commands, through sudo")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port not in (None, PORT) else ""
        return f"{self.user}@{host}{port}" if self.user else f"{host}{port}"


def parse(login: str, where: str) -> dict[str, Any]:
    """Parse `user@host:port` into settings, raising BadConfiguration."""
    if _ADDRESS.fullmatch(login.strip()):
        return {"host": login.strip()}
    match = _TEXT.fullmatch(login.strip())
    host = (match["v6"] or match["host"]) if match else ""
    # ssh would read a leading dash as an option
    if not match or host.startswith("-") or (match["user"] or "").startswith("-"):
        raise BadConfiguration(f"{where}: {login!r}, expected user@host or user@host:port")
    values = {"host": host, "user": match["user"], "port": match["port"]}
    return {key: value for key, value in values.items() if value}


def checked(login: Login | None, where: str) -> Login | None:
    """Return the login of an environment's `ssh` block, None if there is none."""
    if login is None or login.host == NONE:
        return None
    if not login.host:
        raise BadConfiguration(f"{where}: ssh: no host, say ssh: {{host: db1.example.com}}")
    for jump in login.jump.split(","):
        if jump.strip() and jump.strip() != NONE:
            parse(jump, f"{where}: ssh.jump")
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*|", login.sudo_user):
        raise BadConfiguration(
            f"{where}: ssh.sudo_user: {login.sudo_user!r}, expected an account's name"
        )
    host = parse(login.host, f"{where}: ssh.host")  # it may say user@host too
    return replace(
        login,
        host=host["host"],
        user=login.user or host.get("user", ""),
        port=login.port or int(host.get("port", 0)) or None,
    )


def required(login: Login | None, environment: str) -> Login:
    """Return the login of an environment, raising Refused if it has none."""
    if login is None:
        raise Refused(
            f"environment {environment!r} has no ssh, its database is reached from this machine: "
            "`ssh: user@host` names a host"
        )
    return login
