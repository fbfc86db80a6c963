"""Which tables of a subset lead to which: by the rows that foreign keys need, or that follow.

A step leads from a table whose rows are taken to one from which more rows must be taken then: up a
foreign key, from a row to the one that it refers to, or down, to those that refer to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pgtasks.copy.part.keys import ForeignKey


@dataclass(frozen=True)
class Step:
    """A step along a foreign key from one table to another, both by OID."""

    key: ForeignKey
    start: int
    end: int
    down: bool


@dataclass(frozen=True)
class Graph:
    """The tables of a subset: those with rows of their own choice, and the steps between them.

    `restricted` are all tables that are not copied whole.
    """

    restricted: frozenset[int]
    chosen: frozenset[int]
    steps: tuple[Step, ...]

    @property
    def reached(self) -> frozenset[int]:
        """Return the restricted tables that may have rows at all."""
        return self.chosen | {step.end for step in self.steps}


def restricted(
    keys: Iterable[ForeignKey], roots: Mapping[int, int], named: Collection[int]
) -> set[int]:
    """Return some tables, and all that refer to one of them, directly or through others."""
    children: dict[int, set[int]] = {}
    for key in keys:
        children.setdefault(roots[key.parent], set()).add(roots[key.child])
    return _reachable(children, named)


def graph(
    keys: Sequence[ForeignKey],
    roots: Mapping[int, int],
    *,
    chosen: Collection[int],
    followed: Collection[int],
    bounded: Collection[int],
) -> Graph:
    """Return the graph of a subset.

    `roots` are the OIDs of the tables that partitions belong to, `chosen` the tables that rows are
    chosen from, `followed` the OIDs of foreign keys to go down, `bounded` the tables that are not
    copied whole.
    """
    steps = []
    for key in keys:
        child, parent = roots[key.child], roots[key.parent]
        if child in bounded and parent in bounded:
            steps.append(Step(key, child, parent, down=False))
            if key.oid in followed:
                steps.append(Step(key, parent, child, down=True))
    needed = _needed(steps, set(chosen))
    alive = _reachable(_ends(needed), chosen)
    return Graph(
        frozenset(bounded),
        frozenset(chosen),
        tuple(step for step in needed if step.start in alive),
    )


def _needed(steps: Sequence[Step], chosen: set[int]) -> list[Step]:
    """Return the steps without those up a key that all rows of their table came down.

    Without such a step back, most subsets have no cycle.
    """
    left = list(steps)
    while True:
        into: dict[int, list[Step]] = {}
        for step in left:
            into.setdefault(step.end, []).append(step)
        needless = [
            step
            for step in left
            if not step.down
            and step.start not in chosen
            and step.start != step.end
            and [(each.key.oid, each.down) for each in into.get(step.start, ())]
            == [(step.key.oid, True)]
        ]
        if not needless:
            return left
        left = [step for step in left if step not in needless]


def _ends(steps: Iterable[Step]) -> dict[int, set[int]]:
    ends: dict[int, set[int]] = {}
    for step in steps:
        ends.setdefault(step.start, set()).add(step.end)
    return ends


def _reachable(ends: Mapping[int, Collection[int]], starts: Collection[int]) -> set[int]:
    reached, open_ = set(starts), list(starts)
    while open_:
        for end in ends.get(open_.pop(), ()):
            if end not in reached:
                reached.add(end)
                open_.append(end)
    return reached


def before(graph: Graph, table: int) -> set[int]:
    """Return a table and all tables that lead to it."""
    starts: dict[int, set[int]] = {}
    for step in graph.steps:
        starts.setdefault(step.end, set()).add(step.start)
    return _reachable(starts, [table])


def in_order(graph: Graph, tables: Collection[int]) -> list[list[int]]:
    """Return tables in groups, cycles or one table, each after those that lead to it."""
    ends = {start: each & set(tables) for start, each in _ends(graph.steps).items()}
    starts: dict[int, set[int]] = {}
    for start, reached in ends.items():
        for end in reached:
            starts.setdefault(end, set()).add(start)
    groups, grouped = [], set[int]()
    for table in reversed(_finished(ends, sorted(tables))):
        if table not in grouped:
            back = _reachable(_without(starts, grouped), [table])
            groups.append(sorted(back - grouped))
            grouped |= back
    return groups


def _without(ends: Mapping[int, set[int]], left_out: set[int]) -> dict[int, set[int]]:
    return {start: reached - left_out for start, reached in ends.items()}


def _finished(ends: Mapping[int, set[int]], tables: Iterable[int]) -> list[int]:
    """Return tables in the order in which a search in depth is done with them."""
    done, seen = list[int](), set[int]()
    for first in tables:
        stack = [(first, iter(sorted(ends.get(first, ()))))] if first not in seen else []
        seen.add(first)
        while stack:
            table, rest = stack[-1]
            following = next((end for end in rest if end not in seen), None)
            if following is None:
                done.append(table)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(sorted(ends.get(following, ())))))
    return done
