"""The journal: one line of JSON per operation, in backups/journal.jsonl."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from pgtasks import report
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import plainfile, private

_NAME = "journal.jsonl"
_BLOCK = 64 << 10  # bytes per read, from the end
_LONGEST = 1 << 20  # bytes of a line
_CUT = 4_000  # characters that are kept of a long result
_FOR_EVER = 1e9  # seconds
_SHOWN = 20  # default number of entries


@dataclass(frozen=True)
class Entry:
    """One operation: who, what, where, when (UTC), the result, the seconds."""

    when: str
    who: str
    task: str
    environment: str
    database: str
    result: str
    seconds: float
    details: Mapping[str, Any]


def now() -> str:
    """Return the current time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def append(folder: Path, entry: Entry) -> None:
    """Append one line in one piece, so that nobody reads a part of it."""
    private.folder(folder)
    handle = private.opened(folder / _NAME, os.O_RDWR | os.O_APPEND)
    with os.fdopen(handle, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        # a truncated line, after a full disk or a crash, must not swallow the next one
        file.seek(max(size - 1, 0))
        broken = size and file.read(1) != b"\n"
        file.write((b"\n" if broken else b"") + _line(entry))


def _line(entry: Entry) -> bytes:
    """Return the line of an entry, without its details if it would be too long to read again."""
    text = json.dumps(asdict(entry), ensure_ascii=False, default=str) + "\n"
    # a file name that is not UTF-8 becomes an escape, which JSON can contain
    line = text.encode("utf-8", "backslashreplace")
    if len(line) <= _LONGEST:
        return line
    cut = replace(entry, result=entry.result[:_CUT], details={"left_out": f"{len(line):,} bytes"})
    return _line(cut)


def read(folder: Path) -> tuple[list[Entry], int]:
    """Return all entries, oldest first, and the number of unreadable lines."""
    all_entries = list(_entries(folder))
    entries = [entry for entry in reversed(all_entries) if entry is not None]
    return entries, len(all_entries) - len(entries)


def path(folder: Path) -> Path:
    """Return the journal's file."""
    return folder / _NAME


def holds(folder: Path, task: str, text: str) -> bool:
    """Return whether a successful run of a task wrote this value into its details."""
    looked_for = text.encode()
    entries = (_entry(line) for line in _lines(folder) if line and looked_for in line)
    return any(
        entry is not None
        and (entry.task, entry.result) == (task, "done")
        and text in entry.details.values()
        for entry in entries
    )


def _entries(folder: Path) -> Iterator[Entry | None]:
    """Yield the journal's entries, newest first, and None for an invalid line."""
    for line in _lines(folder):
        if line is None or line.strip():
            yield _entry(line or b"")


def _lines(folder: Path) -> Iterator[bytes | None]:
    """Yield the journal's lines, newest first, and None for one that is too long."""
    try:
        handle = plainfile.opened(folder, _NAME)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise Failed(f"{str(folder / _NAME)!r}: {exc.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # no line before the current end is incomplete
        end = file.seek(0, os.SEEK_END)
        fcntl.flock(file, fcntl.LOCK_UN)
        yield from _backwards(file, end)


def _backwards(file: IO[bytes], end: int) -> Iterator[bytes | None]:
    """Yield the lines of a file before a position, last first, and None for one too long."""
    tail, cut = b"", False
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        lines = file.read(end - start).split(b"\n")
        lines[-1] += tail
        while len(lines) > 1:
            line = lines.pop()
            yield None if cut else line
            cut = False
        cut = cut or len(lines[0]) > _LONGEST
        tail, end = b"" if cut else lines[0], start
    yield None if cut else tail


def _entry(line: bytes) -> Entry | None:
    from pgtasks.host import decoding

    try:
        entry = decoding.decode_own(line, Entry, _NAME)
    except NotProven:
        return None
    return entry if 0 <= entry.seconds < _FOR_EVER else None


@dataclass(frozen=True)
class JournalList:
    """The entries to show, oldest first, and the number of unreadable lines among them."""

    entries: tuple[Entry, ...]
    unreadable: int = 0

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.entries:
            return ["the journal has no such entry"]
        headings = ("when (UTC)", "who", "environment", "task", "took", "result")
        return [
            report.table(
                headings, map(_row, self.entries), whole=("when (UTC)",), gives=("took", "who")
            )
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "entries": [asdict(entry) for entry in self.entries],
            "unreadable": self.unreadable,
        }


def _row(entry: Entry) -> tuple[str, ...]:
    when = entry.when.replace("T", " ").rstrip("Z")
    duration = report.duration(entry.seconds)
    return when, entry.who, entry.environment, entry.task, duration, " ".join(entry.result.split())


def newest(
    folder: Path, *, limit: str | None = None, environment: str | None = None
) -> JournalList:
    """Return the newest entries, optionally of one environment.

    Raises Refused if `limit`, as it was typed, is not a number above 0.
    """
    number = _SHOWN if limit is None else _number(limit)
    fitting: list[Entry] = []
    unreadable = 0
    for entry in _entries(folder):
        if entry is None:
            unreadable += 1
        elif environment in (None, entry.environment):
            fitting.append(entry)
            if len(fitting) == number:
                break
    return JournalList(tuple(reversed(fitting)), unreadable)


def _number(limit: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", limit) or int(limit) == 0:
        raise Refused(f"--limit {limit!r}, expected a number above 0")
    return int(limit)
