"""Write the stamp of an existing database, also of one that changes its environment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pgtasks.report.interruption import telling
from pgtasks.server import connection, interrupt, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import Identity, comment_and_stamp
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


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


def plan(target: Target, identity: Identity) -> Stamped:
    """Return the stamp before and the new one, of the target's environment."""
    before = identity.stamp.line() if identity.stamp else ""
    return Stamped(identity.database, before, _stamp(target, identity).line())


def put(lock: Lock, identity: Identity) -> Stamped:
    """Write the stamp of the lock's target, keeping the rest of the comment."""
    planned = plan(lock.target, identity)
    if planned.before != planned.after:
        new_stamp = _stamp(lock.target, identity)
        statement = stamp.comment_statement(identity.database, identity.comment, new_stamp)
        conn, name = lock.connection, identity.database
        with telling(lambda: _left(conn, name)), interrupt.cancelling([conn]):
            connection.execute(conn, statement)
    return planned


def _left(conn: Connection, database: str) -> str:
    """Return the stamp that a database has after a signal, as it is read."""
    found = comment_and_stamp(conn, database)[1]
    return f"{database!r} has {f'the stamp: {found.line()}' if found else 'no stamp'}"


def _stamp(target: Target, identity: Identity) -> Stamp:
    made = Stamp(target.environment, identity.database, identity.system)
    if identity.stamp is None:
        return made
    # where the content is from does not change
    before = identity.stamp
    return replace(made, origin=before.origin, masks=before.masks, taken=before.taken)
