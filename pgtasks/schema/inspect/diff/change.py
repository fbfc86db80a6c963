"""A difference between two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import Any


@dataclass(frozen=True)
class Change:
    """What differs: `name` (`table public.visits`) and how, in `words`.

    `only` is the side that has it, empty if both have it. `texts` are both definitions.
    """

    name: str
    words: str
    only: str = ""
    texts: tuple[str, str] = field(default=("", ""), repr=False)

    def text_lines(self) -> list[str]:
        """Return the lines in which the definitions differ, as `diff -u` shows them."""
        # a carriage return may be all that differs
        ours, theirs = (text.strip().replace("\r", "\\r").splitlines() for text in self.texts)
        return list(unified_diff(ours, theirs, n=1, lineterm=""))[2:]

    def as_json(self, sides: Sequence[str]) -> dict[str, Any]:
        """Return plain data."""
        texts = dict(zip(sides, self.texts, strict=True)) if any(self.texts) else {}
        return {"name": self.name, "difference": self.words, "only_in": self.only or None} | (
            {"definitions": texts} if texts else {}
        )


def only(name: str, side: str, more: str = "") -> Change:
    """Return the difference of what one side alone has."""
    return Change(name, f"only in {side}{more}", side)
