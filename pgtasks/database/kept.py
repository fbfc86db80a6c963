"""The databases that restores and undos replaced: describe them, find one by name."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks import report
from pgtasks.database.side import Side
from pgtasks.errors import Refused
from pgtasks.report import typed


def lines(sides: Sequence[Side]) -> list[str]:
    """Return one line for each kept database, oldest first, and one with the tasks to use."""
    if not sides:
        return []
    undo, drops = typed.task("db.undo"), typed.task("db.forget")
    newest = [f"kept: {sides[-1]}, {undo} brings it back, {drops} drops it"]
    older = [
        f"kept: {side}, {typed.task('db.undo', '--to', side.run)} brings it back"
        for side in sides[:-1]
    ]
    return [*older, *newest, *crowd(sides)]


def crowd(sides: Sequence[Side]) -> list[str]:
    """Return the line with the number of kept databases and the task that drops the older ones."""
    if len(sides) < 2:
        return []
    drops = typed.task("db.forget", "--keep 1")
    return [f"{sentence(sides)} are kept: {drops} drops all but the newest"]


def sentence(sides: Sequence[Side]) -> str:
    """Return the number of databases and their size: `3 replaced databases, 360 MB`."""
    sizes = [side.bytes for side in sides]
    known = [size for size in sizes if size is not None]
    held = f", {report.size(sum(known))}" if len(known) == len(sizes) else ""
    return report.plural(len(sides), "replaced database") + held


def named(sides: Sequence[Side], to: str | None, *, database: str) -> Side:
    """Return the kept database with the name or the run ID `to`; None means the newest.

    Raises Refused if there is none, or none of that name.
    """
    if not sides:
        raise Refused(
            f"there is nothing to return to: no kept database of {database!r} "
            "(a restore that replaced nothing keeps none, db.forget drops them)"
        )
    if to is None:
        return sides[-1]
    for side in sides:
        if to in (side.name, side.run):
            return side
    known = ", ".join(side.run for side in reversed(sides))
    raise Refused(f"unknown kept database {to!r} of {database!r}, newest first there are: {known}")
