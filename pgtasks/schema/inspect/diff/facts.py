"""Compare what is no object: extension versions, settings, roles, rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pgtasks.report import count, plural
from pgtasks.schema.inspect.diff.change import Change, only
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.server import proof as proofs
from pgtasks.server.proof import Proof
from pgtasks.server.quoting import quoted

_NOT_SET = "not set"
_ONLY = (" is missing", " should not be there")  # which the objects show


def extensions(left: Side, right: Side) -> Iterator[Change]:
    """Yield the extensions that both sides have in other versions."""
    ours, theirs = left.extensions or {}, right.extensions or {}
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            words = f"version {ours[name]} in {left.name}, {theirs[name]} in {right.name}"
            yield Change(f"extension {quoted(name)}", words)


def settings(left: Side, right: Side) -> Iterator[Change]:
    """Yield the options of the databases that differ, and what they set for roles."""
    ours, theirs = left.settings or {}, right.settings or {}
    for name in sorted(ours.keys() | theirs.keys()):
        both = ours.get(name, _NOT_SET), theirs.get(name, _NOT_SET)
        if both[0] != both[1]:
            yield Change(f"setting {name}", f"{both[0]} in {left.name}, {both[1]} in {right.name}")


def database(left: Side, right: Side, without: Collection[str] = ()) -> Iterator[Change]:
    """Yield how owner, grants, comment and template of the databases differ."""
    ours, theirs = left.database or {}, right.database or {}
    for name in ours:
        part = "owners" if name == "owner" else name
        if part not in without and ours[name] != theirs.get(name):
            both = f"{ours[name]} in {left.name}, {theirs.get(name)} in {right.name}"
            yield Change(f"{name} of the database", both)


def enforced(left: Side, right: Side) -> Iterator[Change]:
    """Yield the constraints whose triggers one side alone has disabled."""
    ours, theirs = left.enforced or {}, right.enforced or {}
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            yield Change(name, f"{ours[name]} in {left.name}, {theirs[name]} in {right.name}")


def parameters(left: Side, right: Side) -> Iterator[Change]:
    """Yield the parameters of the servers that both have with other values."""
    ours, theirs = left.parameters or {}, right.parameters or {}
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            words = f"{ours[name]!r} in {left.name}, {theirs[name]!r} in {right.name}"
            yield Change(f"server parameter {name}", words)


def roles(left: Side, right: Side) -> Iterator[Change]:
    """Yield the roles that one server lacks, and those with other attributes or memberships."""
    ours, theirs = left.roles or {}, right.roles or {}
    for name in sorted(ours.keys() | theirs.keys()):
        called = f"role {quoted(name)}"
        if name not in theirs:
            yield only(called, left.name)
        elif name not in ours:
            yield only(called, right.name)
        elif ours[name] != theirs[name]:
            both = (
                f"{text or 'plain'} in {side.name}"
                for text, side in ((ours[name], left), (theirs[name], right))
            )
            yield Change(called, "; ".join(both))


def rows(left: Side, right: Side) -> tuple[list[Change], list[str]]:
    """Return the tables and sequences whose content differs, and what was not compared."""
    ours, theirs = left.rows, right.rows
    if ours is None or theirs is None:
        return [], []
    compared = proofs.compare(theirs, ours)
    numbers = _numbers(ours), _numbers(theirs)
    changes = [
        Change(
            f"rows of {each.name}",
            _rows(each.name, each.words, numbers, (left.name, right.name)),
        )
        for each in compared.differences
        if each.words not in _ONLY
    ]
    unproven = [
        f"rows of {item.object} in {side.name}: {item.reason}"
        for side, proof in ((left, ours), (right, theirs))
        for item in proof.unproven
    ]
    return changes, [*unproven, *compared.skipped]


def _numbers(proof: Proof) -> dict[str, int]:
    numbers = {f"table {table}": table.rows for table in proof.tables}
    if proof.large_objects:
        numbers["large objects"] = proof.large_objects.rows
    return numbers


def _rows(
    name: str, words: str, numbers: tuple[Mapping[str, int], ...], sides: tuple[str, str]
) -> str:
    """Return how the rows of a table differ, in the words of a comparison of two equals."""
    ours, theirs = (each.get(name) for each in numbers)
    if ours is None or theirs is None:  # a sequence, or a table that cannot be read
        expected, _, found = words.removeprefix(": ").partition(" expected, ")
        both = f"{found.removesuffix(' found')} in {sides[0]}, {expected} in {sides[1]}"
        return both if found else words.strip()
    if ours == theirs:
        return f"{plural(ours, 'row')} in both, whose content differs"
    return f"{count(ours)} in {sides[0]}, {count(theirs)} in {sides[1]}"
