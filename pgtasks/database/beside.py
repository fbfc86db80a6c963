"""Build a database beside the target, and drop it if what follows fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgtasks.database import drop, lay, side
from pgtasks.database.properties import DatabaseProperties
from pgtasks.report import Say
from pgtasks.server.connection import Connection
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


@contextmanager
def building(
    conn: Connection,
    target: Target,
    facts: DatabaseProperties,
    mark: Stamp,
    *,
    copied: str = "",
    leave_behind: bool = False,
    purpose: str,
    say: Say,
) -> Iterator[str]:
    """Yield the name of a new side database, with the grants and settings of `facts`.

    With `copied` it is the server's own copy of that database. It is dropped if the block raises.
    Raises what `side.create` and `lay.lay` raise.
    """
    name = side.side_name(target.database, "new", mark.run)
    try:
        side.create(conn, target, facts, mark, owner=facts.owner, copied=copied)
        lay.lay(conn, target, name, facts, leave_behind=leave_behind, purpose=purpose, say=say)
        yield name
    except BaseException:
        drop.clear(conn, target, name)
        raise
