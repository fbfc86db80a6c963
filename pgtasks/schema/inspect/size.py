"""Where the bytes of a database are: its largest tables, as bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.inspect.tables import Tables, TableSize, tables
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_MOST = 20
_BAR = 30  # cells of the longest bar
_DATABASE = "SELECT pg_database_size(current_database())"
_TABLE, _INDEX = "█", "▒"


@dataclass(frozen=True)
class Sizes:
    """The bytes of a database, and of its tables, the largest first."""

    bytes: int
    tables: Tables

    def lines(self) -> list[str]:
        """Return what a person reads."""
        largest = self._largest()
        rest = len([each for each in self.tables.tables if each.bytes]) - len(largest)
        longest = max((each.bytes for each in largest), default=0)
        rows = [
            (str(each), report.size(each.bytes), _bar(each, longest), f"{self._share(each):.0f} %")
            for each in largest
        ]
        headings = ("table", "size", f"{_TABLE} table, {_INDEX} indexes", "of all")
        shown = report.table(headings, rows, gives=(headings[2],)).splitlines() if rows else []
        more = f", and {report.plural(rest, 'smaller table')}" if rest > 0 else ""
        locked = ", a table is locked: its size and others are estimates"
        more += locked if self.tables.estimated else ""
        return [*shown, f"{report.size(self.bytes)} with the catalog and what is free{more}"]

    def _largest(self) -> list[TableSize]:
        by_size = sorted(self.tables.tables, key=lambda each: -each.bytes)
        return [each for each in by_size[:_MOST] if each.bytes]

    def _share(self, table: TableSize) -> float:
        return 100 * table.bytes / max(self.bytes, 1)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"bytes": self.bytes, **self.tables.as_json()}


def _bar(table: TableSize, longest: int) -> str:
    cells = round(_BAR * table.bytes / longest)
    own = round(_BAR * (table.table_bytes or 0) / longest)
    return (_TABLE * own + _INDEX * (cells - own)) or "▏"


def sizes(conn: Connection) -> Sizes:
    """Return the sizes of a database and its tables."""
    return Sizes(connection.value(conn, _DATABASE, into=int), tables(conn))
