"""Find obstacles by trying in the side database, in a transaction that is rolled back."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof import entries
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import from_bytes

_NOT_MADE = b"-- *not* "  # begins the definition of an existing object, such as schema public


def obstacles(plan: RestorePlan) -> Iterator[str]:
    """Yield one line for each extension that cannot be created in the side database.

    Some need a database of a certain name, some a library that the server must load first.
    """
    wanted = plan.left.kept(plan.archive)
    if not any(entry.desc == "EXTENSION" for entry in wanted):
        return
    with connection.session(plan.loading, purpose="db.restore") as conn:
        connection.execute(conn, "BEGIN")
        for entry, fault in _faults(conn, wanted):
            name = entries.name((entry.desc, entry.namespace, entry.tag))
            yield (
                f"{name} cannot be created in a database beside {plan.target.database!r} ({fault}):"
                f" --leave-out {shlex.quote(name)} restores without it and the rows of its tables"
            )
        connection.execute(conn, "ROLLBACK")


def _faults(conn: Connection, archive: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    for entry in archive:
        if entry.desc not in ("SCHEMA", "EXTENSION") or entry.definition.startswith(_NOT_MADE):
            continue
        connection.execute(conn, "SAVEPOINT attempt")
        try:
            connection.execute(conn, from_bytes(entry.definition))
        except Failed as exc:
            connection.execute(conn, "ROLLBACK TO attempt")
            if entry.desc == "EXTENSION":
                yield entry, exc.message


def tablespaces(conn: Connection, archive: Iterable[Entry], role: str) -> list[str]:
    """Return the tablespaces of the archive that do not exist, or that the role may not use."""
    return unusable(conn, {entry.rest[0] for entry in archive if entry.rest}, role)


def unusable(conn: Connection, spaces: Iterable[str], role: str) -> list[str]:
    """Return those of the tablespaces that do not exist, or that the role may not use."""
    named = {*spaces} - {""}
    usable = connection.rows(
        conn,
        "SELECT spcname FROM pg_tablespace WHERE spcname = ANY(%s)"
        " AND has_tablespace_privilege(%s, oid, 'CREATE')",
        (list(named), role),
        into=str,
    )
    return sorted(named.difference(usable))
