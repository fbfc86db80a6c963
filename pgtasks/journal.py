"""The journal: one line of JSON per operation, appended to backups/journal.jsonl."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pgtasks import private, report
from pgtasks.errors import Refused

_NAME = "journal.jsonl"
_SHOWN = 20  # entries, where no number is given


@dataclass(frozen=True)
class Entry:
    """Who did what, where, when (UTC), with what result, in how many seconds."""

    when: str
    who: str
    task: str
    environment: str
    database: str
    result: str
    seconds: float
    details: Mapping[str, Any]


def now() -> str:
    """Return the time of day in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def who() -> str:
    """Return user@host, through sudo the user who called it."""
    return f"{os.environ.get('SUDO_USER') or _user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        return str(os.getuid())


def append(folder: Path, entry: Entry) -> None:
    """Append one line; readers and other writers never see half of it."""
    private.folder(folder)
    line = json.dumps(asdict(entry), ensure_ascii=False, default=str) + "\n"
    handle = private.opened(folder / _NAME, os.O_RDWR | os.O_APPEND)
    with os.fdopen(handle, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        # a line that a full disk or a lost machine cut must not swallow the next one
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            line = "\n" + line
        # a file name that is no UTF-8 becomes an escape, which JSON reads
        file.write(line.encode("utf-8", "backslashreplace"))


def read(folder: Path) -> tuple[list[Entry], int]:
    """Return all entries, oldest first, and how many lines could not be read."""
    try:
        with (folder / _NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found = [_entry(line) for line in lines if line.strip()]
    entries = [entry for entry in found if entry is not None]
    return entries, len(found) - len(entries)


def holds(folder: Path, task: str, text: str) -> bool:
    """Return whether a task of that name wrote a value into its details, in a run that was done."""
    looked_for = text.encode()
    try:
        with (folder / _NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            entries = [_entry(line) for line in file if looked_for in line]
    except FileNotFoundError:
        return False
    return any(
        entry is not None
        and (entry.task, entry.result) == (task, "done")
        and text in entry.details.values()
        for entry in entries
    )


def _entry(line: bytes) -> Entry | None:
    try:
        said = json.loads(line)
        # keys that a later version adds are left out
        return Entry(**{key: said[key] for key in Entry.__dataclass_fields__})
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class Listing:
    """Entries to show, oldest first, and how many lines of the file could not be read."""

    entries: tuple[Entry, ...]
    unreadable: int = 0

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.entries:
            return ["the journal has no such entry"]
        headings = ("when (UTC)", "who", "environment", "task", "took", "result")
        return [report.table(headings, map(_row, self.entries))]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "entries": [asdict(entry) for entry in self.entries],
            "unreadable": self.unreadable,
        }


def _row(entry: Entry) -> tuple[str, ...]:
    when = entry.when.replace("T", " ").rstrip("Z")
    took = report.duration(entry.seconds)
    return when, entry.who, entry.environment, entry.task, took, " ".join(entry.result.split())


def newest(folder: Path, *, limit: str | None = None, environment: str | None = None) -> Listing:
    """Return the newest entries, of one environment where it is named.

    Raises Refused where `limit`, as it was typed, is no number above 0.
    """
    number = _SHOWN if limit is None else _number(limit)
    entries, unreadable = read(folder)
    fitting = [one for one in entries if environment in (None, one.environment)]
    return Listing(tuple(fitting[-number:]), unreadable)


def _number(limit: str) -> int:
    if not limit.isdecimal() or int(limit) == 0:
        raise Refused(f"--limit {limit!r}, expected a number above 0")
    return int(limit)
