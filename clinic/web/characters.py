"""Characters that no text of the clinic has, whether a form or a program sends it."""

from __future__ import annotations

import unicodedata

BREAKS = "\t\n\r"  # of a text with several lines
# they change the order of the text around them: a name that has one shows another name
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def stray(text: str, *, allowed: str = "") -> str:
    """Return what a text may not have: controls, halves of characters, and what turns it around."""
    if text.isprintable():  # nearly always; names in Arabic or Hebrew are
        return ""
    return "".join(
        character
        for character in text
        if character not in allowed
        and (character in TURNS or unicodedata.category(character) in ("Cc", "Cs"))
    )


def plain(text: str, *, allowed: str = "") -> str:
    """Return a text without what it may not have."""
    found = stray(text, allowed=allowed)
    return "".join(character for character in text if character not in found)
