"""One side of a comparison: a database, or a backup, as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pgtasks.backup.store.backup import Backup
from pgtasks.copy.schema import schema_options
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties, Grant
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
from pgtasks.server.quoting import qualified, quoted
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
# Constraints that the server enforces by triggers, which ALTER TABLE ... DISABLE TRIGGER ALL turns
# off: foreign keys, and keys that are checked at the end of a transaction.
_ENFORCED = f"""
SELECT DISTINCT n.nspname, c.relname, k.conname, tn.nspname, tc.relname, t.tgenabled::text
FROM pg_trigger t
JOIN pg_constraint k ON k.oid = t.tgconstraint AND k.contype IN ('f', 'p', 'u', 'x')
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class tc ON tc.oid = t.tgrelid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
WHERE t.tgisinternal AND {catalog.OWN_SCHEMA} ORDER BY 1, 2, 3, 4, 5, 6
"""
_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_STATES = {"D": "not enforced", "R": "enforced on replicas only", "A": "enforced always"}
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


@dataclass(frozen=True)
class Side:
    """A database or a backup; None for what is not known of it.

    `major` is that of its server, `dumped_by` that of the pg_dump which described it, `system` the
    identifier of the server. Without `subscriptions` its role was not shown any. `rows` is the
    proof of its rows. `database` has the owner, grants and comment of the database, `enforced` how
    each foreign key is enforced. The archive of a backup is `untrusted`.
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
    database: Mapping[str, str] | None = None
    enforced: Mapping[str, str] | None = None


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
    database: Mapping[str, str]
    enforced: Mapping[str, str]


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
        database=_database(own),
        enforced=_enforced(conn),
    )


def _database(own: DatabaseProperties) -> dict[str, str]:
    """Return what a database is besides its settings; its owner has all privileges by default."""
    grants = own.grants
    if grants is None:
        grants = tuple(Grant("", each) for each in ("CONNECT", "TEMPORARY"))
        grants += tuple(Grant(own.owner, each) for each in ("CONNECT", "CREATE", "TEMPORARY"))
    of_owner = {each.privilege for each in grants if each.grantee == own.owner}
    shown = sorted(
        f"{each.privilege} to {quoted(each.grantee) if each.grantee else 'PUBLIC'}"
        f"{' with grant option' if each.grantable else ''}"
        for each in grants
        if each.grantee != own.owner
    )
    lacking = sorted({"CONNECT", "CREATE", "TEMPORARY"} - of_owner)
    return {
        "owner": own.owner,
        "grants": ", ".join([*shown, *(f"no {each} to its owner" for each in lacking)]) or "none",
        "comment": repr(own.comment) if own.comment else "none",
        "template": "yes" if own.template else "no",
    }


def _enforced(conn: Connection) -> dict[str, str]:
    """Return how each constraint that triggers enforce is enforced, by its name."""
    states: dict[str, list[str]] = {}
    for *name, schema, table, enabled in connection.rows(
        conn, _ENFORCED, into=tuple[str, str, str, str, str, str]
    ):
        off = states.setdefault(f"constraint {qualified(*name[:2])}.{quoted(name[2])}", [])
        if enabled != "O":
            off.append(f"{_STATES[enabled]} on {qualified(schema, table)}")
    return {name: ", ".join(off) or "enforced" for name, off in states.items()}


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
                database=read.database,
                enforced=read.enforced,
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
        database=_database(backup.database()),
    )


def proof(reached: Reached, jobs: int, format: int) -> Proof:
    """Return the proof of the rows of a database, read in one snapshot."""
    return proofs.take(reached.target, jobs=jobs, purpose="inspect.diff", format=format)
