"""The Host protocol over SSH."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pgtasks.errors import BadConfiguration, Failed, Unreachable
from pgtasks.host import disk, password
from pgtasks.host.base import SHORT, Command, Sink, Source
from pgtasks.host.ssh import interactive
from pgtasks.host.ssh.link import Link
from pgtasks.host.ssh.process import RemoteProcess
from pgtasks.host.ssh.tunnel import Tunnel
from pgtasks.host.worker import Worker, limited
from pgtasks.settings.target import Target

_TAIL = 4000  # last characters of the stderr of a command


class SshHost:
    """The host of an SSH connection, for the length of a run."""

    bundled: tuple[str, ...] = ()

    def __init__(self, link: Link) -> None:
        self.link = link
        self._tunnels: list[Tunnel] = []
        # copied files: the path in the folder of the run, and the local one
        self._there: set[tuple[str, str]] = set()

    @property
    def name(self) -> str:
        """Return the name of the host for messages."""
        return str(self.link)

    @property
    def lost(self) -> str:
        """Return why the connection was lost, an empty text while it works."""
        dead = not self.link.transport.is_active()
        return self.link.why_lost(1.0 if dead else 0)

    def start(self, command: Command, *, stdin: Source, stdout: Sink) -> RemoteProcess:
        """Start a command on the host; its input and output use the channel."""
        return RemoteProcess(self.link, command, stdin=stdin, stdout=stdout)

    def capture(
        self, command: Command, *, seconds: float = 30, most: int = SHORT, stdin: Source = None
    ) -> str:
        """Return the output of a short command, raising Failed with its stderr."""
        process = self.start(command, stdin=stdin, stdout=subprocess.PIPE)
        assert process.stdout is not None
        chunks: list[bytes] = []
        drain = Worker(lambda: chunks.append(process.words()))
        drain.start()
        with _limit(process, seconds) as late, process.stdout as stream:
            printed = stream.read(most + 1)
            if len(printed) > most:
                raise Failed(f"{self.name}: {command} prints more than {most:,} bytes")
            code = process.wait()
        drain.wait(1)
        if late.is_set():
            raise Unreachable(f"{self.name}: {command}: no answer within {seconds:g} s")
        if code != 0:
            raise process.failure(b"".join(chunks).decode(errors="replace").strip()[-_TAIL:])
        return printed.decode(errors="replace")

    def interact(self, command: Command) -> int:
        """Give the terminal to a command on the host until it ends, and return its exit code."""
        env = " ".join(shlex.quote(f"{key}={value}") for key, value in command.env.items())
        sudo = self.link.login.sudo_user
        before = ["sudo", "-n", "-H", "-u", sudo, "--"] if sudo else []
        line = " ".join([*before, "env", env, shlex.join(command.argv)])
        return interactive.converse(self.link, line)

    @contextmanager
    def passfile(self, target: Target, *, also: Sequence[str] = ()) -> Iterator[str]:
        """Provide a password file in the run's folder for the length of a block."""
        if target.password is None:
            yield ""
            return
        path = f"{self.link.room}/{secrets.token_hex(6)}.pgpass"
        self.put(path, password.passfile_text(self.view(target), also).encode())
        try:
            yield path
        finally:
            self._forget(path)

    @contextmanager
    def lend(self, content: bytes) -> Iterator[str]:
        """Provide a file in the run's folder for the length of a block."""
        path = f"{self.link.room}/{secrets.token_hex(6)}.txt"
        self.put(path, content)
        try:
            yield path
        finally:
            self._forget(path)

    def put(self, path: str, content: bytes) -> None:
        """Write a small file on the host, which only its owner can read."""
        reader, writer = os.pipe()
        threading.Thread(target=_fed, args=(writer, content), daemon=True).start()
        try:
            self.capture(Command(("/bin/sh", "-c", 'cat > "$1"', "sh", path)), stdin=reader)
        finally:
            os.close(reader)

    def _forget(self, path: str) -> None:
        try:
            self.capture(Command(("rm", "-f", "--", path)))
        except (Failed, Unreachable):
            pass  # the watchdog removes the folder

    def view(self, target: Target) -> Target:
        """Return the target as commands on the host reach it, after copying the files for libpq."""
        tools = target.ssh.bin if target.ssh else ""
        parameters = dict(target.parameters)
        if not target.socket:
            parameters |= {key: self._lent(key, path) for key, path in _files(parameters)}
        return replace(target, end=None, tools=tools, parameters=parameters)

    def _lent(self, key: str, path: str) -> str:
        """Copy a local file to the run's folder, once, and return its path there."""
        remote_path = f"{self.link.room}/{key}"
        if path != remote_path and (remote_path, path) not in self._there:
            try:
                self.put(remote_path, Path(path).read_bytes())
            except OSError as exc:
                raise BadConfiguration(f"{key} {path!r}: {exc.strerror}") from None
            self._there.add((remote_path, path))
        return remote_path

    def free_bytes(self, path: str) -> int | None:
        """Return the free bytes of the file system that holds `path`, None if unknown."""
        try:
            text = self.capture(Command(("df", "-Pk", "--", path)))
        except Failed:
            return None
        parsed = disk.parse(path, text)
        return parsed.free if parsed else None

    def tunnel(self, target: Target) -> Tunnel:
        """Return a tunnel to the target's server, open until the host is closed."""
        self._tunnels.append(Tunnel(self.link, target))
        return self._tunnels[-1]

    def close(self) -> None:
        """Close the tunnels and the connection."""
        for tunnel in self._tunnels:
            tunnel.close()
        self.link.close()


@contextmanager
def _limit(process: RemoteProcess, seconds: float) -> Iterator[threading.Event]:
    """End a command when a block takes too long, which the event then says, or raises."""
    with limited(seconds, process.close) as late:
        try:
            yield late
        except BaseException:
            process.close()
            raise


def _fed(handle: int, content: bytes) -> None:
    # if a command does not read, its exit code and stderr tell why
    with suppress(OSError), os.fdopen(handle, "wb") as file:
        file.write(content)


def _files(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the parameters of libpq that name a file."""
    for key in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        # `system`: the certificate authorities of OpenSSL on the host
        if parameters.get(key, "system") != "system":
            yield key, parameters[key]
