"""Everything that can go wrong, one class per exit code.

PgtasksError            1  a task failed
├── Failed              1  a tool or a statement failed
├── Refused             2  guard, unknown environment, bad flag, prompt without a terminal
├── BadConfiguration    3  a file, a URL, a type, a password command
├── Unreachable         4  server, database, password, SSH
├── NotProven           5  proof or verification failed
├── Locked              6  another run holds the target
├── VersionMismatch     7  a tool or a server does not fit
└── Interrupted       130  Ctrl-C or a signal

Messages are one line: lowercase, the value in repr, then the way out. `hint` holds what may follow
on lines of its own, such as the last words of a tool; `details` is what --json says besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PgtasksError(Exception):
    """Carry one line for the user and the exit code of the process."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})


class Failed(PgtasksError):
    """Report a tool or a statement that failed."""


class Refused(PgtasksError):
    """Report a request that pgtasks will not carry out."""

    exit_code = 2


class BadConfiguration(PgtasksError):
    """Report a setting that cannot be used, with the file it stands in."""

    exit_code = 3


class Unreachable(PgtasksError):
    """Report a server, database or host that does not answer or lets nobody in."""

    exit_code = 4


class NotProven(PgtasksError):
    """Report content that is not what its proof or checksum says."""

    exit_code = 5


class Locked(PgtasksError):
    """Report a target that another run works on."""

    exit_code = 6


class VersionMismatch(PgtasksError):
    """Report a tool or server whose version does not fit."""

    exit_code = 7


class Interrupted(PgtasksError):
    """Report a run that was stopped from outside."""

    exit_code = 130


def of(exit_code: int) -> type[PgtasksError]:
    """Return the class for an exit code, Failed for one that none has."""
    return next(
        (kind for kind in PgtasksError.__subclasses__() if kind.exit_code == exit_code), Failed
    )
