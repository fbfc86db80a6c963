"""Place the boxes of a diagram and the lines between them, in pixels."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgtasks.schema.inspect.diagram import layers
from pgtasks.schema.inspect.diagram.layers import Layers, Pair
from pgtasks.schema.inspect.diagram.model import Link, Model, Table, pairs

CHAR = 7.3  # the width of a character of 12 pixels in a monospace font
ROW, HEAD, PAD = 18.0, 26.0, 10.0
MARK = 36.0  # for PK and FK before a column's name
_BETWEEN = 16.0  # between the name of a column and its type
_GAP_X, _GAP_Y, _DUMMY = 76.0, 26.0, 12.0
_APART = 48.0  # between parts that no foreign key joins
_MARGIN = 24.0
_SWEEPS, _LAST = 24, 4  # over the layers; the last ones look to both sides
_MANY = 500  # tables and gaps, with which fewer sweeps must do

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """The place of a table; y grows downwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """A foreign key as a line, from the parent to the child; it is horizontal at its points.

    Between each second point and the next it bends.
    """

    link: Link
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Layout:
    """The picture: a box for each table, in their order, and the lines."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def box_size(table: Table) -> tuple[float, float]:
    """Return width and height of the box of a table."""
    name = max((_cells(each.name) for each in table.columns), default=0)
    type = max((_cells(each.type) for each in table.columns), default=0)
    body = MARK + name * CHAR + _BETWEEN + type * CHAR if table.columns else 0
    rows = len(table.columns) + bool(table.hidden)
    width = max(_cells(table.label) * CHAR * 1.08, body, 90) + 2 * PAD
    return round(width), HEAD + rows * ROW + (6 if rows else 0)


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def lay_out(model: Model) -> Layout:
    """Lay the tables out, those that foreign keys join together."""
    sizes = [box_size(table) for table in model.tables]
    joined = pairs(model.links)
    groups = layers.components(len(sizes), joined)
    parts = [_part(group, joined, sizes) for group in groups]
    boxes, passed = dict[int, Box](), dict[Pair, list[Box]]()
    for part in _packed(parts):
        boxes |= part.boxes
        passed |= part.passed
    everything = [*boxes.values(), *(gap for gaps in passed.values() for gap in gaps[1:])]
    width = max((box.x + box.width for box in everything), default=0) + _MARGIN
    height = max((box.y + box.height for box in everything), default=0) + _MARGIN
    lines = tuple(_line(model, link, boxes, passed) for link in model.links)
    return Layout(width, height, tuple(boxes[number] for number in range(len(sizes))), lines)


@dataclass(frozen=True)
class _Part:
    """Tables that foreign keys join: their boxes, and the gaps that a line passes in layers.

    The gaps of a line are from the left to the right; before the first one is the layer of the
    table at its left end.
    """

    boxes: dict[int, Box]
    passed: dict[Pair, list[Box]]

    @property
    def width(self) -> float:
        """Return the width of the part."""
        return max(box.x + box.width for box in self.boxes.values())

    @property
    def height(self) -> float:
        """Return the height of the part."""
        gaps = (gap for each in self.passed.values() for gap in each[1:])
        return max(box.y + box.height for box in itertools.chain(self.boxes.values(), gaps))

    def moved(self, x: float, y: float) -> _Part:
        """Return the part at another place."""
        boxes = {node: _moved(box, x, y) for node, box in self.boxes.items()}
        passed = {pair: [_moved(box, x, y) for box in gaps] for pair, gaps in self.passed.items()}
        return _Part(boxes, passed)


def _moved(box: Box, x: float, y: float) -> Box:
    return Box(box.x + x, box.y + y, box.width, box.height)


def _part(nodes: Sequence[int], joined: Sequence[Pair], sizes: Sequence[Point]) -> _Part:
    if len(nodes) == 1:
        return _Part({nodes[0]: Box(0, 0, *sizes[nodes[0]])}, {})
    inside = set(nodes)
    own = [pair for pair in joined if pair[0] in inside]
    arranged = layers.arrange(nodes, own, [height for _, height in sizes])
    heights = {node: sizes[node][1] for node in nodes}
    centers = _centers(arranged, heights)
    boxes, x = dict[int, Box](), 0.0
    bands: list[tuple[float, float]] = []
    layer_of = {node: number for number, each in enumerate(arranged.layers) for node in each}
    leaving = Counter(layer_of[node] for path in arranged.paths.values() for node in path[:-1])
    for number, layer in enumerate(arranged.layers):
        width = max([sizes[node][0] for node in layer if node >= 0] or [0.0])
        for node in layer:
            own_width = sizes[node][0] if node >= 0 else width
            high = heights.get(node, 0.0)
            boxes[node] = Box(x, centers[node] - high / 2, own_width, high)
        bands.append((x, width))
        x += width + _GAP_X + min(leaving[number], 16) * 3
    top = min(box.y for box in boxes.values())
    band = {node: bands[number] for node, number in layer_of.items()}
    passed = {
        pair: [Box(band[node][0], boxes[node].y - top, band[node][1], 0) for node in path[:-1]]
        for pair, path in arranged.paths.items()
    }
    real = {node: _moved(box, 0, -top) for node, box in boxes.items() if node >= 0}
    return _Part(real, passed)


def _centers(arranged: Layers, heights: Mapping[int, float]) -> dict[int, float]:
    """Return the middle of each node: near to the mean of its neighbours, in order, apart."""
    near: dict[str, dict[int, list[int]]] = {"left": defaultdict(list), "right": defaultdict(list)}
    for path in arranged.paths.values():
        for one, other in itertools.pairwise(path):
            near["right"][one].append(other)
            near["left"][other].append(one)
    centers = dict[int, float]()
    for layer in arranged.layers:
        centers |= zip(layer, _apart(layer, [0.0] * len(layer), heights), strict=True)
    sweeps, last = (_SWEEPS, _LAST) if len(centers) < _MANY else (_SWEEPS // 8, 1)
    for sweep in range(sweeps):
        rightwards = sweep % 2 == 0
        order = arranged.layers if rightwards else arranged.layers[::-1]
        for layer in order:
            wanted = []
            for node in layer:
                sides = (
                    ("left", "right")
                    if sweep >= sweeps - last
                    else (("left",) if rightwards else ("right",))
                )
                others = [centers[each] for side in sides for each in near[side][node]]
                wanted.append(sum(others) / len(others) if others else centers[node])
            centers |= zip(layer, _apart(layer, wanted, heights), strict=True)
    return centers


def _apart(
    layer: Sequence[int], wanted: Sequence[float], heights: Mapping[int, float]
) -> list[float]:
    """Return the places nearest to the wanted ones at which nodes in order do not overlap.

    The sum of squared distances is the least: pool adjacent violators.
    """
    offsets, at = [0.0], 0.0
    for one, other in itertools.pairwise(layer):
        gap = _GAP_Y if one >= 0 and other >= 0 else _DUMMY
        at += (heights.get(one, 0.0) + heights.get(other, 0.0)) / 2 + gap
        offsets.append(at)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=False):
        mean, number = place - offset, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, number = (before * many + mean * number) / (many + number), many + number
        pools.append((mean, number))
    means = [mean for mean, number in pools for _ in range(number)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _packed(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts in rows, the larger ones first."""
    area = sum((part.width + _APART) * (part.height + _APART) for part in parts)
    row_width = max([area**0.5 * 1.25, *(part.width for part in parts)], default=0)
    placed, x, y, high = list[_Part](), 0.0, 0.0, 0.0
    for part in parts:
        if x and x + part.width > row_width:
            x, y, high = 0.0, y + high + _APART, 0.0
        placed.append(part.moved(_MARGIN + x, _MARGIN + y))
        x, high = x + part.width + _APART, max(high, part.height)
    return placed


