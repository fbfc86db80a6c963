"""A throw-away sshd on 127.0.0.1 that lets this user in; gone when its block ends."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.host import orphans
from pgtasks.server.embedded.port import free_port

_PATIENCE = 20.0  # seconds until an sshd that does not listen is a failure
_HOST = "127.0.0.1"
# SHLVL: bash then leaves this user's .bashrc alone, whose work is no part of the comparison
_CONFIG = """\
ListenAddress {host}
Port {port}
HostKey {room}/host_key
AuthorizedKeysFile {room}/id_ed25519.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv SHLVL=1
"""
_CLIENT = """\
Host bench
HostName {host}
Port {port}
User {user}
IdentityFile {room}/id_ed25519
IdentitiesOnly yes
UserKnownHostsFile {room}/known_hosts
GlobalKnownHostsFile none
BatchMode yes
"""


@dataclass(frozen=True)
class Sshd:
    """A running sshd: how OpenSSH's client and pgtasks reach it."""

    room: Path
    port: int

    def client(self, program: str) -> list[str]:
        """Return the beginning of a command line of ssh or scp; the host is called `bench`."""
        return [program, "-F", str(self.room / "client")]

    def block(self, **more: str) -> str:
        """Return the `ssh` block of an environment, in YAML."""
        values = {"host": _HOST, "port": str(self.port), "user": getpass.getuser()}
        values |= {"identity": str(self.room / "id_ed25519")}
        values |= {"known_hosts": str(self.room / "known_hosts"), **more}
        return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def program() -> str | None:
    """Return the path of sshd, which starts from an absolute path alone."""
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))


@contextmanager
def running(room: Path) -> Iterator[Sshd]:
    """Run an sshd for the length of a block, its keys and settings in `room`."""
    sshd = program()
    if sshd is None:
        raise Failed("there is no sshd here: install openssh-server")
    room.mkdir()
    for name in ("host_key", "id_ed25519"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(room / name)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks itself in
    found = Sshd(room, free_port())
    values = {"host": _HOST, "port": found.port, "room": room, "user": getpass.getuser()}
    (room / "sshd_config").write_text(_CONFIG.format(**values))
    (room / "client").write_text(_CLIENT.format(**values))
    kind, key = (room / "host_key.pub").read_text().split()[:2]
    (room / "known_hosts").write_text(f"[{_HOST}]:{found.port} {kind} {key}\n")
    with (room / "log").open("wb") as log:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(room / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    orphans.watch(process.pid, signal.SIGTERM)
    try:
        _wait(process, found, room / "log")
        yield found
    finally:
        process.terminate()
        process.wait(_PATIENCE)
        orphans.forget(process.pid)


def _wait(process: subprocess.Popen[bytes], sshd: Sshd, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((_HOST, sshd.port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed("sshd did not start", hint=log.read_text("utf-8")) from None
            time.sleep(0.05)
