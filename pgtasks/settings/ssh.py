"""How to log in to a database host: the `ssh` setting of an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import BadConfiguration, Refused

PORT = 22
NONE = "none"  # in place of a host: the layers below say one, and here it is not wanted
# user@host:port, the host in brackets where it has colons of its own
_TEXT = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:@/\[\]]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_ADDRESS = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(?:%\w+)?")  # IPv6, no brackets


@dataclass(frozen=True)
class Login:
    """Where to log in, as whom, and how long to wait (seconds).

    Empty is what ~/.ssh/config says. `silence` is how long the line may give no sign of life;
    `bin` the folder of PostgreSQL's tools there, `backups` the folder for backups there,
    `sudo_user` who runs the commands there.
    """

    host: str
    user: str = ""
    port: int | None = None
    identity: str = ""
    jump: str = ""
    known_hosts: str = ""
    connect_timeout: int = 10
    banner_timeout: int = 15
    auth_timeout: int = 30
    channel_timeout: int = 30
    silence: int = 20
    bin: str = ""
    backups: str = ""
    sudo_user: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port not in (None, PORT) else ""
        return f"{self.user}@{host}{port}" if self.user else f"{host}{port}"


def parse(text: str, where: str) -> dict[str, Any]:
    """Parse `user@host:port` into settings, raising BadConfiguration."""
    if _ADDRESS.fullmatch(text.strip()):
        return {"host": text.strip()}
    found = _TEXT.fullmatch(text.strip())
    host = (found["v6"] or found["host"]) if found else ""
    # ssh would read what begins with a dash as an option
    if not found or host.startswith("-") or (found["user"] or "").startswith("-"):
        raise BadConfiguration(f"{where}: {text!r}, expected user@host or user@host:port")
    said = {"host": host, "user": found["user"], "port": found["port"]}
    return {key: value for key, value in said.items() if value}


def from_settings(settings: Mapping[str, Any], where: str) -> Login | None:
    """Return the login that an environment's `ssh` block makes, None where there is none."""
    if not settings or settings.get("host") == NONE:
        return None
    if "host" not in settings:
        raise BadConfiguration(f"{where}: ssh: no host, say ssh: {{host: db1.example.com}}")
    known = parse(str(settings["host"]), f"{where}: ssh.host")  # it may say user@host too
    for jump in str(settings.get("jump") or "").split(","):
        if jump.strip() and jump.strip() != NONE:
            parse(jump, f"{where}: ssh.jump")
    sudo_user = str(settings.get("sudo_user") or "")
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*|", sudo_user):
        raise BadConfiguration(f"{where}: ssh.sudo_user: {sudo_user!r}, expected an account's name")
    values = {**known, **{key: v for key, v in settings.items() if key != "host"}}
    if "port" in values:
        values["port"] = int(values["port"])
    return Login(**values)


def required(login: Login | None, environment: str) -> Login:
    """Return the login of an environment, raising Refused where it has none."""
    if login is None:
        raise Refused(
            f"environment {environment!r} has no ssh, its database is reached from this machine: "
            "a host over SSH is named by ssh: user@host"
        )
    return login
