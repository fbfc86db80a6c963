"""Rules as the lines of a file, to paste."""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.guess import Guess


def lines(guesses: Iterable[tuple[Column, Guess]]) -> list[str]:
    """Return the lines of rules, with the reasons as comments."""
    rows = [(f"  {_key(column)}: {_quoted(each.mask)}", each.why) for column, each in guesses]
    width = max((len(rule) for rule, _ in rows), default=0)
    return [f"{rule:<{width}}  # {why}" for rule, why in rows]


def _key(column: Column) -> str:
    name = str(column)
    return (
        "'" + name.replace("'", "''") + "'" if not name.replace(".", "_").isidentifier() else name
    )


def _quoted(mask: str) -> str:
    return f'"{mask}"' if "'" in mask or mask == "null" else mask
