"""What an environment can say: one record for each block, with the defaults of all settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtasks.settings import ssh
from pgtasks.settings.fields import block, flag, names, number, path, text
from pgtasks.settings.libpq import SSLMODES
from pgtasks.settings.ssh import Login

EMBEDDED = "embedded"  # what `server` says of one that pgtasks runs


@dataclass(frozen=True)
class Backup:
    """How backups are made."""

    compression: str = text(
        "auto, gzip:1, zstd:1, lz4:1 or none; auto takes zstd where the tools can"
    )
    keep: int | None = number("how many backups a policy keeps at least")
    globals_passwords: bool = flag("save password hashes of roles too")


@dataclass(frozen=True)
class Settings:
    """What an environment says, all its layers folded.

    `url` is taken apart into host, port, database and user, and empty; `settings` is the
    application's own block.
    """

    url: str = text("postgresql://user@host:port/database, or $VARIABLE that holds it")
    service: str = text("a section of the libpq service file")
    host: str = text("name, address or folder of the socket")
    port: int = number("port of the server", default=5432, range=(1, 65535))
    database: str = text("name of the database")
    user: str = text("role to connect as")
    sslmode: str = text("libpq's sslmode", choices=SSLMODES)
    sslrootcert: str = path("file of the certificate authority, or `system`")
    requirepeer: str = text("the account that runs the server of a socket, as for libpq")
    connect_timeout: int = number(
        "seconds until a silent server counts as away", default=10, range=(1, 1000)
    )
    server: str = text("`embedded`: pgtasks runs the server itself", choices=(EMBEDDED,))
    major: int | None = number("major version of the embedded server", range=(1, 99))
    inherits: str = text("the environment whose settings fill the gaps")
    protected: bool = flag("writes need the database's name")
    reader: str = text("role that cannot write: tasks that read a protected database use it")
    password_command: str = text("a program that prints the password")
    password_command_timeout: int = number(
        "seconds until a password_command that prints nothing is ended",
        default=30,
        range=(1, 3600),
    )
    passfile: str = path("file in the form of ~/.pgpass")
    ssh: Login | None = block(
        "the database host over SSH: user@host:port, or a block; `none` for none",
        Login,
        short=ssh.parse,
        optional=True,
    )
    jobs: int = number("processes that dump and restore at once", default=2, range=(1, 1000))
    seeds: tuple[str, ...] = names("seed sets that belong into this environment")
    maintenance: str = text("database that locks and swaps work from", default="postgres")
    template: str = text("template of new databases", default="template0")
    keep_old: int | None = number(
        "how many replaced databases stay for db.undo, older ones are dropped; without it all",
        range=(1, 1000),
    )
    tools: str = path("folder of pg_dump, pg_restore and psql")
    backup: Backup = block("how backups are made", Backup)
    settings: Mapping[str, Any] = block("the application's own settings, handed through to it")
