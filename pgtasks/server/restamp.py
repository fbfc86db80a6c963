"""Write a database's stamp by hand: to adopt one, or to say that it changed its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks.server import connection, stamp
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Identity, Stamp


@dataclass(frozen=True)
class Stamped:
    """What the stamp said before, and what it says now."""

    database: str
    before: str
    after: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if self.before == self.after:
            return [f"{self.database!r} has this stamp already: {self.after}"]
        return [f"before  {self.before or 'no stamp'}", f"now     {self.after}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "before": self.before or None,
            "after": self.after,
            "changed": self.before != self.after,
        }


def planned(lock: Lock, identity: Identity) -> Stamped:
    """Return what `put` would write."""
    before = identity.stamp.line() if identity.stamp else ""
    return Stamped(identity.database, before, _stamp(lock, identity).line())


def put(lock: Lock, identity: Identity) -> Stamped:
    """Write the stamp of the lock's target; the rest of the comment stays as it is."""
    plan = planned(lock, identity)
    if plan.before != plan.after:
        statement = stamp.comment_statement(
            identity.database, identity.comment, _stamp(lock, identity)
        )
        connection.execute(lock.connection, statement)
    return plan


def _stamp(lock: Lock, identity: Identity) -> Stamp:
    # where its content came from stays true, whoever owns it now
    origin = identity.stamp.origin if identity.stamp else ""
    return Stamp(lock.target.environment, identity.database, identity.system, origin)
