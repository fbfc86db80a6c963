"""Where the bytes of a database are: its largest tables, as bars."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.report import terminal
from pgtasks.schema.inspect.tables import Tables, TableSize, tables
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_MOST = 20
_SHORTEST, _LONGEST = 12, 80  # cells of the longest bar
_USUAL = 30  # where the output is no terminal
_BESIDE = 20  # cells of the columns beside table and bar
_DATABASE = "SELECT pg_database_size(current_database())"
_TABLE, _INDEX, _LITTLE = "█", "▒", "▏"
_HEADINGS = ("table", "size", f"{_TABLE} table  {_INDEX} indexes", "share")


@dataclass(frozen=True)
class Sizes:
    """The bytes of a database, and of its tables, the largest first."""

    bytes: int
    tables: Tables

    def lines(self) -> list[str]:
        """Return what a person reads."""
        rest = len([each for each in self.tables.tables if each.bytes]) - len(self.largest(_MOST))
        more = f", and {report.plural(rest, 'smaller table')}" if rest > 0 else ""
        locked = ", a table is locked: its size and others are estimates"
        more += locked if self.tables.estimated else ""
        whole = f"{report.size(self.bytes)} with the catalog and what is free{more}"
        return [*self.chart(_MOST), whole]

    def chart(self, most: int) -> list[str]:
        """Return the table of the largest tables, with bars; no line if there are none."""
        largest = self.largest(most)
        if not largest:
            return []
        longest, cells = largest[0].bytes, _bar_cells([str(each) for each in largest])
        rows = [
            (
                *(str(each), report.size(each.bytes), _bar(each, longest, cells)),
                f"{self._share(each):.0f} %",
            )
            for each in largest
        ]
        return report.table(_HEADINGS, rows, whole=_HEADINGS[2:3]).splitlines()

    def largest(self, most: int) -> list[TableSize]:
        """Return the largest tables, those without bytes left out."""
        by_size = sorted(self.tables.tables, key=lambda each: -each.bytes)
        return [each for each in by_size[:most] if each.bytes]

    def _share(self, table: TableSize) -> float:
        return 100 * table.bytes / max(self.bytes, 1)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"bytes": self.bytes, **self.tables.as_json()}


def _bar_cells(names: list[str]) -> int:
    width = terminal.columns(sys.stdout)
    if width is None:
        return _USUAL
    return min(max(width - max(map(len, names)) - _BESIDE, _SHORTEST), _LONGEST)


def _bar(table: TableSize, longest: int, cells: int) -> str:
    whole = round(cells * table.bytes / longest)
    own = round(cells * (table.table_bytes or 0) / longest)
    return (_TABLE * own + _INDEX * (whole - own)) or _LITTLE


def sizes(conn: Connection) -> Sizes:
    """Return the sizes of a database and its tables."""
    return Sizes(connection.value(conn, _DATABASE, into=int), tables(conn))
