"""The interface of hosts: this machine, or the database host over SSH.

Features build a `Command` (argv and variables) and pass it to a host, of whatever kind.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from pgtasks.errors import PgtasksError
from pgtasks.settings.target import Target

SHORT = 16 << 20  # bytes that a short command may print on another host


@dataclass(frozen=True)
class Command:
    """A command: an argv without secrets, and additional environment variables.

    `stop` is the signal that ends it cleanly: psql cancels its query only on SIGINT.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM

    def __str__(self) -> str:
        return Path(self.argv[0]).name


Source = IO[bytes] | int | None
Sink = IO[bytes] | int | None


class Process(Protocol):
    """A running command, with part of the interface of `subprocess.Popen`."""

    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit code, minus a signal's number, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, raising subprocess.TimeoutExpired."""

    def end(self, sign: signal.Signals) -> None:
        """Signal the command and its children, unless it has ended."""

    def failure(self, hint: str) -> PgtasksError:
        """Return the error for a failed command; `hint` is the end of its stderr."""


class Host(Protocol):
    """A place where commands run."""

    def __hash__(self) -> int:
        """Hash by identity, so that facts about a host can be cached for a run."""

    @property
    def name(self) -> str:
        """Return the name of the host for messages."""

    @property
    def bundled(self) -> tuple[str, ...]:
        """Return the folders of the PostgreSQL tools that came with pgtasks."""

    @property
    def lost(self) -> str:
        """Return why the connection to it was lost, an empty text while it works."""

    def start(self, command: Command, *, stdin: Source, stdout: Sink) -> Process:
        """Start a command in its own process group; its stderr is a pipe."""

    def capture(self, command: Command, *, seconds: float = 30, most: int = SHORT) -> str:
        """Return the output of a short command, at most `most` bytes; raises Failed."""

    def interact(self, command: Command) -> int:
        """Give the terminal to a command until it ends, and return its exit code."""

    def passfile(self, target: Target, *, also: Sequence[str] = ()) -> AbstractContextManager[str]:
        """Provide a password file on the host for the length of a block.

        It is for the database of the target, and the databases `also` of the same server.
        """

    def lend(self, content: bytes) -> AbstractContextManager[str]:
        """Provide a small file on the host for the length of a block."""

    def view(self, target: Target) -> Target:
        """Return the target as commands on the host reach it."""

    def free_bytes(self, path: str) -> int | None:
        """Return the free bytes of the file system that holds `path`, None if unknown."""

    def close(self) -> None:
        """Disconnect from the host; afterwards no command of ours runs there."""


def signal_name(number: int) -> str:
    """Return the name of a signal, its number if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
