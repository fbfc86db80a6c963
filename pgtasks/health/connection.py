"""Find the step at which a connection fails."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks import report
from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.health.remedy import remedy
from pgtasks.host import password
from pgtasks.host.base import Command
from pgtasks.report import typed
from pgtasks.server import reach
from pgtasks.server.connection import Connection
from pgtasks.server.reach import Reached
from pgtasks.settings import libpq
from pgtasks.settings.environment import Environment
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from pgtasks.host.ssh.host import SshHost
    from pgtasks.host.ssh.link import Link

# SSLRequest: length 8, code 80877103. Every server answers it with one byte before anything else
# (protocol-flow, "SSL Session Encryption").
_SSL_REQUEST = bytes((0, 0, 0, 8, 4, 210, 22, 47))
_WORDS = {
    errno.ECONNREFUSED: "refused: nothing listens on that port",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.ENOENT: "no such socket",
    errno.EACCES: "this account may not use that socket",
}


@dataclass(frozen=True)
class ConnectionStep:
    """One step of a connection with its result; `ok` is false if it failed.

    `way` is the way out of a failed one; a `note` is worth a look, and no fault.
    """

    name: str
    ok: bool
    text: str
    way: str = ""
    note: bool = False

    def lines(self, width: int) -> list[str]:
        """Return what a person reads; `width` is that of the names."""
        word = "FAILED" if not self.ok else "note" if self.note else "ok"
        lines = [report.hanging(f"{word:6}  {self.name:{width}}  ", self.text)]
        return [*lines, report.hanging(f"{'':6}  {'':{width}}  ", self.way)] if self.way else lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "ok": self.ok, "text": self.text, "way_out": self.way or None}


@dataclass(frozen=True)
class Diagnosis:
    """The steps of a connection, up to the first failed one."""

    steps: tuple[ConnectionStep, ...]

    @property
    def failed(self) -> ConnectionStep | None:
        """Return the failed step, None if there is none."""
        return next((step for step in self.steps if not step.ok), None)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        width = max(len(step.name) for step in self.steps)
        return [line for step in self.steps for line in step.lines(width)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"steps": [step.as_json() for step in self.steps]}

    def check(self) -> None:
        """Raise Unreachable with all steps, if one failed."""
        if self.failed:
            raise unreachable(self.failed, self.as_json(), hint="\n".join(self.lines()))


def unreachable(failed: ConnectionStep, details: Mapping[str, Any], hint: str = "") -> Unreachable:
    """Return the error for a failed step."""
    return Unreachable(f"{failed.name}: {failed.text}", hint=hint, details=details)


def diagnose(target: Target, environment: Environment, root: Path) -> tuple[ConnectionStep, ...]:
    """Take the steps as `steps` does, raising Unreachable with those so far if one fails."""
    diagnosis = Diagnosis(steps(target, environment, root))
    diagnosis.check()
    return diagnosis.steps


def steps(target: Target, environment: Environment, root: Path) -> tuple[ConnectionStep, ...]:
    """Try the steps of a connection up to the first that fails, which then has its way out.

    `target` is that of `environment`. It does not start an embedded server, nor ask for a password.
    """
    taken = []
    with closing(_steps(target, environment, root)) as every:
        for step in every:
            if not step.ok:
                way = remedy(step.name, step.text, target, environment)
                taken.append(replace(step, way=way))
                break
            taken.append(step)
    return tuple(taken)


def _steps(
    target: Target, environment: Environment, root: Path
) -> Generator[ConnectionStep, None, None]:
    if target.ssh:
        yield from _over_ssh(target, environment, root)
        return
    if target.embedded:
        from pgtasks.server import embedded

        server = embedded.status(root, major=target.major)
        yield _embedded(server)
        assert server is not None
        target = replace(target, host=str(server.socket), port=server.port)
    if target.socket:
        yield from _through_socket(target)
    else:
        yield from _through_tcp(target)
    yield from _logged_in(Reached(target), environment, root)


def _over_ssh(target: Target, environment: Environment, root: Path) -> Iterator[ConnectionStep]:
    from pgtasks.host.ssh import login
    from pgtasks.host.ssh.hostkeys import HostKeyError
    from pgtasks.host.ssh.route import LoginDenied
    from pgtasks.host.ssh.watchdog import NoCommand

    failing: dict[type[PgtasksError], str] = {
        HostKeyError: "host key",
        LoginDenied: "ssh login",
        NoCommand: "command",
    }
    try:
        host, target = login.landed(target)
    except PgtasksError as exc:
        kinds = [name for kind, name in failing.items() if isinstance(exc, kind)]
        yield ConnectionStep(kinds[0] if kinds else "ssh", False, exc.message)
        return
    try:
        yield from _landed(host.link)
        yield from _through_tunnel(host, target, environment, root)
    finally:
        host.close()


def _landed(link: Link) -> Iterator[ConnectionStep]:
    """Yield the steps of an open SSH connection."""
    from pgtasks.host.ssh.hostkeys import fingerprint

    settings, transport = link.settings, link.transport
    through = f" through {', '.join(settings.jumps)}" if settings.jumps else ""
    version = transport.remote_version.removeprefix("SSH-2.0-")
    yield ConnectionStep("ssh", True, f"{settings.host} port {settings.port}{through}: {version}")
    key = transport.get_remote_server_key()
    yield ConnectionStep("host key", True, f"{key.get_name()} {fingerprint(key)}, the known one")
    with_key = link.connection.connect_kwargs["auth_strategy"].tried[-1]
    yield ConnectionStep("ssh login", True, f"{settings.user}, with {with_key}")
    account = link.login.sudo_user or settings.user
    yield ConnectionStep("command", True, f"commands run there as {account}")


def _through_tunnel(
    host: SshHost, target: Target, environment: Environment, root: Path
) -> Iterator[ConnectionStep]:
    if target.socket:
        yield _socket_there(host, target)
    address = f"{target.host}:{target.port}"
    try:
        reached = reach.tunnelled(host, target)
    except PgtasksError as exc:
        yield ConnectionStep("tunnel", False, exc.message)
        return
    end = reached.target.end
    assert end is not None
    local = f"{end.host}:{end.port}"
    if end.host.startswith("/"):
        local = libpq.socket_path(end.host, end.port)
    yield ConnectionStep("tunnel", True, f"{local} here leads to {address} there")
    yield _answer_through(reached.target)
    yield from _logged_in(reached, environment, root)


def _socket_there(host: SshHost, target: Target) -> ConnectionStep:
    command = Command(("/bin/sh", "-c", 'ls -A -- "$1"', "sh", target.host))
    try:
        names = host.capture(command).split("\n")
    except Failed as exc:
        return ConnectionStep(
            "socket", False, f"folder {target.host!r} there: {exc.hint or exc.message}"
        )
    return _socket_among(names, target)


def _embedded(server: Any) -> ConnectionStep:
    start = typed.task("server.start")
    if server is None:
        return ConnectionStep("server", False, f"never started here, {start} creates it")
    if server.pid is None:
        return ConnectionStep(
            "server", False, f"the embedded server does not run, {start} starts it"
        )
    return ConnectionStep("server", True, f"the embedded server runs, PostgreSQL {server.major}")


def _through_socket(target: Target) -> Iterator[ConnectionStep]:
    yield _socket_file(target)
    path = _path(target)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_seconds(target))
        try:
            client.connect(path)
        except OSError as exc:
            yield ConnectionStep("connect", False, f"{path}: {_words(exc)}")
            return
        yield ConnectionStep("connect", True, f"{path} accepts connections")
        yield _answer(client, target)


def _path(target: Target) -> str:
    return libpq.socket_path(target.host, target.port)


def _socket_file(target: Target) -> ConnectionStep:
    folder = Path(target.host)
    try:
        sockets = [other.name for other in folder.iterdir() if _is_socket(other)]
    except OSError as exc:
        return ConnectionStep("socket", False, f"folder {target.host!r}: {exc.strerror}")
    return _socket_among(sockets, target)


def _socket_among(names: Iterable[str], target: Target) -> ConnectionStep:
    path, ports = _path(target), _ports(names)
    if target.port in ports:
        return ConnectionStep("socket", True, f"{path} is there")
    others = f"there are ports {', '.join(map(str, ports))}" if ports else "no server runs there"
    return ConnectionStep("socket", False, f"{path} is not there, {others}")


def _ports(names: Iterable[str]) -> list[int]:
    """Return the ports of the sockets in a list of files; each has a .lock file."""
    sockets = (name for name in names if name.startswith(libpq.SOCKET))
    ports = (name.removeprefix(libpq.SOCKET) for name in sockets)
    return sorted(int(port) for port in ports if port.isdecimal())


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _through_tcp(target: Target) -> Iterator[ConnectionStep]:
    host = target.parameters.get("hostaddr") or target.host
    try:
        resolved = socket.getaddrinfo(host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        yield ConnectionStep("name", False, f"{host!r}: {getattr(exc, 'strerror', None) or exc}")
        return
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in resolved))
    yield ConnectionStep("name", True, f"{host} is {', '.join(addresses)}")
    faults = []
    for address in addresses:
        try:
            client = socket.create_connection((address, target.port), _seconds(target))
        except OSError as exc:
            faults.append(f"{address} port {target.port}: {_words(exc)}")
            continue
        with client:
            yield ConnectionStep(
                "connect", True, f"{address} port {target.port} accepts connections"
            )
            yield _answer(client, target)
            return
    yield ConnectionStep("connect", False, "; ".join(faults))


def _answer_through(target: Target) -> ConnectionStep:
    """Ask the server through a tunnel for TLS."""
    end = target.end
    assert end is not None
    unix = end.host.startswith("/")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
        client.settimeout(_seconds(target))
        try:
            client.connect(_path(target.here()) if unix else (end.host, end.port))
        except OSError as exc:
            return ConnectionStep("answer", False, f"no answer: {_words(exc)}")
        return _answer(client, target)


def _answer(client: socket.socket, target: Target) -> ConnectionStep:
    """Ask the server whether it supports TLS: only PostgreSQL answers S or N."""
    if target.parameters.get("sslnegotiation") == "direct":
        return ConnectionStep("answer", True, "not asked: sslnegotiation is direct")
    try:
        client.sendall(_SSL_REQUEST)
        reply = client.recv(1)
    except OSError as exc:
        return ConnectionStep("answer", False, f"no answer: {_words(exc)}")
    if reply not in (b"S", b"N"):
        behaviour = "it closed the connection" if not reply else "it does not speak the protocol"
        return ConnectionStep("answer", False, f"this is not a PostgreSQL server: {behaviour}")
    sslmode = target.parameters.get("sslmode", "prefer")
    if target.socket:
        return ConnectionStep("answer", True, "a PostgreSQL server")
    if reply == b"N" and libpq.wants_tls(target.parameters):
        return ConnectionStep(
            "answer", False, f"a PostgreSQL server without TLS, and sslmode is {sslmode}"
        )
    tls = "with" if reply == b"S" else "without"
    return ConnectionStep("answer", True, f"a PostgreSQL server {tls} TLS, sslmode is {sslmode}")


def _logged_in(reached: Reached, environment: Environment, root: Path) -> Iterator[ConnectionStep]:
    try:
        target = password.unlocked(reached.target, root)
    except PgtasksError as exc:
        yield ConnectionStep("password", False, exc.message)
        return
    yield ConnectionStep("password", True, password.source(target, environment))
    reached = replace(reached, target=target)
    for name, database in (("login", target.maintenance), ("database", target.database)):
        try:
            with reached.at(database).session(read_only=True, purpose="diagnosis") as conn:
                yield ConnectionStep(name, True, f"{target.user} can connect to {database!r}")
                if name == "login" and not reached.target.here().socket:
                    yield _encryption(conn, reached.target)
        except Unreachable as exc:
            yield ConnectionStep(name, False, exc.message)
            return


def _encryption(conn: Connection, target: Target) -> ConnectionStep:
    """Return what protects the bytes of a connection over the network."""
    mode = target.parameters.get("sslmode", "prefer")
    if not conn.info.ssl_in_use:
        through = ", but for the ssh that carries it" if target.end else ""
        return ConnectionStep("tls", True, f"not encrypted{through}, sslmode is {mode}")
    protocol, cipher = (conn.info.ssl_attribute(name) for name in ("protocol", "cipher"))
    checked = {"verify-full": "the server's name and certificate were checked"}
    checked |= {"verify-ca": "its certificate was checked, not its name"}
    who = checked.get(mode, f"nobody checked whose server it is, sslmode is {mode}")
    return ConnectionStep("tls", True, f"{protocol}, {cipher}; {who}")


def _seconds(target: Target) -> float:
    return float(target.parameters.get("connect_timeout") or 10)


def _words(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time: a firewall, or no such host?"
    return _WORDS.get(exc.errno or 0) or exc.strerror or str(exc)