def _line(
    model: Model, link: Link, boxes: Mapping[int, Box], passed: Mapping[Pair, list[Box]]
) -> Line:
    """Return the line of a foreign key, at the rows of its columns."""
    parent, child = boxes[link.parent], boxes[link.child]
    at_parent = parent.y + _row(model.tables[link.parent], link.referenced)
    at_child = child.y + _row(model.tables[link.child], link.columns)
    if link.parent == link.child:
        right = parent.x + parent.width
        apart = at_child + ROW / 2 if at_child == at_parent else at_child
        return Line(link, ((right, at_parent), (right, apart)))
    gaps = passed[link.parent, link.child]
    parent_first = parent.x < child.x
    left, right_box = (parent, child) if parent_first else (child, parent)
    first, last = (at_parent, at_child) if parent_first else (at_child, at_parent)
    points = [(left.x + left.width, first), (gaps[0].x + gaps[0].width, first)]
    for gap in gaps[1:]:
        points += [(gap.x, gap.y), (gap.x + gap.width, gap.y)]
    points.append((right_box.x, last))
    return Line(link, tuple(points if parent_first else reversed(points)))


def _row(table: Table, columns: Sequence[str]) -> float:
    """Return the middle of the row of a key, that of the head if it is not shown.

    Of a key of several columns it is the last one: the first ones often are those of a tenant,
    which all keys of the table have.
    """
    names = [each.name for each in table.columns]
    place = next((names.index(name) for name in reversed(columns) if name in names), None)
    return HEAD / 2 if place is None else HEAD + 3 + place * ROW + ROW / 2
