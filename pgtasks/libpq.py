"""libpq's conventions: connection URLs, the PG* variables, service files, password files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pgtasks.errors import BadConfiguration
from pgtasks.secret import Secret, redact

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Parameters that an environment may carry beyond host, port, database, user and password:
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PARAMETERS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslnegotiation",
    "hostaddr",
    "channel_binding",
    "gssencmode",
    "krbsrvname",
    "target_session_attrs",
    "connect_timeout",
)
VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "database": "PGDATABASE",
    "user": "PGUSER",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "hostaddr": "PGHOSTADDR",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}


@dataclass(frozen=True)
class Place:
    """Where a URL or a service points: each part empty where it says nothing."""

    host: str = ""
    port: int | None = None
    database: str = ""
    user: str = ""
    password: Secret | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_url(url: str, where: str) -> Place:
    """Parse a PostgreSQL URL; `where` opens the error, which never shows the password.

    Accepted: postgres://, postgresql:// and SQLAlchemy's postgresql+driver://.
    """
    shown = redact(url)
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if not re.fullmatch(r"postgres(ql)?(\+[a-z0-9_]+)?", scheme):
        raise BadConfiguration(f"{where}: {shown!r} is no PostgreSQL URL (postgresql://...)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise BadConfiguration(f"{where}: {shown!r}: {exc}") from None
    if "," in parts.netloc:
        raise BadConfiguration(f"{where}: {shown!r} names several hosts, name one")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    host = parameters.pop("host", "") or unquote(_hostname(parts.netloc))
    password = parameters.pop("password", None) or parts.password
    return Place(
        host=host,
        port=port or _port(parameters.pop("port", ""), where),
        database=parameters.pop("dbname", "") or unquote(parts.path.lstrip("/")),
        user=parameters.pop("user", "") or unquote(parts.username or ""),
        password=Secret(unquote(password)) if password else None,
        parameters=_known_parameters(parameters, where),
    )


def _hostname(netloc: str) -> str:
    # urlsplit().hostname lowercases, which breaks the path of a percent-encoded socket folder
    location = netloc.rpartition("@")[2]
    bracketed = re.fullmatch(r"\[(.+)\](:\d*)?", location)
    return bracketed[1] if bracketed else location.partition(":")[0]


def _port(text: str, where: str) -> int | None:
    if text and not text.isdecimal():
        raise BadConfiguration(f"{where}: port {text!r}, expected a number")
    return int(text) if text else None


def _known_parameters(parameters: Mapping[str, str], where: str) -> dict[str, str]:
    # `application_name`, `options` and drivers' own parameters are an application's business
    known = {key: value for key, value in parameters.items() if key in PARAMETERS}
    sslmode = known.get("sslmode")
    if sslmode is not None and sslmode not in SSLMODES:
        raise BadConfiguration(f"{where}: sslmode {sslmode!r}, known: {', '.join(SSLMODES)}")
    return known


def make_url(
    *,
    host: str,
    port: int | None,
    database: str,
    user: str,
    password: str = "",
    parameters: Mapping[str, str] | None = None,
    scheme: str = "postgresql",
) -> str:
    """Build a URL; a socket folder goes into the query, where SQLAlchemy and libpq read it."""
    login = quote(user, safe="")
    if password:
        login += ":" + quote(password, safe="")
    query = dict(parameters or {})
    location = ""
    if host.startswith("/"):
        query = {"host": host, **({"port": str(port)} if port else {}), **query}
    elif host:
        location = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    url = f"{scheme}://{login + '@' if login else ''}{location}/{quote(database, safe='')}"
    options = "&".join(f"{key}={quote(value, safe='/')}" for key, value in query.items())
    return f"{url}?{options}" if options else url


def detach_variables(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Take libpq's own variables out of `environ` and return them.

    From then on no connection and no child sees one that its target did not put there.
    """
    names = [name for name in environ if re.fullmatch(r"PG[A-Z]+|PGCONNECT_TIMEOUT", name)]
    return {name: environ.pop(name) for name in names}


def parse_service_file(text: str) -> dict[str, dict[str, str]]:
    """Parse a service file into parameters by section (libpq-pgservice)."""
    services: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = services.setdefault(line[1:-1], {})
        elif section is not None and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip()
    return services


def service_place(name: str, variables: Mapping[str, str], where: str) -> Place:
    """Look a service up: PGSERVICEFILE, ~/.pg_service.conf, then PGSYSCONFDIR."""
    files = [
        variables.get("PGSERVICEFILE") or str(Path("~/.pg_service.conf").expanduser()),
        str(Path(variables.get("PGSYSCONFDIR") or "/etc/postgresql-common") / "pg_service.conf"),
    ]
    for path in files:
        services = parse_service_file(_read(path))
        if name in services:
            return _service_place(services[name], f"{where}: service {name!r} in {path}")
    raise BadConfiguration(f"{where}: service {name!r} is in none of {', '.join(files)}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _service_place(values: Mapping[str, str], where: str) -> Place:
    password = values.get("password")
    return Place(
        host=values.get("host", ""),
        port=_port(values.get("port", ""), where),
        database=values.get("dbname", ""),
        user=values.get("user", ""),
        password=Secret(password) if password else None,
        parameters=_known_parameters(values, where),
    )


def passfile_line(user: str, password: Secret) -> str:
    """Return the line of a password file that serves every connection of `user` (libpq-pgpass)."""
    # made for one run against one server, which may reach it by name, address or tunnel
    login = ":".join(re.sub(r"([\\:])", r"\\\1", part) for part in (user, password.reveal()))
    return f"*:*:*:{login}\n"


def passfile_fault(path: Path) -> str:
    """Return why libpq would ignore a password file, or nothing."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        return f"passfile {str(path)!r}: {exc.strerror}"
    if mode & 0o077:
        return (
            f"passfile {str(path)!r} can be read by others, libpq ignores it: "
            f"chmod 600 {os.fspath(path)}"
        )
    return ""
