"""The clones of a database: side databases that are closed, stamped with the name that users gave.

They are databases of the same server, so that a clone never leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.database import recover
from pgtasks.database.side import Side
from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server.connection import Connection
from pgtasks.settings import git
from pgtasks.settings.target import Target

_LONGEST = 200  # characters of a name, which is stored in the database's comment


@dataclass(frozen=True)
class Clone:
    """One clone: its name, and its database."""

    name: str
    side: Side

    @property
    def age(self) -> str:
        """Return the time since it was taken."""
        return report.age(max(self.side.age or 0, 0))

    def __str__(self) -> str:
        size = f", {report.size(self.side.bytes)}" if self.side.bytes is not None else ""
        return f"{self.name!r}, taken {self.age} ago{size}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        side = self.side.as_json()
        return {
            "name": self.name,
            "database": self.side.name,
            "bytes": side["bytes"],
            "age_seconds": side["age_seconds"],
        }


@dataclass(frozen=True)
class CloneList:
    """The clones of a database, newest first; `branch` is that of the checkout, if it has one."""

    database: str
    clones: tuple[Clone, ...]
    branch: str = ""

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.clones:
            return [f"no clones of {self.database!r}: {typed.task('clone.take', 'NAME')} takes one"]
        rows = [
            (
                each.name,
                f"{each.age} ago",
                report.size(each.side.bytes) if each.side.bytes is not None else "-",
                "of this branch" if each.name == self.branch else "",
                each.side.name,
            )
            for each in self.clones
        ]
        headings = ("clone", "taken", "size", "", "database")
        return report.table(headings, rows, gives=("database",)).splitlines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "database": self.database,
            "branch": self.branch or None,
            "clones": [each.as_json() for each in self.clones],
        }


def find(conn: Connection, target: Target) -> tuple[Clone, ...]:
    """Return the clones of a target, newest first; `conn` may be in any database."""
    sides = recover.look(conn, target).clones
    return tuple(Clone(side.stamp.clone, side) for side in reversed(sides) if side.stamp)


def listing(conn: Connection, target: Target, root: Path) -> CloneList:
    """Return the clones of a target, with the branch of the checkout at `root`."""
    return CloneList(target.database, find(conn, target), git.branch(root))


def name_of(name: str, *, branch: bool, root: Path) -> str:
    """Return the name of a clone: what was typed, or the git branch of the checkout at `root`."""
    if branch and name:
        raise Refused(f"{name!r} and --branch both name the clone, keep one")
    if branch:
        name = git.branch(root)
        if not name:
            raise Refused(f"{str(root)!r} is no checkout of a git branch, name the clone")
    if not name:
        raise Refused("which clone? name it, or --branch for the name of the git branch")
    if len(name) > _LONGEST or not name.isprintable() or name.startswith("-"):
        raise Refused(
            f"clone {name[:_LONGEST]!r}: expected at most {_LONGEST} characters that can be "
            "printed, the first one no -"
        )
    return name


def named(clones: Sequence[Clone], name: str, *, database: str) -> Clone:
    """Return the newest clone of that name, raising Refused if there is none."""
    for clone in clones:
        if clone.name == name:
            return clone
    known = ", ".join(dict.fromkeys(repr(clone.name) for clone in clones)) or "none"
    raise Refused(f"unknown clone {name!r} of {database!r}, known: {known}")
