"""Write a diagram as SVG: one file without scripts, fonts or links to other files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape  # nosec B406  writes alone, parses nothing

from pgtasks.report import printable
from pgtasks.schema.inspect.diagram.layout import (
    HEAD,
    MARK,
    PAD,
    ROW,
    Box,
    Layout,
    Line,
    Point,
)
from pgtasks.schema.inspect.diagram.model import Link, Model, Table

_NAME_X, _BASE = PAD + MARK, 4  # of a row; text stands on a line below its middle
_FOOT, _SPREAD, _BEND = 11, 5, 0.55
_STYLE = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
.page { fill: #ffffff } .box { fill: #ffffff; stroke: #8a94a6 } .head { fill: #e8edf5 }
.title { font-weight: bold; fill: #16213a } .name { fill: #16213a } .null { fill: #5b6577 }
.type { fill: #6a7690; text-anchor: end } .more { fill: #6a7690 }
.mark { fill: #a15c00; font-size: 9px }
.link { fill: none; stroke-width: 1.2 } .ring { fill: #ffffff } .link:hover { stroke-width: 2.6 }
"""
# the lines to one table have one colour, by which the eye can follow them
_COLOURS = ("#3b6fb6", "#b5541c", "#2f8a57", "#8a4fb0", "#b03a5b", "#5f6b1f", "#1f8a94", "#6b5b4a")


def lines(model: Model, layout: Layout, title: str) -> Iterator[str]:
    """Yield the lines of the picture."""
    width, height = round(layout.width), round(layout.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
    )
    yield f"<title>{_text(title)}</title>"
    yield "<style>"
    yield from _STYLE.strip().splitlines()
    yield "</style>"
    yield f'<rect class="page" width="{width}" height="{height}"/>'
    for line in layout.lines:
        yield _link(line, model)
    for table, box in zip(model.tables, layout.boxes, strict=True):
        yield from _table(table, box)
    yield "</svg>"


def _table(table: Table, box: Box) -> Iterator[str]:
    x, y, width = box.x, box.y, box.width
    yield f"<g><title>{_text(str(table))}</title>"
    yield f'<rect class="box" {_place(box)} rx="3"/>'
    yield f'<rect class="head" {_place(Box(x + 0.5, y + 0.5, width - 1, HEAD - 1))} rx="3"/>'
    yield _words("title", x + PAD, y + HEAD / 2, table.label)
    at = y + HEAD + 3 + ROW / 2
    for column in table.columns:
        if marks := column.marks:
            yield _words("mark", x + PAD, at - 0.5, " ".join(marks))
        yield _words("name" if column.not_null else "null", x + _NAME_X, at, column.name)
        yield _words("type", x + width - PAD, at, column.type)
        at += ROW
    if table.hidden:
        more = f"and {table.hidden} more" if table.columns else f"{table.hidden} columns"
        yield _words("more", x + _NAME_X, at, more)
    yield "</g>"


def _place(box: Box) -> str:
    return f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'


def _words(kind: str, x: float, middle: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{middle + _BASE:.1f}">{_text(text)}</text>'


def _text(text: str) -> str:
    """Return text for XML, which has no control characters."""
    return escape(printable(text))


def _link(line: Line, model: Model) -> str:
    link, points = line.link, line.points
    child, parent = model.tables[link.child], model.tables[link.parent]
    about = f"{child} ({', '.join(link.columns)}) to {parent}: {link.name}"
    loops = len(points) == 2
    rightwards = 1 if points[0][0] < points[-1][0] else -1
    marks = (
        _parent_end(points[0], 1 if loops else rightwards, link),
        _child_end(points[-1], 1 if loops else -rightwards, link),
    )
    path = _loop(*points) if loops else _path(points)
    colour = _COLOURS[link.parent % len(_COLOURS)]
    return (
        f'<g class="link" stroke="{colour}"><title>{_text(about)}</title><path d="{path}"/>'
        f"{''.join(marks)}</g>"
    )


def _path(points: Sequence[Point]) -> str:
    """Return a path that is straight across a layer and bends between two."""
    if abs(points[0][1] - points[1][1]) > 1e-6:  # the straight part is at the other end
        return _path(points[::-1])
    path = [f"M{_at(points[0])} L{_at(points[1])}"]
    for number in range(1, len(points) - 1, 2):
        (x1, y1), (x2, y2) = points[number], points[number + 1]
        bend = (x2 - x1) * _BEND
        path.append(f"C{_at((x1 + bend, y1))} {_at((x2 - bend, y2))} {_at((x2, y2))}")
        if number + 2 < len(points):
            path.append(f"L{_at(points[number + 2])}")
    return " ".join(path)


def _loop(start: Point, end: Point) -> str:
    out = start[0] + 28
    return f"M{_at(start)} C{_at((out, start[1]))} {_at((out, end[1]))} {_at(end)}"


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _parent_end(point: Point, side: int, link: Link) -> str:
    """Return a bar: one row; and before it a ring, if there may be none."""
    x, y = point[0] + side * _FOOT / 2, point[1]
    bar = f'<path d="M{_at((x, y - _SPREAD))} L{_at((x, y + _SPREAD))}"/>'
    if not link.optional:
        return bar
    return f'{bar}<circle class="ring" cx="{x + side * 7:.1f}" cy="{y:.1f}" r="3"/>'


def _child_end(point: Point, side: int, link: Link) -> str:
    """Return a crow's foot: many rows; or a bar, if there is at most one."""
    x, y = point
    tip = x + side * _FOOT
    if link.unique:
        bar = x + side * _FOOT / 2
        return f'<path d="M{_at((bar, y - _SPREAD))} L{_at((bar, y + _SPREAD))}"/>'
    toes = "".join(f"M{_at((tip, y))} L{_at((x, y + toe))} " for toe in (-_SPREAD, _SPREAD))
    return f'<path d="{toes.strip()}"/>'
