"""Compare two sides in all their parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from pgtasks.errors import Refused
from pgtasks.report import plural
from pgtasks.schema.inspect.diff import definitions, facts
from pgtasks.schema.inspect.diff.change import Change
from pgtasks.schema.inspect.diff.definitions import Definitions
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.server.proof import entries
from pgtasks.server.proof.entries import Access

_SHOWN = {
    "parameters": "settings of the server",
    "enforced": "whether foreign keys are enforced",
    "database": "the database itself",
}
PARTS = ("owners", "grants", "extensions", "settings", "roles")


def left_out(words: Collection[str]) -> frozenset[str]:
    """Return the parts that --without names, raising Refused for an unknown one."""
    parts = frozenset(part.strip() for word in words for part in word.split(",") if part.strip())
    if unknown := sorted(parts - set(PARTS)):
        raise Refused(f"--without {unknown[0]!r} is no part, known: {', '.join(PARTS)}")
    return parts


def objects(left: Side, right: Side, without: Collection[str] = ()) -> Definitions:
    """Compare the objects of two sides."""
    return definitions.compare(left, right, _access(left, right, without))


def compare(
    left: Side,
    right: Side,
    objects: Definitions,
    *,
    without: Collection[str] = (),
    rows: bool = False,
    text: bool = False,
) -> Diff:
    """Return the differences of two sides, without the parts that are left out."""
    changes, compared, skipped = list(objects.changes), [_schema(objects, without)], list[str]()
    for name, part in _parts(left, right, without):
        if name.partition(" ")[0] in without:  # settings of the server, too
            skipped.append(f"{name}: left out by --without")
        elif isinstance(part, str):
            skipped.append(f"{name}: {part}")
        else:
            compared.append(name)
            changes += part
    skipped += [f"{name}: left out by --without" for name in PARTS[:2] if name in without]
    more, unproven = facts.rows(left, right) if rows else ([], [])
    changes += more
    if rows and left.rows and right.rows:
        compared.append(f"rows of {plural(len(right.rows.tables), 'table')}")
    elif rows:
        skipped.append("rows: a side has no proof of all its rows")
    else:
        skipped.append("rows: --rows compares them")
    skipped += [*unproven, *_not_shown(left, right, objects)]
    return Diff((left.name, right.name), tuple(changes), tuple(compared), tuple(skipped), text)


def _access(left: Side, right: Side, without: Collection[str]) -> Access:
    owners = "owners" not in without
    return Access(
        owner=str if owners else lambda _: "",
        owners=owners,
        grants="grants" not in without,
        subscriptions=left.subscriptions and right.subscriptions,
    )


def _schema(objects: Definitions, without: Collection[str]) -> str:
    and_those = [part for part in ("owners", "grants") if part not in without]
    words = " and ".join(["triggers with their state", *and_those])
    return f"schema ({plural(objects.number, 'object')}, {words.replace(' and ', ', ', 1)})"


def _parts(
    left: Side, right: Side, without: Collection[str]
) -> Iterator[tuple[str, list[Change] | str]]:
    """Yield each part with its differences, or why it is not compared."""

    def database(left: Side, right: Side) -> Iterator[Change]:
        return facts.database(left, right, without)

    parts: tuple[tuple[str, Callable[[Side, Side], Iterator[Change]]], ...] = (
        ("enforced", facts.enforced),
        ("database", database),
        ("extensions", facts.extensions),
        ("settings", facts.settings),
        ("parameters", facts.parameters),
        ("roles", facts.roles),
    )
    for name, differences in parts:
        unknown = [side.name for side in (left, right) if getattr(side, name) is None]
        same = left.system == right.system and name in ("parameters", "roles")
        shown = _SHOWN.get(name, name)
        if unknown:
            yield shown, f"not known of {' and '.join(unknown)}"
        elif same:
            yield f"{shown} (one server)", []
        else:
            yield shown, list(differences(left, right))


def _not_shown(left: Side, right: Side, objects: Definitions) -> Iterator[str]:
    if not (left.subscriptions and right.subscriptions):
        yield "subscriptions: only superusers see them"
    if objects.printed:
        names = entries.names(objects.printed)
        yield (
            f"the text of {names}: PostgreSQL {left.major} and {right.major} print it in ways of "
            "their own"
        )
    yield "passwords of roles, server files"
