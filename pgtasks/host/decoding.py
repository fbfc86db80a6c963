"""Decode untrusted documents, checking types, ranges and size.

A backup may come from anybody, and so may the answers of a host. A document is decoded directly
into a type, so that unknown parts are never built. Import this only where it is used, to keep
msgspec out of `inv --list`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from pgtasks.errors import NotProven

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Moment = Annotated[  # UTC, as the server's clock or the journal says it
    str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z\Z")
]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # a SHA-256

# a NUL is in no text of a database, and invalid for libpq and file names
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def decode(content: bytes, kind: type[T], where: str) -> T:
    """Decode a JSON document into a type; `where` begins the error message.

    Raises NotProven for anything else.
    """
    if b"\\u0000" in content and _NUL.search(content):
        raise NotProven(f"{where}: a text in it holds a NUL character")
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as exc:
        raise NotProven(f"{where}: {_why(exc)}") from None


def decode_own(content: bytes, kind: type[T], where: str) -> T:
    """Decode a document that pgtasks wrote, whose names and paths need not be UTF-8.

    Such a byte is half of a surrogate pair in it, which only json can read. Raises NotProven.
    """
    try:
        return msgspec.convert(json.loads(content), kind, str_keys=True)
    except (ValueError, RecursionError) as exc:
        raise NotProven(f"{where}: {_why(exc)}") from None


def _why(exc: Exception) -> str:
    """Return the message of msgspec as `tables: expected int, got str`."""
    if isinstance(exc, RecursionError):
        return "nested too deep"
    words, _, place = str(exc).replace("`", "").partition(" - at ")
    place = place.replace("$.", "").removesuffix("$")
    if place.startswith("key in "):
        place = f"{place[7:]}: a key"
    return (f"{place}: " if place else "") + words[:1].lower() + words[1:]
