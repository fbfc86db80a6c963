"""The way out of a step of a connection that failed, from the settings that it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtasks.host import password
from pgtasks.report import typed
from pgtasks.server.quoting import quoted
from pgtasks.settings.environment import DEFAULT, Environment
from pgtasks.settings.target import Target


def remedy(step: str, text: str, target: Target, environment: Environment) -> str:
    """Return what to do about a failed step with that text, empty if its text says it."""
    known = _REMEDIES.get(step)
    return known(text, target, environment) if known else ""


def _layer(environment: Environment, *names: str) -> str:
    """Return where the first of some settings comes from that a layer sets."""
    layers = (environment.layer(name) for name in names)
    return next((layer for layer in layers if layer != DEFAULT), "the defaults")


def _name(text: str, target: Target, environment: Environment) -> str:
    where = _layer(environment, "host")
    return f"correct `host`, from {where}, or let this machine resolve the name (DNS, /etc/hosts)"


def _connect(text: str, target: Target, environment: Environment) -> str:
    where = _layer(environment, "port", "host")
    if "in time" in text or "no route" in text:
        return f"is a firewall in between? `ssh: USER@HOST` goes around it; or correct {where}"
    return f"start the server, let it listen there, or correct `host` and `port`, from {where}"


def _socket(text: str, target: Target, environment: Environment) -> str:
    where = _layer(environment, "port", "host")
    there = " on the host" if target.ssh else ""
    return f"start the server{there}, or correct `host` and `port`, from {where}"


def _answer(text: str, target: Target, environment: Environment) -> str:
    if "without TLS" in text:
        where = _layer(environment, "sslmode")
        return f"switch `ssl` on in postgresql.conf, or change `sslmode`, from {where}"
    return f"correct `port`, from {_layer(environment, 'port', 'host')}: something else is there"


def _password(text: str, target: Target, environment: Environment) -> str:
    layers = ("password_command", "passfile")
    return f"correct it in {_layer(environment, *layers)}, and try again"


def _login(text: str, target: Target, environment: Environment) -> str:
    if "no password supplied" in text:
        return (
            f"give it one: DATABASE_PASSWORD in env/{environment.name}.env, passfile, or "
            "password_command"
        )
    if "password authentication failed" in text:
        source = password.source(target, environment)
        where = source.removeprefix("from ") if source.startswith("from ") else "the settings"
        return f"correct the password, from {where}, or `user`, from {_layer(environment, 'user')}"
    if "pg_hba.conf" in text:
        return f"let {target.user!r} in by a line in pg_hba.conf on the server, and reload it"
    if "role" in text and "does not exist" in text:
        return f"correct `user`, from {_layer(environment, 'user')}, or make the role there"
    if "certificate" in text or "SSL" in text:
        return f"see `sslmode` and `sslrootcert`, from {_layer(environment, 'sslmode')}"
    if "too many" in text or "remaining connection slots" in text:
        return "close sessions, or raise max_connections on the server"
    return ""


def _database(text: str, target: Target, environment: Environment) -> str:
    if "does not exist" in text:
        # the step itself names db.create
        return f"or correct `database`, from {_layer(environment, 'database')}"
    if "permission denied" in text:
        return f"GRANT CONNECT ON DATABASE {quoted(target.database)} TO {quoted(target.user)}"
    if "not currently accepting" in text:
        return f"{typed.task('db.recover')} opens it"
    return ""


def _ssh(text: str, target: Target, environment: Environment) -> str:
    where = _layer(environment, "ssh.host")
    return f"correct `ssh`, from {where}; {typed.task('remote.check')} tries it alone"


def _tunnel(text: str, target: Target, environment: Environment) -> str:
    return (
        f"is the server there, at {target.host}:{target.port} as the host sees it? sshd must allow "
        "forwarding (AllowTcpForwarding, AllowStreamLocalForwarding)"
    )


_Remedy = Callable[[str, Target, Environment], str]
_REMEDIES: Mapping[str, _Remedy] = {
    "ssh": _ssh,
    "ssh login": _ssh,
    "command": _ssh,
    "tunnel": _tunnel,
    "name": _name,
    "socket": _socket,
    "connect": _connect,
    "answer": _answer,
    "password": _password,
    "login": _login,
    "database": _database,
}
