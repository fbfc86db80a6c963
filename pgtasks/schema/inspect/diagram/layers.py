"""Assign the nodes of a graph to layers, and order each layer so that few lines cross.

The method is that of Sugiyama, Tagawa and Toda (1981): break cycles, choose layers, put a dummy
node where a line passes a layer, order the layers by the mean places of neighbours. It takes no
random choice, so the same graph always has the same picture.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Pair = tuple[int, int]
_SWEEPS = 12
_MANY = 500  # nodes, with which fewer sweeps must do


@dataclass(frozen=True)
class Layers:
    """The nodes by layer, in order; those below 0 are dummies.

    `paths` are the nodes that each line passes, from the left to the right.
    """

    layers: tuple[tuple[int, ...], ...]
    paths: dict[Pair, tuple[int, ...]] = field(default_factory=dict)


def components(number: int, pairs: Sequence[Pair]) -> list[list[int]]:
    """Return the connected parts of a graph, each sorted; the largest first."""
    near = _neighbours(pairs)
    left, parts = set(range(number)), []
    for start in range(number):
        if start not in left:
            continue
        part, open_ones = set[int](), [start]
        while open_ones:
            node = open_ones.pop()
            if node in left:
                left.discard(node)
                part.add(node)
                open_ones += sorted(near[node])
        parts.append(sorted(part))
    return sorted(parts, key=lambda part: (-len(part), part))


def arrange(nodes: Sequence[int], pairs: Sequence[Pair], heights: Sequence[float]) -> Layers:
    """Return the layers of one connected part; a parent is to the left of its children.

    `heights` are those of the boxes: no layer becomes much higher than the picture is wide.
    """
    forward = _without_cycles(nodes, pairs)
    layer = _layers(nodes, forward, heights)
    order, paths = _with_dummies(nodes, pairs, layer)
    return Layers(tuple(tuple(each) for each in _ordered(order, paths)), paths)


def _neighbours(pairs: Sequence[Pair]) -> dict[int, set[int]]:
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs:
        near[one].add(other)
        near[other].add(one)
    return near


def _without_cycles(nodes: Sequence[int], pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs, with those turned round that would close a cycle."""
    children: dict[int, list[int]] = defaultdict(list)
    for parent, child in pairs:
        children[parent].append(child)
    entered = {child for _, child in pairs}
    starts = [*(node for node in nodes if node not in entered), *nodes]
    state, forward = dict[int, str](), list[Pair]()
    for start in starts:
        if start in state:
            continue
        state[start] = "open"
        stack = [(start, iter(children[start]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = "done"
                stack.pop()
            elif state.get(following) == "open":
                forward.append((following, node))
            else:
                forward.append((node, following))
                if following not in state:
                    state[following] = "open"
                    stack.append((following, iter(children[following])))
    return sorted(set(forward))


def _layers(
    nodes: Sequence[int], forward: Sequence[Pair], heights: Sequence[float]
) -> dict[int, int]:
    """Return the layer of each node: behind those before it, and in no layer that is too high."""
    before: dict[int, list[int]] = defaultdict(list)
    after: dict[int, list[int]] = defaultdict(list)
    for one, other in forward:
        before[other].append(one)
        after[one].append(other)
    most = _highest([heights[node] for node in nodes])
    layer, filled = dict[int, int](), defaultdict[int, float](float)
    waiting = {node: len(before[node]) for node in nodes}
    # what has many behind it comes first, that they can be near
    ready = [(-len(after[node]), node) for node in nodes if not waiting[node]]
    heapq.heapify(ready)
    while ready:
        _, node = heapq.heappop(ready)
        place = max((layer[each] + 1 for each in before[node]), default=0)
        while filled[place] and filled[place] + heights[node] > most:
            place += 1
        layer[node] = place
        filled[place] += heights[node]
        for other in after[node]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, (-len(after[other]), other))
    return _drawn_near(layer, before, after)


def _highest(heights: Sequence[float]) -> float:
    """Return the height at which a layer is full, for a picture about as wide as it is high."""
    area = sum(heights) * 420  # the width of a box, with the lines beside it
    return max([*heights, math.sqrt(area)])


def _drawn_near(
    layer: dict[int, int], before: dict[int, list[int]], after: dict[int, list[int]]
) -> dict[int, int]:
    """Move what has nothing before it to the layer before its children."""
    for node in sorted(layer):
        if not before[node] and after[node]:
            layer[node] = min(layer[each] for each in after[node]) - 1
    used = {old: new for new, old in enumerate(sorted(set(layer.values())))}
    return {node: used[place] for node, place in layer.items()}


def _with_dummies(
    nodes: Sequence[int], pairs: Sequence[Pair], layer: dict[int, int]
) -> tuple[list[list[int]], dict[Pair, tuple[int, ...]]]:
    order: list[list[int]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in nodes:
        order[layer[node]].append(node)
    paths, dummy = dict[Pair, tuple[int, ...]](), -1
    for pair in pairs:
        left, right = sorted(pair, key=lambda node: layer[node])
        path = [left]
        for place in range(layer[left] + 1, layer[right]):
            order[place].append(dummy)
            path.append(dummy)
            dummy -= 1
        paths[pair] = (*path, right)
    return order, paths


def _ordered(order: list[list[int]], paths: dict[Pair, tuple[int, ...]]) -> list[list[int]]:
    """Return the layers in the order with the fewest crossings that was found."""
    steps = sorted({step for path in paths.values() for step in itertools.pairwise(path)})
    before: dict[int, list[int]] = defaultdict(list)
    after: dict[int, list[int]] = defaultdict(list)
    for left, right in steps:
        before[right].append(left)
        after[left].append(right)
    best, fewest = order, _crossings(order, after)
    for sweep in range(_SWEEPS if len(before) < _MANY else _SWEEPS // 6):
        rightwards = sweep % 2 == 0
        near = before if rightwards else after
        order = [list(each) for each in order]
        for number in range(len(order)) if rightwards else reversed(range(len(order))):
            fixed = number - 1 if rightwards else number + 1
            if 0 <= fixed < len(order):
                place = {node: at for at, node in enumerate(order[fixed])}
                order[number] = _by_means(order[number], near, place)
        crossings = _crossings(order, after)
        if crossings < fewest:
            best, fewest = order, crossings
    return best


def _by_means(nodes: Sequence[int], near: dict[int, list[int]], place: dict[int, int]) -> list[int]:
    means = {
        node: sum(place[each] for each in near[node]) / len(near[node]) if near[node] else at
        for at, node in enumerate(nodes)
    }
    return sorted(nodes, key=lambda node: means[node])  # stable


def _crossings(order: Sequence[Sequence[int]], after: dict[int, list[int]]) -> int:
    """Return how many lines cross: pairs whose ends are in another order than their beginnings."""
    crossings = 0
    for left, right in itertools.pairwise(order):
        place = {node: at for at, node in enumerate(right)}
        seen: list[int] = []  # sorted
        for node in left:
            ends = sorted(place[each] for each in after[node])
            crossings += sum(len(seen) - bisect.bisect_right(seen, end) for end in ends)
            for end in ends:
                bisect.insort(seen, end)
    return crossings
