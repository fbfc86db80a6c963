"""The diagram of a database, as text of Mermaid or SVG."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks.errors import Refused
from pgtasks.schema.inspect.diagram import layout, mermaid, model, svg
from pgtasks.schema.inspect.diagram.model import Model
from pgtasks.server.connection import Connection
from pgtasks.settings import fields

_COLUMNS = ("all", "keys")


@dataclass(frozen=True)
class Picture:
    """The model, and the text of the picture."""

    model: Model
    kind: str
    text: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the text of the picture."""
        return list(self.text)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        tables = [{**asdict(each), "label": str(each)} for each in self.model.tables]
        links = [
            {
                **asdict(link),
                "child": tables[link.child]["label"],
                "parent": tables[link.parent]["label"],
            }
            for link in self.model.links
        ]
        return {"tables": tables, "links": links, self.kind: "\n".join(self.text)}


def depth_of(text: str) -> int:
    """Return the number of --depth, raising Refused for another value."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 99):
        raise Refused(f"--depth {text!r} is no number of foreign keys, expected 0 to 99")
    return int(text)


def columns_of(text: str) -> str:
    """Return the value of --columns, raising Refused for an unknown one."""
    if text and text not in _COLUMNS:
        raise Refused(f"--columns {text!r}, {fields.meant(text, _COLUMNS)}")
    return text


def picture(
    conn: Connection,
    *,
    title: str,
    schema: str = "",
    table: str = "",
    depth: int = 1,
    columns: str = "",
    as_svg: bool = False,
) -> Picture:
    """Return the picture of a schema, or of the tables around one; see `model.read`."""
    shown = model.read(conn, schema=schema, table=table, depth=depth, columns=columns)
    if as_svg:
        text = svg.lines(shown, layout.lay_out(shown), title)
        return Picture(shown, "svg", tuple(text))
    return Picture(shown, "mermaid", tuple(mermaid.lines(shown)))
