"""Where the hosts of one test session are: a folder, a range of addresses of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from paths import TEMPORARY
from waiting import until


class Site:
    """What the hosts of one test session share: a folder, a range of addresses."""

    def __init__(self, *, addresses: bool = True) -> None:
        self._claim, self.number = _claimed(addresses)
        self.folder = _folder(self.number)
        self.folder.mkdir(mode=0o755)
        self.stack = ExitStack()  # ends what was started, the last first
        self._links = 0

    def link(self) -> tuple[str, str]:
        """Return the addresses of the two ends of a new link."""
        self._links += 1
        first = self._links * 4
        return f"10.97.{self.number}.{first + 1}", f"10.97.{self.number}.{first + 2}"

    def close(self) -> None:
        """End all hosts and remove what they left on disk."""
        try:
            self.stack.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._claim.close()


def _folder(number: int) -> Path:
    return TEMPORARY / f"pgt-hosts-{number}"  # short: sockets are created in it


def _claimed(addresses: bool) -> tuple[socket.socket, int]:
    """Take the first free range of addresses; sweep what killed sessions left on disk.

    The claim is a socket's name: it ends with the process that holds it, so a folder whose name
    nobody claims is a leftover.
    """
    found: tuple[socket.socket, int] | None = None
    for number in range(256):
        if (folder := _folder(number)).exists() or found is None:
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0pgtasks-hosts-{number}")
            except OSError:
                claim.close()
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if found is None and not folder.exists() and (not addresses or _unused(number)):
                found = claim, number
            else:
                claim.close()
    assert found is not None, "no range of addresses below 10.97.0.0/16 is free"
    number = found[1]
    until(lambda: not _left_links(number), lambda: f"left behind: {_left_links(number)}")
    return found


def _unused(number: int) -> bool:
    """Return whether no address, network or gateway that this machine knows is among these."""
    done = subprocess.run(
        ["ip", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=True
    )
    return f"10.97.{number}." not in done.stdout


def _left_links(number: int) -> list[Path]:
    return list(Path("/sys/class/net").glob(f"pgt{number}-*"))
