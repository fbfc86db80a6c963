"""How a table of the backup differs from the live one, by columns.

Rows are compared with the proof of the backup, which covers all columns, so that both must have the
same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pgtasks.backup.restore.tables.choice import Name
from pgtasks.copy.part import shape
from pgtasks.copy.part.shape import Column
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted


def differences(saved: Connection, live: Connection, names: Collection[Name]) -> Iterator[str]:
    """Yield one line for each column that only one side has, or that differs.

    `saved` is a session in the side database.
    """
    theirs, ours = shape.read(saved).tables, shape.read(live).tables
    for name in sorted(names):
        if name in theirs and name in ours:
            yield from _of_table(name, theirs[name], ours[name])


def _of_table(name: Name, saved: Mapping[str, Column], live: Mapping[str, Column]) -> Iterator[str]:
    for column in sorted(saved.keys() | live.keys()):
        called = f"column {qualified(*name)}.{quoted(column)}"
        if column not in live:
            yield f"{called} is in the backup only"
        elif column not in saved:
            yield f"{called} is in the database only"
        elif (words := _kind(saved[column])) != (now := _kind(live[column])):
            yield f"{called} is {words} in the backup, {now} in the database"


def _kind(column: Column) -> str:
    return f"{column.type}{' GENERATED' if column.generated else ''}"
