"""What stands in for a machine where namespaces cannot be made: this one, with a port of its own.

Only what its sshd and its server started counts as running there. It has no link to cut, no
accounts and no file system of its own: whatever would touch a file outside its folder is skipped.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from machines import PATH, Process
from sites import Site
from waiting import PATIENCE, until

from pgtasks.host import orphans
from pgtasks.server.embedded.port import free_port

_MARK = "PGTASKS_TEST_HOST"
# where a path begins in a command line or a script; a word's own slashes (s/a/b/) begin none
_PATHS = re.compile(r"(?:^|[^\w.*?/\]}-])(~?/[^\s'\";|&<>)]*)")
_DEVICES = ("/dev/null", "/dev/zero")


def missing() -> str:
    """Return why not even this can be had, or nothing."""
    if not Path("/proc/self/environ").exists():
        return "a host on loopback needs Linux"
    if shutil.which("sshd", path=PATH) is None:
        return "openssh-server is not installed"
    return "" if shutil.which("ssh-keygen") else "openssh-client is not installed"


@dataclass
class Loopback:
    """This machine, seen as one of several; `lacks` says why it is no machine of its own.

    `places` are the folders that are its own.
    """

    site: Site
    name: str
    lacks: str
    address: str = "127.0.0.1"
    links: Sequence[Any] = ()
    roots: set[int] = field(default_factory=set)
    places: list[Path] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make its folder; end it with the site."""
        self.places.append(self.site.folder)
        for folder in (self.folder, self.ssh, Path(self.temporary), Path(self.backups)):
            folder.mkdir()
        Path(self.backups).chmod(0o700)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants it, as root
        self.site.stack.callback(self.end)

    @property
    def folder(self) -> Path:
        """Return the folder of what is written for it."""
        return self.site.folder / self.name

    @property
    def ssh(self) -> Path:
        """Return the folder of its sshd's files."""
        return self.folder / "ssh"

    @property
    def temporary(self) -> str:
        """Return the folder for temporary files of sessions there."""
        return str(self.folder / "tmp")

    @property
    def backups(self) -> str:
        """Return the folder for backups there."""
        return str(self.folder / "backups")

    def own(self, *words: str | Path) -> None:
        """Skip the test where words of a command name files that are not the stand-in's own.

        All of this machine is to be seen from it, and clean-ups of tests are thorough.
        """
        for path in (found for word in words for found in _PATHS.findall(str(word))):
            wanted = Path(os.path.normpath(path))
            if path not in _DEVICES and not any(map(wanted.is_relative_to, self.places)):
                pytest.skip(f"{path} would be this machine's own: {self.lacks}")

    def path(self, path: str | Path) -> Path:
        """Return the path itself, of a file of its own."""
        self.own(Path("/", path))
        return Path(path)

    def run(
        self, *argv: str | Path, user: str = "", input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this account."""
        if user not in ("", "root", getpass.getuser()):
            pytest.skip(f"no account {user!r} there: {self.lacks}")
        self.own(*argv[1:])
        return subprocess.run(
            [str(word) for word in argv],
            cwd=self.folder,  # a relative path is not one of the developer's files either
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )

    def do(self, *argv: str | Path, user: str = "", input: str | None = None) -> str:
        """Run a command that must succeed and return its output."""
        done = self.run(*argv, user=user, input=input)
        assert done.returncode == 0, f"{self.name}: {argv}: {done.stderr or done.stdout}"
        return done.stdout

    def start(self, *argv: str | Path, log: Path, user: str = "") -> subprocess.Popen[bytes]:
        """Start a command that stays until the end."""
        self.own(*argv[1:])
        with log.open("ab") as file:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        orphans.watch(process.pid, signal.SIGKILL)
        self._started.append(process)
        return process

    def process_of(self, started: subprocess.Popen[bytes]) -> int:
        """Return the process that `start` started."""
        return started.pid

    def sshd(self) -> dict[str, str]:
        """Return the lines of sshd_config that differ: sessions carry a mark, to be found by."""
        return {
            "ListenAddress": self.address,
            "Port": str(free_port()),
            "SetEnv": f"{_MARK}={self.ssh} TMPDIR={self.temporary}",
            "StrictModes": "no",  # the folder lies in /tmp, where all may write
            "PermitRootLogin": "prohibit-password",
        }

    def everything(self) -> list[Process]:
        """Return what descends from its sshd or `roots`, and what carries its mark."""
        found = {each.outside: each for each in _processes()}
        ours = {process.pid for process in self._started} | self.roots
        ours |= {pid for pid in found if _marked(pid, f"{_MARK}={self.ssh}".encode())}
        while more := {pid for pid, each in found.items() if each.parent in ours} - ours:
            ours |= more
        return [found[pid] for pid in sorted(ours) if pid in found]

    def end(self) -> None:
        """End what was started."""
        for each in self.everything():
            try:
                os.kill(each.outside, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended meanwhile
        for process in self._started:
            process.wait(PATIENCE)
            orphans.forget(process.pid)
        until(lambda: not self.everything(), lambda: f"does not end: {self.everything()}")


def _processes() -> list[Process]:
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found = [each for each in map(Process.seen, numbers) if each]
    names = {str(entry.pw_uid): entry.pw_name for entry in pwd.getpwall()}
    return [replace(each, user=names.get(each.user, each.user)) for each in found]


def _marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # another account's, or it ended
