"""Drop a database that was restored beside a target, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgtasks.database import aside, create, drop
from pgtasks.database.aside import Aside
from pgtasks.errors import Refused
from pgtasks.server import connection
from pgtasks.server.lock import Lock

_TEMPLATE = "SELECT datistemplate FROM pg_database WHERE datname = %s"


@dataclass(frozen=True)
class DroppedAside:
    """The result of `db.drop --name`; `notes` are lines on slots that stay."""

    aside: Aside
    notes: Sequence[str] = ()
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [f"{'would drop' if self.dry else 'dropped'} {self.aside}", *self.notes]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.aside.name,
            "origin": self.aside.origin,
            "bytes": self.aside.bytes,
            "dry": self.dry,
        }


def plan(lock: Lock, name: str) -> DroppedAside:
    """Return the plan of a drop.

    Raises Refused unless `db.restore --into` of this environment made the database of that name,
    and if PostgreSQL would refuse the drop.
    """
    conn, target = lock.connection, lock.target
    found = list(aside.find(conn, target))
    chosen = next((each for each in found if each.name == name), None)
    if chosen is None:
        known = ", ".join(repr(each.name) for each in found) or "none"
        raise Refused(
            f"--name {name!r} is no database that db.restore --into made beside "
            f"{target.database!r}, of those there are: {known}"
        )
    template = connection.value(conn, _TEMPLATE, (name,), into=bool)
    create.refuse_obstacles(conn, name, template=template, subscriptions=False)
    return DroppedAside(chosen, dry=True)


def carry_out(lock: Lock, name: str) -> DroppedAside:
    """Drop the database, its sessions and its subscriptions; raises Refused as `plan` does."""
    decided = plan(lock, name)
    notes = drop.drop(lock.connection, lock.target, name)
    return replace(decided, notes=notes, dry=False)
