"""Log in to a database host, and find its server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.host import peer
from pgtasks.host.base import Command
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import Link
from pgtasks.settings import libpq
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import SOCKET_FOLDERS, SocketFacts, Target


def landed(target: Target) -> tuple[SshHost, Target]:
    """Return a host, which the caller closes, and the target without a tunnel."""
    assert target.ssh is not None
    host = SshHost(Link(target.ssh, environment=target.environment))
    try:
        account = target.ssh.sudo_user or host.link.settings.user
        facts = _socket(host, target, account)
        host_target = replace(
            target,
            host=facts.folder if facts else target.host,
            user=target.user or account,
            peer=facts,
        )
        return host, _with_password(host_target)
    except BaseException:
        host.close()
        raise


def _socket(host: SshHost, target: Target, account: str) -> SocketFacts | None:
    """Return the facts about the server's socket on the host, None for a target by address.

    Without a `host` it is the first socket in the usual folders, localhost if there is none.
    """
    if target.host and not target.socket:
        return None
    folders = (target.host,) if target.host else SOCKET_FOLDERS
    argv = ("/bin/sh", "-c", peer.LOOK, "sh", str(target.port), *folders)
    facts = peer.parsed(host.capture(Command(argv, {"LC_ALL": "C"})), account)
    if facts.folder not in (*folders, "localhost"):
        raise Failed(f"{host.name}: the search for the server's socket returned {facts.folder!r}")
    return facts


def _with_password(target: Target) -> Target:
    """Return the target with its password from a local password file, by its real address.

    libpq would look up the address of the tunnel, which the file does not contain.
    """
    if target.password is not None or target.password_command:
        return target
    path = Path(target.passfile or os.environ.get("PGPASSFILE") or "~/.pgpass").expanduser()
    if libpq.passfile_fault(path):
        return target
    hosts = (target.host, "localhost") if target.socket else (target.host,)
    text = path.read_text("utf-8", "replace")
    for host in hosts:
        wanted = (host, str(target.port), target.database, target.user)
        password = libpq.passfile_password(text, wanted)
        if password:
            return replace(target, password=Secret(password))
    return target
