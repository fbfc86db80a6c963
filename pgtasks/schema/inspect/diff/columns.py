"""Compare two definitions of a table, by columns and constraints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks.server import parser
from pgtasks.server.parser import SyntaxFault
from pgtasks.server.quoting import quoted

_SHOWN = 5  # differences of one table


@dataclass(frozen=True)
class Parts:
    """A CREATE TABLE of pg_dump: its columns and constraints by name, and all that is around."""

    columns: dict[str, str]
    constraints: dict[str, str]
    rest: str


def parts(definition: str) -> Parts | None:
    """Return the parts of a table's definition, None if it is not a plain CREATE TABLE."""
    try:
        statements = parser.parse(definition)
    except SyntaxFault:
        return None
    node: Any = statements[0].node if statements else None
    if type(node).__name__ != "CreateStmt" or not len(node.table_elts):
        return None
    columns, constraints, data = dict[str, str](), dict[str, str](), definition.encode()
    elements = [getattr(each, each.WhichOneof("node")) for each in node.table_elts]
    starts = [each.location for each in elements]
    if starts != sorted(set(starts)):
        return None
    end = data.find(b"\n)", starts[-1])
    if end < 0:
        return None
    for each, begin, until in zip(elements, starts, [*starts[1:], end], strict=True):
        text = data[begin:until].decode().strip().removesuffix(",")
        if type(each).__name__ == "ColumnDef":
            columns[each.colname] = text
        else:
            constraints[each.conname] = text
    return Parts(columns, constraints, (data[: starts[0]] + data[end:]).decode())


def words(ours: str, theirs: str, sides: tuple[str, str]) -> str:
    """Return how two definitions of a table differ, empty if columns and constraints do not."""
    left, right = parts(ours), parts(theirs)
    if left is None or right is None:
        return ""
    found = [
        *_differing("column", left.columns, right.columns, sides),
        *_differing("constraint", left.constraints, right.constraints, sides),
    ]
    common = [name for name in left.columns if name in right.columns]
    if not found and common != [name for name in right.columns if name in left.columns]:
        found.append("its columns have another order")
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "; ".join([*found[:_SHOWN], *more])


def _differing(
    kind: str, ours: dict[str, str], theirs: dict[str, str], sides: tuple[str, str]
) -> Iterator[str]:
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        called = f"{kind} {quoted(name)}"
        if name not in theirs:
            yield f"{called} only in {sides[0]}"
        elif name not in ours:
            yield f"{called} only in {sides[1]}"
        elif ours[name] != theirs[name]:
            texts = (_without_name(each[name], name) for each in (ours, theirs))
            both = (f"{text} in {side}" for text, side in zip(texts, sides, strict=True))
            yield f"{called}: {', '.join(both)}"


def _without_name(text: str, name: str) -> str:
    for prefix in (quoted(name), f'"{name}"', f"CONSTRAINT {quoted(name)}"):
        text = text.removeprefix(f"{prefix} ")
    return " ".join(text.split())
