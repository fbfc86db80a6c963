"""libpq's conventions: connection URLs, the PG* variables, service files, password files."""

from __future__ import annotations

import difflib
import re
import shlex
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from pgtasks.errors import BadConfiguration
from pgtasks.settings.fields import meant
from pgtasks.settings.secret import Secret

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENCRYPTED = SSLMODES[3:]  # modes that require TLS
_SSL = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable"}

# Parameters that an environment may have besides host, port, database, user and password:
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
    "options",
    "sslcrldir",
    "sslcertmode",
    "sslcompression",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "require_auth",
    "gssdelegation",
    "gsslib",
    "load_balance_hosts",
)
# Folders of the system-wide service file: Debian, Red Hat, a build from source.
_SERVICE_FOLDERS = ("/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc")
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
    "options": "PGOPTIONS",
    "sslcrldir": "PGSSLCRLDIR",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslsni": "PGSSLSNI",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "require_auth": "PGREQUIREAUTH",
    "gssdelegation": "PGGSSDELEGATION",
    "gsslib": "PGGSSLIB",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}


SOCKET = ".s.PGSQL."  # name of a server's Unix socket, without its port
_VARIABLE = re.compile(r"PG[A-Z]+|PGCONNECT_TIMEOUT")
_OF_THE_PLACE = ("host", "port", "dbname", "user", "password")
_SCHEME = r"postgres(ql)?(\+[a-z0-9_]+)?|psql|pgsql|postgis"
# Parameters that do not affect the server or the encryption: those of drivers and connection pools,
# and those that pgtasks sets.
_OF_NO_EFFECT = re.compile(
    r"application_name|fallback_application_name|client_encoding|keepalives(_\w+)?|tcp_user_timeout"
    r"|(prepared_)?statement_cache_size|prepare(d?_\w+)?|pgbouncer|connection_limit|pool_\w+|max_\w+"
    r"|async_fallback|conn_max_age|ssl"
)


