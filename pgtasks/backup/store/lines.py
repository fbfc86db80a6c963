"""Parse the lines that the scripts of a remote store print, before an archive or alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from pgtasks.errors import Failed

MOST = 64 << 20  # bytes of lines that a script prints: some 500,000 names
_LINE = 16_384  # of one line
_SIZE = re.compile(r"[0-9]{1,18}")
_KINDS = {
    "l": "a symbolic link",
    "p": "a named pipe",
    "s": "a socket",
    "b": "a device",
    "c": "a device",
}


def words(source: IO[bytes]) -> Iterator[tuple[str, str, str]]:
    """Read lines up to an empty one or the end; yield the first word and the rest of each."""
    for line in raw(source):
        yield line.partition(" ")


def raw(source: IO[bytes]) -> Iterator[str]:
    """Read lines up to an empty one or the end, raising Failed if they exceed the limits."""
    left = MOST
    while (line := source.readline(_LINE)) not in (b"", b"\n"):
        left -= len(line)
        if left < 0 or (len(line) == _LINE and line[-1:] != b"\n"):
            raise Failed("the host sent longer lines than expected")
        yield line.rstrip(b"\n").decode("utf-8", "surrogateescape")


def listed(line: str) -> tuple[str, int, str]:
    """Return name, size and kind (empty for a file) from a line of ls.

    Any other line, such as part of a name, is a name.
    """
    fields = line.split(None, 8)
    if len(fields) < 5:
        return line, 0, ""
    if kind := _KINDS.get(fields[0][:1]):
        return fields[-1].removeprefix("./"), 0, kind
    if len(fields) < 9 or not _SIZE.fullmatch(fields[4]):
        return line, 0, ""
    return fields[8].removeprefix("./"), int(fields[4]), ""
