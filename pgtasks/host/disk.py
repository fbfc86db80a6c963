"""The file system of a folder, as `df -Pk` prints it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# the name of the file system at the beginning of the line may contain spaces
_LINE = re.compile(
    r"\s(?P<size>[0-9]{1,18})\s+-?[0-9]+\s+(?P<free>-?[0-9]{1,18})\s+\S+\s+(?P<mount>/.*)$"
)
_LONGEST = 16_384  # characters of a line that are read


@dataclass(frozen=True)
class Disk:
    """The file system of a folder, in bytes."""

    folder: str
    mount: str
    size: int
    free: int


def parse(folder: str, text: str) -> Disk | None:
    """Return the file system in the last line of df's output, None if there is none."""
    last = text.rstrip("\n").rpartition("\n")[2][:_LONGEST]
    columns = _LINE.search(last)
    if columns is None:
        return None
    size, free = int(columns["size"]) * 1024, int(columns["free"]) * 1024
    return Disk(folder, columns["mount"], size, free)
