"""Differences with names, which --accept NAME accepts."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pgtasks.errors import NotProven
from pgtasks.report import plural

_SHOWN = 20  # number of differences in an error


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs (`view public.todo`, stable, as --accept takes it) and how (` is missing`)."""

    name: str
    words: str

    def __str__(self) -> str:
        return self.name + self.words


def accepted(
    differences: Iterable[Difference], accept: Sequence[str], problem: str
) -> tuple[Difference, ...]:
    """Return the differences, raising NotProven if one of them is not accepted by its name.

    The error lists the differences that are not accepted, with the flags that accept them.
    """
    # a missing table is a difference of the tables and of the schema's objects
    unique = tuple(dict.fromkeys(differences))
    known = {each.name for each in unique}
    names = {meant(name, known) for name in accept}
    left = [each for each in unique if each.name not in names]
    if not left:
        return unique
    flags = [
        f"--accept {shlex.quote(name)}"
        for name in dict.fromkeys(difference.name for difference in unique)
    ]
    raise NotProven(
        f"{problem}: {plural(len(left), 'difference')}",
        hint="\n".join(_hint(left, flags)),
        details={
            "differences": [
                {"name": difference.name, "difference": str(difference)} for difference in left
            ],
            "accept": " ".join(flags),
        },
    )


def _hint(left: Sequence[Difference], flags: Sequence[str]) -> Iterable[str]:
    yield from map(str, left[:_SHOWN])
    if len(left) > _SHOWN:
        yield f"and {len(left) - _SHOWN} more: --json lists all, with the flags that accept them"
    else:
        yield f"to swap in spite of that, add {' '.join(flags)}"


def unused(differences: Iterable[Difference], accept: Sequence[str]) -> list[str]:
    """Return the names of --accept without a difference."""
    known = {each.name for each in differences}
    return [name for name in dict.fromkeys(accept) if not meant(name, known)]


def meant(typed: str, names: Collection[str]) -> str:
    """Return the name that was typed, empty if none or several match.

    It is the name itself, else the only one that differs only in white space.
    """
    if typed in names:
        return typed
    alike = {name for name in names if _folded(name) == _folded(typed)}
    return alike.pop() if len(alike) == 1 else ""


def _folded(name: str) -> str:
    return " ".join(name.split())
