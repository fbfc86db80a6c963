"""Write the stamp of an existing database, or of one that changes its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks.server import connection, stamp
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Identity, Stamp


@dataclass(frozen=True)
class Stamped:
    """The stamp before, and the stamp now."""

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
    """Return the stamp that `put` would write."""
    before = identity.stamp.line() if identity.stamp else ""
    return Stamped(identity.database, before, _stamp(lock, identity).line())


def put(lock: Lock, identity: Identity) -> Stamped:
    """Write the stamp of the lock's target, keeping the rest of the comment."""
    plan = planned(lock, identity)
    if plan.before != plan.after:
        statement = stamp.comment_statement(
            identity.database, identity.comment, _stamp(lock, identity)
        )
        connection.execute(lock.connection, statement)
    return plan


def _stamp(lock: Lock, identity: Identity) -> Stamp:
    # the origin of the content stays true
    origin = identity.stamp.origin if identity.stamp else ""
    return Stamp(lock.target.environment, identity.database, identity.system, origin)
