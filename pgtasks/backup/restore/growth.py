"""End a load before it fills the disk of the server."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pgtasks import report
from pgtasks.backup.foreign.dump import FLOOR
from pgtasks.backup.format import bounds
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.database import obstacles
from pgtasks.errors import Failed, NotProven
from pgtasks.host.base import Host
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.difference import meant

NAME = "size of the database"  # as --accept takes it


def refuse(plan: RestorePlan, conn: Connection, host: Host) -> None:
    """Raise NotProven if more is loaded than was saved, Failed before that fills the disk."""
    if plan.foreign:  # which does not say how large its database was
        refuse_full(plan, conn, host)
        return
    manifest = plan.backup.manifest
    loaded = size(conn, plan.side)
    if loaded > bounds.most_loaded(manifest) and not _accepted(plan.accept):
        raise NotProven(
            f"backup {manifest.id} unpacks to more than it says, the load was ended: "
            f"{report.size(loaded)} so far, {report.size(manifest.database_bytes)} when it was "
            f"made; --accept {shlex.quote(NAME)} loads it all"
        )
    if loaded > manifest.database_bytes:  # that much fitted before the load began
        refuse_full(plan, conn, host)


def refuse_full(plan: RestorePlan, conn: Connection, host: Host) -> None:
    """Raise Failed before the disk of the server is full, if its free space is known."""
    free = obstacles.free_bytes(conn, plan.target, host)
    if free is not None and free < FLOOR:
        raise Failed(
            f"the server's disk has {report.size(free)} left, so the load was ended: make room"
        )


def size(conn: Connection, name: str) -> int:
    """Return the bytes of a database, 0 if it does not exist."""
    query = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s"
    return connection.row(conn, query, (name,), into=int) or 0


def without(accept: Sequence[str]) -> Sequence[str]:
    """Return the names of --accept that are of differences."""
    return [name for name in accept if not _accepted([name])]


def _accepted(accept: Sequence[str]) -> bool:
    return any(meant(name, {NAME}) for name in accept)
