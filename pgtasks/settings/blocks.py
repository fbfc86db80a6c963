"""The settings of an environment: one record for each block, with all defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import BadConfiguration
from pgtasks.settings import ssh
from pgtasks.settings.fields import block, flag, names, number, path, share, span, text
from pgtasks.settings.libpq import SSLMODES
from pgtasks.settings.security import Security
from pgtasks.settings.ssh import Login

EMBEDDED = "embedded"  # the value of `server` for a server that pgtasks runs
_LEVELS = {"gzip": 9, "zstd": 22, "lz4": 12}
COMPRESSIONS = (
    *("auto", "none", *_LEVELS),
    *(f"{name}:{level}" for name, most in _LEVELS.items() for level in range(1, most + 1)),
)
COMPRESSIONS_LISTED = "auto, none, gzip:1 to gzip:9, zstd:1 to zstd:22, lz4:1 to lz4:12"


@dataclass(frozen=True)
class Keep:
    """The rules of backup.prune: a backup that one of them names stays. 0 means no such rule."""

    last: int = number("number of newest backups that stay", default=0)
    daily: int = number("number of days of which the last backup stays (UTC)", default=0)
    weekly: int = number("number of weeks of which the last backup stays", default=0)
    monthly: int = number("number of months of which the last backup stays", default=0)
    yearly: int = number("number of years of which the last backup stays", default=0)
    within: str = span("age up to which all backups stay, counted from the newest one")
    proven: int = number("number of newest proven backups that stay, whatever the rules", default=1)

    @property
    def is_set(self) -> bool:
        """Return whether there is a rule, so that pruning has a meaning."""
        return any((self.last, self.daily, self.weekly, self.monthly, self.yearly, self.within))


def keep_last(text: str, where: str) -> dict[str, Any]:
    """Return the block of rules that a bare number means: that many newest backups."""
    if not re.fullmatch("[0-9]{1,9}", text.strip()):
        raise BadConfiguration(
            f"{where}: {text!r}, expected a number of newest backups, or rules: "
            "{last: 7, daily: 14}"
        )
    return {"last": int(text)}


@dataclass(frozen=True)
class Backup:
    """How backups are made."""

    compression: str = text(
        "how files are compressed; auto is zstd if the tools support it, else gzip",
        choices=COMPRESSIONS,
        listing=COMPRESSIONS_LISTED,
    )
    proven_within: str = span("longest age of the newest proven backup; backup.report checks it")
    keep: Keep = block(
        "rules of backup.prune: a number, as `last`, or a block", Keep, short=keep_last
    )
    trash: str = span("time that a dropped backup stays in the trash", default="7d")
    drop_warning: float = share(
        "share of rows or size whose loss since the previous backup stops backup.prune; 0: none",
        default=0.5,
    )
    globals_passwords: bool = flag("also save the password hashes of roles")


@dataclass(frozen=True)
class Pool:
    """How an application connects, see `pgtasks.service`. 0 means no timeout."""

    driver: str = text(
        "driver of SQLAlchemy; psycopg is version 3",
        default="psycopg2",
        choices=("psycopg2", "psycopg"),
    )
    size: int = number("connections that stay open", default=5, range=(1, 1000))
    overflow: int = number("further connections while all are in use", default=5, range=(0, 1000))
    timeout: int = number(
        "seconds that a block waits for a connection", default=10, range=(1, 3600)
    )
    recycle: int = number("seconds after which a connection is replaced", default=1800)
    pre_ping: bool = flag("whether a connection is tried before a block uses it", default=True)
    patience: int = number(
        "seconds to wait for a server that restarts, or a database that is being replaced",
        default=5,
        range=(0, 600),
    )
    statement_timeout: int = number("seconds that a statement may take", default=30)
    lock_timeout: int = number("seconds that a statement may wait for a lock", default=5)
    idle_timeout: int = number("seconds that a transaction may be idle", default=60)
    role: str = text("role that the application acts as, which its user is a member of")
    check_stamp: bool = flag(
        "whether a database that is stamped with another environment is refused", default=True
    )


@dataclass(frozen=True)
class Settings:
    """The settings of an environment, merged from its layers.

    `url` is split into host, port, database and user, and empty here; so is `mask`, whose rules
    are values of the environment. `settings` is the application's own block.
    """

    url: str = text("postgresql://user@host:port/database, or a $VARIABLE with it")
    service: str = text("section of the libpq service file")
    host: str = text("name, address or socket folder of the server")
    port: int = number("port of the server", default=5432, range=(1, 65535))
    database: str = text("name of the database")
    user: str = text("role to connect as")
    sslmode: str = text("libpq's sslmode", choices=SSLMODES)
    sslrootcert: str = path("file of the certificate authority, or `system`")
    requirepeer: str = text("account that runs the server of a socket, as for libpq")
    connect_timeout: int = number(
        "seconds until a connection attempt fails", default=10, range=(1, 1000)
    )
    server: str = text("`embedded`: pgtasks runs the server itself", choices=(EMBEDDED,))
    major: int | None = number("major version of the embedded server", range=(1, 99))
    inherits: str = text("environment that provides the missing settings")
    protected: bool = flag("whether writes require the name of the database")
    reader: str = text("read-only role, for tasks that read a protected database")
    password_command: str = text("program that prints the password")
    password_command_timeout: int = number(
        "seconds until a password_command is ended",
        default=30,
        range=(1, 3600),
    )
    passfile: str = path("password file, with the format of ~/.pgpass")
    ssh: Login | None = block(
        "database host over SSH: user@host:port, or a block; `none` for none",
        Login,
        short=ssh.parse,
        optional=True,
    )
    jobs: int = number("parallel processes of a dump or restore", default=2, range=(1, 1000))
    seeds: tuple[str, ...] = names("seed sets for this environment")
    maintenance: str = text("maintenance database, for locks and swaps", default="postgres")
    template: str = text("template for new databases", default="template0")
    keep_old: int | None = number(
        "number of replaced databases that are kept for db.undo; all by default",
        range=(1, 1000),
    )
    tools: str = path("folder with pg_dump, pg_restore and psql")
    mask: Mapping[str, Any] = block("how copies of its data mask columns: rules by column or type")
    mask_key_command: str = text("program that prints the key of the masks")
    backup: Backup = block("how backups are made", Backup)
    pool: Pool = block("how an application connects", Pool)
    security: Security = block("how an application handles logins and sessions", Security)
    settings: Mapping[str, Any] = block("the application's own settings")
