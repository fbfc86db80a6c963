"""Durations as people write them: 90min, 36h, 7d, 2w, or several of these: 1d 12h."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"([0-9]{1,9}) ?(min|[shdw])(?![a-z])", re.ASCII)
_LONGEST = timedelta(days=36_525)


def parse(text: str) -> timedelta:
    """Return the length of a duration, raising ValueError for anything else, and above 100 years.

    Months and years have no fixed length, and are no units; nor is m, which could mean either.
    """
    rest = _PART.sub("", text)
    parts = _PART.findall(text)
    if not parts or rest.strip():
        raise ValueError(f"{text!r}, expected a duration: 36h, 7d, 2w (s, min, h, d, w)")
    length = timedelta()
    for number, unit in parts:
        # before they are multiplied, which overflows
        if int(number) > _LONGEST / _UNITS[unit]:
            raise ValueError(f"{text!r}, expected a duration of at most 100 years")
        length += int(number) * _UNITS[unit]
    if length > _LONGEST:
        raise ValueError(f"{text!r}, expected a duration of at most 100 years")
    return length
