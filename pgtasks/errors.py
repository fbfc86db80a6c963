"""Everything that can go wrong, one class per exit code.

PgtasksError              1  a task failed
├── Failed                1  a tool or a statement failed
│   ├── CutShort             host.streams: a stream ended too early
│   ├── Forbidden            host.ssh.link: sshd is configured not to open such a channel
│   ├── Contended            server.proof.reader: a table is locked by another session
│   ├── Moved                server.proof.reader: a table changed after the snapshot
│   ├── Cut                  server.proof.toc: an archive ends within its table of contents
│   ├── NoLogin              database.loader: the server does not let the loading role in
│   ├── Deadlocked           backup.restore.load: jobs of pg_restore waited for each other
│   └── Unread               backup.store.filestream: a file cannot be read to its end
├── Refused               2  guard, unknown environment, bad flag, prompt without a terminal
│   └── Exists               backup.store.base: the store has a backup of that ID
├── BadConfiguration      3  a file, a URL, a type, a password command
├── Unreachable           4  server, database, password, SSH
│   ├── FellSilent           server.connection: the server stopped answering
│   ├── Denied               host.ssh.route: the host accepts none of our keys
│   ├── NoCommand            host.ssh.watchdog: the host starts no command
│   └── Distrusted           host.ssh.hostkeys: the host's key is not the known one
│       └── Unknown          host.ssh.hostkeys: the host's key is not known
├── NotProven             5  proof or verification failed
│   ├── Unreadable           backup.store.base: the manifest cannot be read
│   └── Unexpected           backup.store.filestream: a file does not belong to the backup
├── Locked                6  another run holds the target
├── VersionMismatch       7  a tool or a server does not fit
└── Interrupted         130  Ctrl-C or a signal

Caught inside the library, never seen by a user:

Retry                        server.dump.watch: the attempt is worthless, another may succeed
Fault                        server.psql.commands: a psql command is not allowed at this place
Silent                       server.silence: psycopg2's OperationalError of a session given up
MoreWanted                   host.ssh.auth: paramiko's SSHException, one factor is not enough
SyntaxFault                  schema.parser: text is not SQL
TooDeep                      schema.parser: SQL is nested too deeply for the parser's tree
Odd                          host.plainfile: OSError for what is not a plain file

Messages are one line: lowercase, the value in repr, then the way out. `hint` holds further lines,
such as the last words of a tool; `details` is added to the document of --json.
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
