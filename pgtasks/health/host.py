"""Check whether a database host is ready for the tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.store import remote
from pgtasks.errors import PgtasksError, Unreachable, VersionMismatch
from pgtasks.health import finding
from pgtasks.health.finding import Finding
from pgtasks.host import password, tools
from pgtasks.host.ssh import facts, hostkeys, login
from pgtasks.host.ssh.config import below_home
from pgtasks.host.ssh.facts import HostFacts
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import ChannelForbidden
from pgtasks.server import connection, reach
from pgtasks.settings import libpq, ssh
from pgtasks.settings.target import Target

_CLOCKS_APART = 2.0  # seconds; the IDs of backups are times
_LONG_WAY = 0.1  # seconds of a round trip; a command takes three
_LITTLE = 0.1  # of a disk


@dataclass(frozen=True)
class HostKey:
    """A host on the way, its key, and the known_hosts line with it."""

    host: str
    kind: str
    fingerprint: str
    known: str


@dataclass(frozen=True)
class Server:
    """The server, as seen from the host; `data` is its data folder, if known.

    `fault` is the reason why it does not answer.
    """

    version: str = ""
    major: int = 0
    data: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Survey:
    """All facts about a host; `trip` is the time of a round trip, in seconds."""

    target: Target
    seconds: float  # until the login was done
    trip: float
    keys: tuple[HostKey, ...]
    login: str
    unapplied: tuple[str, ...]
    forwards: bool
    facts: HostFacts
    server: Server

    def findings(self) -> list[Finding]:
        """Return the findings, with the way out for each problem."""
        return [
            *_login(self),
            *_machine(self.facts, self.target.jobs),
            _server(self),
            *_tools(self),
            *_disks(self.facts),
            *_backups(self.facts),
        ]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [finding.table(self.findings())]

    def summary(self) -> str:
        """Return one line: `PostgreSQL 15.4 on db1, noted: clock`."""
        noted = finding.noted(self.findings())
        return f"PostgreSQL {self.server.version} on {self.facts.hostname}{noted}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.target.environment,
            "host": str(self.target.ssh),
            "seconds": round(self.seconds, 3),
            "round_trip": round(self.trip, 4),
            "host_keys": [vars(key) for key in self.keys],
            "login": self.login,
            "server": self.server.version or None,
            "facts": self.facts.as_json(),
            "findings": [vars(each) for each in self.findings()],
        }

    def check(self) -> None:
        """Raise Unreachable if the server does not answer, VersionMismatch if no tool fits it."""
        if self.server.fault:
            raise Unreachable(self.server.fault, details=self.as_json())
        for each in self.findings():
            if each.state == "fault":
                raise VersionMismatch(each.text, details=self.as_json())


def examine(target: Target, root: Path) -> Survey:
    """Check the host of a target, without changing anything. Raises Unreachable.

    A server that does not answer is a finding.
    """
    ssh.required(target.ssh, target.environment)
    target = password.unlocked(target, root)
    host, host_target = login.landed(target)
    try:
        return _examined(host, host_target)
    finally:
        host.close()


def ask(target: Target) -> HostFacts:
    """Return the facts about the host of a target, raising Unreachable."""
    ssh.required(target.ssh, target.environment)
    host, host_target = login.landed(target)
    try:
        return facts.ask(host, _backups_folder(host_target))
    finally:
        host.close()


def _backups_folder(target: Target) -> str:
    return (target.ssh.backups if target.ssh else "") or remote.DEFAULT


def _examined(host: SshHost, target: Target) -> Survey:
    began = time.monotonic()
    host.link.session().close()
    trip = time.monotonic() - began
    target, server = _answer(host, target)
    return Survey(
        target=target,
        seconds=host.link.opened,
        trip=trip,
        keys=tuple(_keys(host)),
        login=host.link.route.key,
        unapplied=tuple(
            f"{each.host}: {line}" for each in host.link.route.hosts for line in each.unapplied
        ),
        forwards=_forwards(host, target),
        facts=facts.ask(host, _backups_folder(target), server.data),
        server=server,
    )


def _answer(host: SshHost, target: Target) -> tuple[Target, Server]:
    """Return the target, with its tunnel, and its server."""
    try:
        reached = reach.answering(reach.tunnelled(host, target))
        target = reached.target
        with closing(reached.maintenance()) as conn:
            # without the right to read the setting there is no row
            version, data = connection.rows(
                conn,
                "SELECT current_setting('server_version'),"
                " (SELECT setting FROM pg_settings WHERE name = 'data_directory')",
                into=tuple[str, str | None],
            )[0]
            major = conn.server_version // 10000
            return target, Server(version.split()[0], major, data or "")
    except PgtasksError as exc:
        if host.link.lost:
            raise
        return target, Server(fault=exc.message)


def _keys(host: SshHost) -> Iterator[HostKey]:
    route = host.link.route
    for settings, each in zip(route.hosts, route.connections, strict=True):
        key = each.transport.get_remote_server_key()
        line = hostkeys.check(settings, key)
        known = f"{line.file}:{line.number}"
        yield HostKey(str(settings), key.get_name(), hostkeys.fingerprint(key), known)


def _forwards(host: SshHost, target: Target) -> bool:
    """Return whether sshd forwards the server's socket, if that exists."""
    if not target.socket or target.end is None:
        return True
    try:
        host.link.socket(libpq.socket_path(target.host, target.port)).close()
    except (ChannelForbidden, Unreachable):
        if host.link.lost:
            raise
        return False
    return True


