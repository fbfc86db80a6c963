"""Limit the bytes per second of a copy, for all of its workers together."""

from __future__ import annotations

import re
import threading
import time

from pgtasks.errors import Refused

_RATE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>kB|MB|GB)(?:/s)?", re.IGNORECASE)
_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9}  # as sizes are printed
_LEAST = 1e4  # bytes per second, below which a copy of anything takes days


def parsed(text: str | None) -> float | None:
    """Return the bytes per second of --rate (`20MB`), None without it; raises Refused."""
    if text is None:
        return None
    match = _RATE.fullmatch(str(text).strip())
    rate = float(match["number"]) * _UNITS[match["unit"].lower()] if match else 0
    if rate < _LEAST:
        raise Refused(f"--rate {text!r}: expected bytes per second such as 500kB or 20MB")
    return rate


class Throttle:
    """Let no more than `rate` bytes pass in a second; without a rate, all of them."""

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free = time.monotonic()  # when the bytes that have passed are paid for
        self._ended = threading.Event()

    def take(self, number: int) -> None:
        """Wait until that many bytes may pass, or until `end`."""
        if self._rate is None:
            return
        with self._lock:
            self._free = max(self._free, time.monotonic()) + number / self._rate
            pause = self._free - time.monotonic()
        self._ended.wait(max(pause, 0))

    def end(self) -> None:
        """Let everything pass, because the copy is given up."""
        self._ended.set()