@dataclass(frozen=True)
class ConnInfo:
    """The connection parameters of a URL or a service; empty where it has none."""

    host: str = ""
    port: int | None = None
    database: str = ""
    user: str = ""
    password: Secret | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_url(url: str, where: str) -> ConnInfo:
    """Parse a PostgreSQL URL; `where` begins the error message, which contains no secret.

    It may begin with postgres://, postgresql://, postgresql+driver:// (SQLAlchemy), or psql://,
    pgsql://, postgis:// (django-environ, dj-database-url).
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        raise BadConfiguration(f"{where}: no PostgreSQL URL (postgresql://user@host/database)")
    if not re.fullmatch(_SCHEME, scheme.lower()):
        raise BadConfiguration(f"{where}: a {scheme}:// URL, expected postgresql://")
    rest, _, query = rest.partition("?")
    netloc, _, path = rest.partition("/")
    login, _, location = netloc.rpartition("@")
    user, _, password = login.partition(":")
    parameters = _query(query, where)
    host, port = _location(location, where)
    password = parameters.pop("password", "") or unquote(password)
    return ConnInfo(
        host=_one_host(parameters.pop("host", "") or unquote(host), where),
        port=_port(parameters.pop("port", "") or port, where),
        database=parameters.pop("dbname", "") or unquote(path),
        user=parameters.pop("user", "") or unquote(user),
        password=Secret(password) if password else None,
        parameters=_known_parameters(parameters, where),
    )


def _query(text: str, where: str) -> dict[str, str]:
    # as in libpq, a plus is a plus; parse_qsl of urllib would make it a space
    pairs = (part.partition("=") for part in text.split("&") if part)
    return _once([(unquote(key), unquote(value)) for key, _, value in pairs], "%20", where)


def _once(pairs: Sequence[tuple[str, str]], blank: str, where: str) -> dict[str, str]:
    """Return the parameters, refusing one that is given twice with two values.

    In a URL libpq takes the last one, in a service file the first one, and says nothing.
    """
    values: dict[str, str] = {}
    for key, value in pairs:
        counts = key == "ssl" or not _OF_NO_EFFECT.fullmatch(key)
        if values.setdefault(key, value) != value and counts:
            way = "give it once"
            if key == "options":
                way = f"write both into one, with {blank} between them"
            raise BadConfiguration(f"{where}: {key!r} is given twice, with two values: {way}")
    return values


def _location(text: str, where: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if "," in text:
        raise BadConfiguration(f"{where}: several hosts, name one")
    host, _, port = text.partition(":")
    if port and not _is_port(port):
        # not shown, because it may be a password with an unescaped @ or /
        raise BadConfiguration(
            f"{where}: port is not a number up to 65535 (in a password, percent-escape @ / ? and %)"
        )
    return host, port


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 65536


def _one_host(host: str, where: str) -> str:
    if "," in host:
        raise BadConfiguration(f"{where}: several hosts in {host!r}, name one")
    return host


def _port(text: str, where: str) -> int | None:
    if not text:
        return None
    if "," in text:
        raise BadConfiguration(f"{where}: several ports in {text!r}, name one")
    if not _is_port(text):
        raise BadConfiguration(f"{where}: port {text!r}, expected 1 to 65535")
    return int(text)


def _known_parameters(parameters: Mapping[str, str], where: str) -> dict[str, str]:
    kept = (*PARAMETERS, "passfile")
    known = {key: value for key, value in parameters.items() if key in kept}
    for key in parameters:
        if key not in (*kept, *_OF_THE_PLACE) and not _OF_NO_EFFECT.fullmatch(key):
            raise BadConfiguration(
                f"{where}: unknown parameter {key!r}{_nearest(key)}: it may decide where "
                "statements go, so it is not ignored; only those of libpq are known (a search_path "
                "is set by options=-csearch_path%3DNAME)"
            )
    if "ssl" in parameters:
        # the name in asyncpg and JDBC; without it, the connection would not be encrypted
        known.setdefault("sslmode", _SSL.get(parameters["ssl"].lower(), parameters["ssl"]))
    sslmode = known.get("sslmode")
    if sslmode is not None and sslmode not in SSLMODES:
        raise BadConfiguration(f"{where}: sslmode {sslmode!r}, {meant(sslmode, SSLMODES)}")
    return known


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, (*PARAMETERS, "passfile"), 1)
    return f", did you mean {near[0]!r}" if near else ""


_TAKES_DBNAME = ("+psycopg2", "+psycopg")  # drivers that hand the query of a URL to libpq


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
    """Build a URL for libpq, or for SQLAlchemy, whose scheme names a driver.

    What SQLAlchemy reads nowhere else is put into the query: a socket folder, and a name of a
    database with characters that a URL escapes (before 2.1 it leaves them escaped in the path).
    """
    login = quote(user, safe="")
    if password:
        login += ":" + quote(password, safe="")
    query = dict(parameters or {})
    location = ""
    if host.startswith("/"):
        query = {"host": host, **({"port": str(port)} if port else {}), **query}
    elif host:
        location = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    path = quote(database, safe="")
    if path != database and scheme.endswith(_TAKES_DBNAME):
        path, query = "", {"dbname": database, **query}
    url = f"{scheme}://{login + '@' if login else ''}{location}/{path}"
    options = "&".join(f"{key}={quote(value, safe='/')}" for key, value in query.items())
    return f"{url}?{options}" if options else url


def reading(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a session that only reads, on the server that was asked for.

    libpq takes such a session for that of a server which can only be read.
    """
    attrs = {"read-write": "primary"}
    key = "target_session_attrs"
    return {k: attrs.get(v, v) if k == key else v for k, v in parameters.items()}


def wants_tls(parameters: Mapping[str, str]) -> bool:
    """Return whether parameters require TLS; without sslmode, libpq uses what the server offers."""
    return parameters.get("sslmode") in ENCRYPTED