def _login(survey: Survey) -> Iterator[Finding]:
    ssh = survey.target.ssh
    assert ssh is not None
    way = " through ".join([str(ssh), *(key.host for key in reversed(survey.keys[:-1]))])
    duration = report.duration(survey.seconds)
    yield Finding("ssh", "ok", f"{way} in {duration}, by {below_home(survey.login)}")
    for number, key in enumerate(survey.keys, 1):
        subject = "host key" if number == len(survey.keys) else "jump host key"
        yield Finding(
            subject, "ok", f"{key.kind} {key.fingerprint}, known by {below_home(key.known)}"
        )
    for line in survey.unapplied:
        yield Finding("ssh_config", "note", f"{line} has no effect here")
    far = survey.trip > _LONG_WAY
    slow = f": slow, a command takes {report.duration(3 * survey.trip)}" if far else ""
    text = f"{report.duration(survey.trip)} there and back{slow}"
    yield Finding("line", "note" if far else "ok", text)
    if ssh.sudo_user:
        text = f"commands run as {survey.facts.account}; each connection is a process there"
        yield Finding("sudo", "ok", text)
    elif not survey.forwards:
        text = "sshd forwards no sockets (AllowStreamLocalForwarding): each connection is a process"
        yield Finding("relay", "note", f"{text} there")


def _machine(host_facts: HostFacts, jobs: int) -> Iterator[Finding]:
    parts = [host_facts.distribution or host_facts.system]
    if host_facts.cpus:
        parts.append(report.plural(host_facts.cpus, "CPU"))
    if host_facts.memory:
        parts.append(f"{report.size(host_facts.memory)} of memory")
    yield Finding("host", "ok", f"{host_facts.hostname}: {', '.join(parts)}")
    if 0 < host_facts.cpus < jobs:
        yield Finding("jobs", "note", f"{jobs} are no faster than {host_facts.cpus} there")
    apart = abs(host_facts.clock or 0.0) - host_facts.doubt > _CLOCKS_APART
    text = facts.described_clock(host_facts)
    if apart:
        text += ": the IDs of backups are times of our clock"
    yield Finding("clock", "note" if apart else "ok", text)


def _server(survey: Survey) -> Finding:
    if survey.server.fault:
        return Finding("server", "fault", survey.server.fault)
    target = survey.target
    place = f"{target.host}:{target.port}"
    return Finding(
        "server", "ok", f"PostgreSQL {survey.server.version} on {place}, as {target.user}"
    )


def _tools(survey: Survey) -> Iterator[Finding]:
    """Yield the tools that dump and restore this server, and their limits."""
    toolsets, major, target = survey.facts.tools, survey.server.major, survey.target
    if not toolsets:
        text = "no pg_dump there: install the PostgreSQL client, or name its folder in `ssh.bin`"
        yield Finding("tools", "fault", text)
        return
    if not major:
        yield Finding(
            "tools", "note", f"{', '.join(map(str, toolsets))}, for a server of any version"
        )
        return
    try:
        chosen = tools.for_dump(toolsets, major, target)
    except VersionMismatch as exc:
        yield Finding("tools", "fault", exc.message)
        return
    yield Finding("tools", "ok", str(chosen))
    if "zstd" not in chosen.compressions:
        text = "gzip: zstd is faster and smaller, pg_dump 16 or newer may support it"
        yield Finding("compression", "note", text)
    try:
        tools.for_restore(toolsets, major, chosen.major, "gzip", target)
    except VersionMismatch as exc:
        yield Finding("restore", "note", exc.message)


def _disks(host_facts: HostFacts) -> Iterator[Finding]:
    for disk in host_facts.disks:
        little = disk.free < _LITTLE * disk.size
        text = f"{disk.folder}: {facts.described_disk(disk)}"
        yield Finding("disk", "note" if little else "ok", text)


def _backups(host_facts: HostFacts) -> Iterator[Finding]:
    """Yield what `db.backup --on-host`, backup.fetch and backup.send require."""
    text = facts.described_folder(host_facts.backups)
    if host_facts.backups.writable:
        yield Finding("backups there", "ok", text)
    else:
        yield Finding("backups there", "note", f"{text}: no db.backup --on-host, no backup.send")
    lacking = [] if "tar" in host_facts.programs else ["tar"]
    if not {"sha256sum", "shasum"} & host_facts.programs.keys():
        lacking.append("sha256sum")
    if lacking:
        text = f"no {' and no '.join(lacking)}: no db.backup --on-host, backup.fetch, backup.send"
        yield Finding("programs", "note", text)
