"""What others wrote, decoded: its kind, types, ranges and size are checked before it is used.

A backup may come from anybody, and so may what a host answers. A document is decoded straight into
a type, so that what is not asked for is never built. Imported where something is decoded: msgspec
has no part in `inv --list`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

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

# no text of a database holds one, and neither libpq nor a file's name takes one
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def decode(content: bytes, kind: type[T], where: str) -> T:
    """Return a JSON document as the type that it is to have; `where` opens the error.

    Raises NotProven for anything else.
    """
    if b"\\u0000" in content and _NUL.search(content):
        raise NotProven(f"{where}: a text in it holds a NUL character")
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as exc:
        raise NotProven(f"{where}: {_why(exc)}") from None


def convert(value: Any, kind: type[T], where: str) -> T:
    """Return decoded JSON as the type that it is to have, raising NotProven for anything else."""
    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError) as exc:
        raise NotProven(f"{where}: {_why(exc)}") from None


def _why(exc: Exception) -> str:
    """Return msgspec's words in ours: `tables: expected int, got str`."""
    if isinstance(exc, RecursionError):
        return "nested too deep"
    words, _, place = str(exc).replace("`", "").partition(" - at ")
    place = place.replace("$.", "").removesuffix("$")
    if place.startswith("key in "):
        place = f"{place[7:]}: a key"
    return (f"{place}: " if place else "") + words[:1].lower() + words[1:]
