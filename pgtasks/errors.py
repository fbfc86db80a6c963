"""Everything that can go wrong, one class per exit code.

PgtasksError              1  a task failed
├── Failed                1  a tool or a statement failed
│   ├── CutShort             host.streams: a stream ended too early
│   ├── ChannelForbidden     host.ssh.link: sshd is configured not to open such a channel
│   ├── TableLocked          server.proof.reader: a table is locked by another session
│   ├── NotAlike             copy.delta: the replaced database differs too much to begin with
│   ├── TemplateInUse        database.side: the database to copy has sessions of others
│   ├── TableChanged         server.proof.reader: a table changed after the snapshot
│   ├── LockTimeout          schema.migrate.errors: a statement waited too long for a lock
│   ├── Truncated            server.proof.toc: an archive ends within its table of contents
│   ├── RoleDenied           database.loader: the loading role cannot connect
│   ├── Deadlocked           backup.restore.load: jobs of pg_restore waited for each other
│   ├── Dropped              backup.store.faults: another run has dropped the backup meanwhile
│   ├── NotLoaded            service.entities: a copy of an entity lacks what was not loaded
│   ├── Denied               backup.restore.load: its role may not restore something
│   └── UnreadableFile       backup.store.filestream: a file cannot be read to its end
├── Refused               2  guard, unknown environment, bad flag, prompt without a terminal
│   ├── NotAdmitted          service.admission: the database is another environment's
│   └── BackupExists         backup.store.faults: the store has a backup of that ID
├── BadConfiguration      3  a file, a URL, a type, a password command
├── Unreachable           4  server, database, password, SSH
│   ├── CommitUnknown        service.unit: the connection was lost while COMMIT was under way
│   ├── NoAnswer             server.errors: the server stopped answering
│   ├── LoginDenied          host.ssh.route: the host accepts none of our keys
│   ├── NoCommand            host.ssh.watchdog: the host starts no command
│   └── HostKeyError         host.ssh.hostkeys: the host's key is not the known one
│       └── UnknownHostKey   host.ssh.hostkeys: the host's key is not known
├── NotProven             5  proof or verification failed
│   ├── NewerFormat          backup.format.manifest: it is that of a newer pgtasks
│   ├── UnreadableManifest   backup.store.faults: the manifest cannot be read
│   └── UnexpectedFile       backup.store.filestream: a file does not belong to the backup
├── Locked                6  another run holds the target
├── VersionMismatch       7  a tool or a server does not fit
└── Interrupted         130  Ctrl-C or a signal

Caught inside the library, never seen by a user:

Retry                        server.dump.watch: the attempt is worthless, another may succeed
CommandNotAllowed            server.psql.commands: psql must not run a command at this place
SessionLost                  server.silence: psycopg2's OperationalError, the server is silent
AnotherFactorNeeded          host.ssh.auth: paramiko's SSHException, one factor is not enough
SyntaxFault                  server.parser: text is not SQL
TooDeep                      server.parser: SQL is nested too deeply for the parser's tree
Unfit                        copy.mask.values: a ready-made mask does not fit a column
Fault                        copy.mask.expression: a mask is no expression that may be used
Skipped                      verify.check: a check does not apply here
UnusableFile                 host.plainfile: OSError, not a regular file or too large

Messages are one line: lowercase, the value in repr, then the way out. `hint` holds further lines,
such as the last words of a tool; `details` is added to the document of --json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PgtasksError(Exception):
    """An error with a one-line message for the user and an exit code.

    `hint` are lines before it, `block` lines to paste into a file, printed as they are.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        block: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.block = block
        self.details = dict(details or {})


class Failed(PgtasksError):
    """A tool or a statement failed."""


class Refused(PgtasksError):
    """pgtasks refuses the request."""

    exit_code = 2


class BadConfiguration(PgtasksError):
    """A setting is invalid; the message names its file."""

    exit_code = 3


class Unreachable(PgtasksError):
    """A server, a database or a host does not answer, or denies the login."""

    exit_code = 4


class NotProven(PgtasksError):
    """Content differs from its proof or its checksum."""

    exit_code = 5


class Locked(PgtasksError):
    """Another run holds the lock of the target."""

    exit_code = 6


class VersionMismatch(PgtasksError):
    """The version of a tool or a server does not fit."""

    exit_code = 7


class Interrupted(PgtasksError):
    """The run was interrupted by Ctrl-C or a signal."""

    exit_code = 130


def of(exit_code: int) -> type[PgtasksError]:
    """Return the class for an exit code, Failed for an unknown one."""
    return next(
        (kind for kind in PgtasksError.__subclasses__() if kind.exit_code == exit_code), Failed
    )
