"""The health of an application's database, as a probe asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from pgtasks.errors import PgtasksError
from pgtasks.service import admission
from pgtasks.service.connections import sqlstate, way_to_privileges
from pgtasks.service.database import PROBE, DatabaseService

_SERVER = (
    "SELECT current_setting('server_version'), current_setting('transaction_read_only')::boolean,"
    " to_regclass('alembic_version') IS NOT NULL"
)
_REVISIONS = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True)
class Health:
    """The health of a database: `ok`, or the `reason` why not.

    `stamp` is the environment in the database, empty where it has none; `migrations` is `at head`,
    `not at head`, or `none` where the project has none; `pool` has its size and the
    connections that blocks use now.
    """

    environment: str
    ok: bool = False
    reason: str = ""
    milliseconds: float = 0.0
    server_version: str = ""
    read_only: bool = False
    stamp: str = ""
    migrations: str = ""
    pool: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return asdict(self)

    def public(self) -> dict[str, str]:
        """Return what anybody may see: no name, no version."""
        return {"status": "ok" if self.ok else "unavailable", "database": self.word}

    @property
    def word(self) -> str:
        """The state of the database in a word or two."""
        if self.ok:
            return "read-only" if self.read_only else "ok"
        return "not reached" if not self.server_version else "refused"


def check_health(service: DatabaseService) -> Health:
    """Ask the database in a connection of its own, within seconds; never raises for its state."""
    began = time.monotonic()
    health = Health(service.name)
    try:
        health = replace(health, pool=_pool(service))
        with service.probe.connect() as conn:
            identity = admission.identified(conn.connection.dbapi_connection)
            stamp = identity.stamp.environment if identity.stamp else ""
            version, read_only, has_table = conn.execute(text(_SERVER)).one()
            health = replace(health, stamp=stamp, server_version=version, read_only=read_only)
            found = conn.execute(text(_REVISIONS)).scalars() if has_table else ()
            revisions = frozenset(found)
        # to load them may take longer than the server has to answer
        health = replace(health, migrations=_word(revisions, service.heads))
        if service.pool.check_stamp:
            admission.agree(identity, service.target)
        health = replace(health, ok=True)
    except PgtasksError as exc:
        health = replace(health, reason=exc.message)
    except (DBAPIError, service.probe.dialect.loaded_dbapi.Error) as exc:
        # the driver's own error is of the look at the stamp
        error = getattr(exc, "orig", exc)
        way = way_to_privileges(error, service.target, service.pool)
        said = " ".join(str(error).split())
        if time.monotonic() - began > PROBE and _is_lost(exc):
            said = f"the server let in and did not answer within {PROBE} seconds"
        health = replace(health, reason=f"{said}: {way}" if way else said)
    return replace(health, milliseconds=round((time.monotonic() - began) * 1000, 1))


def _is_lost(error: Exception) -> bool:
    """Return whether an error is of a connection that had been opened."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return not sqlstate(error)


def _word(revisions: frozenset[str], heads: frozenset[str] | None) -> str:
    if heads is None:
        return "none"
    if revisions == heads:
        return "at head"
    return "not at head"


def _pool(service: DatabaseService) -> dict[str, int]:
    """Return the size of the pool and how many connections are in use."""
    pool = service.engine.pool
    if not isinstance(pool, QueuePool):
        return {}
    return {"size": service.pool.size + service.pool.overflow, "in_use": pool.checkedout()}
