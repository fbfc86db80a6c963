"""Canaries: files in shared folders, which no clean-up of the tests may reach.

A test removes what it made, by its name. One that empties a folder that is not its own takes the
developer's files along: the run that did so fails, and says where.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

# what clean-ups on a test's machine name, and what its programs write to
PLACES = ("/tmp", "/var/tmp", "/srv", "/srv/backups", "/opt", "/var/lib", "~")
_PREFIX = "pgtasks-canary-"
_WORDS = "This file is watched by the tests of pgtasks; they remove it themselves.\n"


class Canaries:
    """A plugin that lays the files when a run begins and looks for them when it ends."""

    def __init__(self, places: Sequence[str] = PLACES) -> None:
        self._places = [Path(place).expanduser() for place in places]
        self._laid: list[Path] = []
        self._made: list[Path] = []
        self.faults: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Lay a file in each folder that is there or can be made, and that we may write to."""
        for place in self._places:
            with suppress(OSError):
                _sweep(place)
                if not place.exists():
                    place.mkdir()
                    self._made.append(place)
                self._laid.append(self._lay(place))

    @staticmethod
    def _lay(place: Path) -> Path:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{_PREFIX}{os.getpid()}-", dir=place, delete=False
        ) as file:
            file.write(_WORDS)
        return Path(file.name)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run where a file is gone or other than it was; leave nothing of ours."""
        self.look()
        if self.faults:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def look(self) -> None:
        """Note the files that are not as they were; remove them and the folders made for them."""
        for path in self._laid:
            try:
                if path.read_text() != _WORDS:
                    self.faults.append(f"{path} was changed")
                path.unlink()
            except OSError as exc:
                self.faults.append(f"a test emptied {path.parent}: {exc}")
        for place in reversed(self._made):
            with suppress(OSError):  # somebody else uses it meanwhile
                place.rmdir()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which folders were not left alone."""
        for fault in self.faults:
            terminalreporter.write_line(f"ERROR {fault}", red=True)


def _sweep(place: Path) -> None:
    """Remove what a run that was killed has laid: by its name, its owner and its content."""
    for path in place.glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            ours = path.lstat().st_uid == os.geteuid() and path.read_text() == _WORDS
            if ours and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                path.unlink()
