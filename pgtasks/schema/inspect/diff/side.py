"""One side of a comparison: a database, or a backup, as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pgtasks.backup.store.base import Backup
from pgtasks.copy.schema import schema_options
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed
from pgtasks.host import tools
from pgtasks.host.tools import Toolset
from pgtasks.schema.inspect.roles import roles
from pgtasks.server import catalog, connection
from pgtasks.server import proof as proofs
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe, pg_dump
from pgtasks.server.proof import Proof
from pgtasks.server.proof.toc import Entry
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

_LOCK_WAIT = 10  # seconds that pg_dump waits for a table that is locked exclusively
# What the server sets for all clients and what decides how values are read and printed. Our own
# sessions set some of them.
_PARAMETERS = """
SELECT name, coalesce(reset_val, '') FROM pg_settings WHERE source <> 'client'
  AND (category LIKE 'Client Connection Defaults%' OR category LIKE 'Version and Platform%'
    OR name IN ('wal_level', 'shared_preload_libraries', 'max_connections'))
  AND name NOT IN ('search_path', 'application_name', 'default_transaction_read_only',
    'transaction_read_only', 'statement_timeout', 'lock_timeout', 'role', 'DateStyle',
    'IntervalStyle', 'extra_float_digits', 'client_encoding', 'session_replication_role',
    'idle_in_transaction_session_timeout', 'event_triggers')
ORDER BY name
"""
_EXTENSIONS = "SELECT extname, extversion FROM pg_extension"
_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


@dataclass(frozen=True)
class Side:
    """A database or a backup; None for what is not known of it.

    `major` is that of its server, `dumped_by` that of the pg_dump which described it, `system` the
    identifier of the server. Without `subscriptions` its role was not shown any. `rows` is the
    proof of its rows. The archive of a backup is `untrusted`.
    """

    name: str
    major: int
    dumped_by: int
    system: str
    entries: Sequence[Entry]
    extensions: Mapping[str, str] | None = None
    settings: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None
    roles: Mapping[str, str] | None = None
    rows: Proof | None = None
    subscriptions: bool = True
    untrusted: bool = False


@dataclass(frozen=True)
class Facts:
    """What is read of a database in SQL, before pg_dump describes it."""

    major: int
    system: str
    encoding: str
    extensions: Mapping[str, str]
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    roles: Mapping[str, str]
    superuser: bool


def facts(conn: Connection, name: str, target: Target) -> Facts:
    """Read what SQL says about a database, raising Failed if the role may not read all tables.

    pg_dump locks all of them, and would fail at the first one.
    """
    if unreadable := catalog.unreadable(conn):
        raise Failed(
            f"{target.user!r} may not read all of {name}, as pg_dump must: {unreadable[0]}",
            hint="\n".join(unreadable[1:]),
        )
    own = properties.read(conn, target.database)
    return Facts(
        major=conn.server_version // 10000,
        system=connection.value(conn, _SYSTEM, into=str),
        encoding=own.encoding,
        extensions=dict(connection.rows(conn, _EXTENSIONS, into=tuple[str, str])),
        settings=_settings(own),
        parameters=dict(connection.rows(conn, _PARAMETERS, into=tuple[str, str])),
        roles={each.name: each.described() for each in roles(conn).roles},
        superuser=connection.value(conn, _SUPERUSER, into=bool),
    )


def _settings(own: DatabaseProperties) -> dict[str, str]:
    """Return the options of a database by name, with what it sets for roles."""
    options = {
        "encoding": own.encoding,
        "collation": own.locale or own.collate,
        "character type": own.ctype,
        "connection limit": str(own.connection_limit),
    }
    for each in own.settings:
        options[f"{each.name}{f' of role {each.role}' if each.role else ''}"] = each.value
    return options


def toolset(reached: Reached, majors: Sequence[int]) -> Toolset:
    """Return the tools that describe a database, if possible the same for both majors."""
    available = tools.available(reached.host, reached.target)
    return tools.for_dump(available, max(majors), reached.target)


@contextmanager
def describing(
    name: str, reached: Reached, read: Facts, toolset: Toolset, rows: Proof | None
) -> Iterator[Callable[[], Side]]:
    """Run pg_dump on a database during the block; the yielded function waits for it."""
    options = (*schema_options(toolset), f"--lock-wait-timeout={_LOCK_WAIT * 1000}")
    target, host = reached.target, reached.host
    with describe.describing(
        target, host, toolset, encoding=read.encoding, options=options
    ) as built:

        def side() -> Side:
            entries = built()
            if isinstance(entries, Failed):
                raise entries
            return Side(
                *(name, read.major, toolset.major, read.system, entries),
                *(read.extensions, read.settings, read.parameters, read.roles, rows),
                subscriptions=read.superuser,
            )

        yield side


def of_backup(name: str, backup: Backup) -> Side:
    """Return a backup as a side; its archive is listed, and nothing of it runs."""
    made, proof = backup.manifest, backup.proof()
    return Side(
        *(name, made.major, made.dump_tool[0], made.system),
        pg_dump.contents(backup.host, made.layout, backup.dump),
        extensions=proof.extensions if proof else None,
        settings=_settings(backup.database()),
        rows=proof if proof and made.complete else None,
        untrusted=True,
    )


def proof(reached: Reached, jobs: int, format: int) -> Proof:
    """Return the proof of the rows of a database, read in one snapshot."""
    return proofs.take(reached.target, jobs=jobs, purpose="inspect.diff", format=format)
