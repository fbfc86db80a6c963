"""Where commands run: this machine, or the database host over SSH.

Features build a `Command` (pure: argv and environment) and hand it to a host; they do not know
which one it is.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from pgtasks import password
from pgtasks.errors import Failed
from pgtasks.target import Target

# Children see these variables and what their command says, no other: an application's
# DATABASE_URL in the process of `inv` is no business of pg_dump.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "LANG", "LANGUAGE")
# LD_LIBRARY_PATH: where tools of no package find their libpq
_KEPT_PREFIXES = ("LC_", "KRB5", "SSL_CERT", "LD_LIBRARY_PATH")
# for a person at a terminal: psql's pager, editor, history and psqlrc
_KEPT_AT_TERMINAL = (
    *("PAGER", "EDITOR", "VISUAL", "LESS", "DISPLAY", "COLUMNS", "LINES"),
    *("PSQLRC", "PSQL_HISTORY", "PSQL_PAGER", "PSQL_EDITOR"),
)


@dataclass(frozen=True)
class Command:
    """What to run: an argv without secrets, and the variables it needs beside the host's own.

    `stop` is the signal that ends it in order: psql cancels its query on SIGINT alone.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM

    def __str__(self) -> str:
        return Path(self.argv[0]).name


Source = IO[bytes] | int | None
Sink = IO[bytes] | int | None


class Host(Protocol):
    """What a feature may ask of the place where commands run."""

    def __hash__(self) -> int:
        """Hash by identity of the place: what is found there is remembered for the run."""

    @property
    def name(self) -> str:
        """Return how to call the place in a sentence."""

    def start(self, command: Command, *, stdin: Source, stdout: Sink) -> subprocess.Popen[bytes]:
        """Start a command; its stderr is a pipe, its process group its own."""

    def capture(self, command: Command, *, seconds: float = 30) -> str:
        """Return what a short command prints, raising Failed with its own words."""

    def interact(self, command: Command) -> int:
        """Give the terminal to a command until it ends, and return its exit code."""

    def passfile(self, target: Target) -> AbstractContextManager[str]:
        """Put a password file where commands run, for the length of a block."""

    def candidates(self, pattern: str) -> list[str]:
        """Return the paths there that match a shell pattern, sorted."""

    def free_bytes(self, path: str) -> int | None:
        """Return the free bytes of the file system that holds `path`, None if unknown."""


@dataclass(frozen=True)
class LocalHost:
    """This machine."""

    name: str = "this machine"

    def start(self, command: Command, *, stdin: Source, stdout: Sink) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that it can be ended as a whole."""
        try:
            return subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=subprocess.PIPE,
                env={**base_environment(), **command.env},
                start_new_session=True,
                preexec_fn=_end_with_parent(command.stop),
            )
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None

    def capture(self, command: Command, *, seconds: float = 30) -> str:
        """Return what a short command prints."""
        try:
            done = subprocess.run(
                command.argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**base_environment(), **command.env},
                timeout=seconds,
                check=False,
            )
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"{command}: no answer within {seconds:g} s") from None
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise Failed(f"{command}: exit code {done.returncode}", hint=words)
        return done.stdout.decode(errors="replace")

    def interact(self, command: Command) -> int:
        """Give the terminal to a command; Ctrl-C is its business until it ends."""
        # a handler, not SIG_IGN, which the child would inherit
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            env = {**base_environment(terminal=True), **command.env}
            with subprocess.Popen(command.argv, env=env) as process:
                try:
                    return process.wait()
                except BaseException:
                    process.send_signal(command.stop)
                    raise
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def passfile(self, target: Target) -> Iterator[str]:
        """Write a password file for the length of a block."""
        with password.passfile(target) as path:
            yield path

    def candidates(self, pattern: str) -> list[str]:
        """Return the paths that match a shell pattern."""
        return [str(path) for path in sorted(Path("/").glob(pattern.lstrip("/")))]

    def free_bytes(self, path: str) -> int | None:
        """Return the free bytes where `path` lies."""
        try:
            return shutil.disk_usage(path).free
        except OSError:
            return None


def base_environment(*, terminal: bool = False) -> dict[str, str]:
    """Return the variables that every child gets."""
    names = _KEPT + (_KEPT_AT_TERMINAL if terminal else ())
    kept = {key: os.environ[key] for key in names if key in os.environ}
    kept.update({k: v for k, v in os.environ.items() if k.startswith(_KEPT_PREFIXES)})
    return kept


def for_target(target: Target) -> Host:
    """Return the host that the commands of a target run on."""
    return LocalHost()


def _end_with_parent(sign: signal.Signals) -> Callable[[], None] | None:
    """Return what makes a child end when its parent is killed, None where the system has no way.

    Linux sends the signal when the thread that forked ends: start children from the main thread
    (prctl(2), PR_SET_PDEATHSIG). Elsewhere the next run finds what is left.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(1, sign)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return arm
