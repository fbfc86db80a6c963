"""Text for people: numbers, sizes, times, and escaped control characters."""

from __future__ import annotations

import re

_SPANS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def shown(text: str) -> str:
    """Return lines with control characters escaped, for a terminal.

    Escape sequences could hide text, and direction marks could reverse it.
    """
    return "\n".join(
        line if line.isprintable() else "\t".join(map(printable, line.split("\t")))
        for line in text.split("\n")
    )


def printable(text: str) -> str:
    """Return text with its control characters escaped, because names may contain any."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count(number: int) -> str:
    """Return a number for a person: 812,004."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """Return `1 table`, `17 tables`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Return bytes for a person: 217 MB (powers of 1000, as with `ls --si`)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 999.5 or unit == "TB":
            digits = 0 if unit == "B" or number >= 9.95 else 1
            return f"{number:.{digits}f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Return a duration for a person: 120 ms, 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def age(seconds: float) -> str:
    """Return an age for a person: 40 s, 5 min, 3 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length * (2 if unit != "min" else 1):
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


SPAN = "a span of time above zero in min, h, d or w, like 12h or 7d"


def span(text: str) -> int | None:
    """Return the seconds of a span of time like 30min, 12h, 7d or 2w, None for any other text."""
    return None if text.strip().endswith("s") else seconds(text)


def seconds(text: str) -> int | None:
    """Return the seconds of a time, as `span` does, but one like 90s too."""
    match = re.fullmatch(r"([0-9]{1,5}) ?(s|min|h|d|w)", text.strip())
    return int(match[1]) * _SPANS[match[2]] if match else None


def time(seconds: int) -> str:
    """Return a time in the largest unit that fits, as it may be set: 30min, 14d."""
    unit = next(unit for unit in reversed(_SPANS) if seconds % _SPANS[unit] == 0)
    return f"{seconds // _SPANS[unit]}{unit}" if seconds else "0"