def socket_path(folder: str | Path, port: int) -> str:
    """Return the path of a server's Unix socket."""
    return f"{folder}/{SOCKET}{port}"


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of libpq."""
    return {name: environ[name] for name in environ if _VARIABLE.fullmatch(name)}


def detach_variables(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the variables of libpq from `environ` and return them.

    After that, connections and child processes only have those of their target.
    """
    detached = variables(environ)
    for name in detached:
        del environ[name]
    return detached


def parse_service_file(text: str) -> dict[str, list[tuple[str, str]]]:
    """Parse a service file into parameters by section (libpq-pgservice)."""
    services: dict[str, list[tuple[str, str]]] = {}
    section: list[tuple[str, str]] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = services.setdefault(line[1:-1], [])
        elif section is not None and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.append((key.strip(), value.strip()))
    return services


def service_place(name: str, variables: Mapping[str, str], where: str) -> ConnInfo:
    """Look up a service in PGSERVICEFILE, else ~/.pg_service.conf, then in PGSYSCONFDIR."""
    own = variables.get("PGSERVICEFILE") or str(Path("~/.pg_service.conf").expanduser())
    system = variables.get("PGSYSCONFDIR")
    folders = (system,) if system else _SERVICE_FOLDERS
    files = [own, *(f"{folder}/pg_service.conf" for folder in folders)]
    for path in files:
        services = parse_service_file(_read(path))
        if name in services:
            where = f"{where}: service {name!r} in {path}"
            return _service_place(_once(services[name], "a space", where), where)
    raise BadConfiguration(f"{where}: service {name!r} is in none of {', '.join(files)}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _service_place(values: Mapping[str, str], where: str) -> ConnInfo:
    password = values.get("password")
    return ConnInfo(
        host=_one_host(values.get("host", ""), where),
        port=_port(values.get("port", ""), where),
        database=values.get("dbname", ""),
        user=values.get("user", ""),
        password=Secret(password) if password else None,
        parameters=_known_parameters(values, where),
    )


def passfile_text(
    *, host: str, port: int, databases: Sequence[str], user: str, password: Secret
) -> str:
    """Return a password file for one server and some of its databases (libpq-pgpass).

    Raises BadConfiguration for a line break, which such a file cannot contain.
    """
    if re.search(r"[\r\n\0]", user + password.reveal()):
        raise BadConfiguration(
            f"the password of {user!r} has a line break in it, libpq allows none"
        )
    # for its default socket folder libpq looks up `localhost`, asyncpg for any folder
    hosts = (host, "localhost") if host.startswith("/") else (host,)
    login = (user, password.reveal())
    lines = [
        ":".join((_escaped(place), str(port), _database(name), *map(_escaped, login)))
        for place in hosts
        for name in dict.fromkeys(databases)
    ]
    return "".join(f"{line}\n" for line in lines)


def _database(name: str) -> str:
    return "*" if re.search(r"[\r\n]", name) else _escaped(name)


def _escaped(field: str) -> str:
    return re.sub(r"([\\:])", r"\\\1", field)


def passfile_password(text: str, wanted: Sequence[str]) -> str | None:
    """Return the password of the first line that matches host, port, database and user.

    `wanted` may be shorter. A field of a line may be `*`; a colon or backslash in it is escaped by
    a backslash (libpq-pgpass).
    """
    for line in text.splitlines():
        # replace escapes, split, put them back
        parts = line.replace("\\\\", "\0").replace("\\:", "\1").split(":", 4)
        fields = [part.replace("\1", ":").replace("\0", "\\") for part in parts]
        if len(fields) == 5 and not line.startswith("#"):
            pairs = zip(fields[:4], wanted, strict=False)
            if all(field in ("*", value) for field, value in pairs):
                return fields[4]
    return None


def passfile_fault(path: Path) -> str:
    """Return why libpq would ignore a password file, or nothing."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        return f"passfile {str(path)!r}: {exc.strerror}"
    if not stat.S_ISREG(mode):
        return f"passfile {str(path)!r} is not a regular file, libpq ignores it"
    if mode & 0o077:
        return (
            f"passfile {str(path)!r} can be read by others, libpq ignores it: "
            f"chmod 600 {shlex.quote(str(path))}"
        )
    return ""
