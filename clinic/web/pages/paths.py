"""Paths of this application that a request names, so that none leads elsewhere."""

from __future__ import annotations

from urllib.parse import urlsplit

from clinic.web import characters

_LONGEST = 500


def local_path(text: str | None) -> str:
    """Return a path of this application, empty for all that a browser would take elsewhere.

    Browsers read a backslash as a slash and leave out tabs and line ends.
    """
    if not text or len(text) > _LONGEST or not text.startswith("/"):
        return ""
    if text.startswith("//") or "\\" in text or any(ord(character) <= 0x20 for character in text):
        return ""
    if characters.stray(text):
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return "" if parts.scheme or parts.netloc else text
