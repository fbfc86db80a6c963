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
_REACH = 32 << 20  # bytes that a search reads, some 100,000 entries: journals may be much larger
_EVERYTHING = 1 << 62
_BEFORE = 4 << 20  # of these, how many before the time that is looked for
_WHEN = re.compile(rb'"when": "([0-9T:-]{19})')


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
    return clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def clock() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


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
    all_entries = list(_entries(_lines(folder, reach=_EVERYTHING)))
    entries = [entry for entry in reversed(all_entries) if entry is not None]
    return entries, len(all_entries) - len(entries)


def path(folder: Path) -> Path:
    """Return the journal's file."""
    return folder / _NAME


def holds(folder: Path, task: str, text: str, *, when: str) -> bool:
    """Return whether a successful run of a task wrote this value into its details.

    The newest entries are searched, then those that follow the time `when`.
    """
    for lines in (_lines(folder), _lines(folder, since=when)):
        for entry in _entries(lines, text):
            done = entry is not None and (entry.task, entry.result) == (task, "done")
            if entry is not None and done and text in entry.details.values():
                return True
    return False


def latest(folder: Path, *texts: str) -> Iterator[Entry]:
    """Yield the entries that contain some texts, newest first, as far back as a search reads."""
    return (entry for entry in _entries(_lines(folder), *texts) if entry is not None)


def _entries(lines: Iterator[bytes | None], *texts: str) -> Iterator[Entry | None]:
    """Yield the entries of lines that contain some texts, and None for an invalid line."""
    wanted = [
        json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")[1:-1]
        for text in texts
    ]
    for line in lines:
        if line is None or (line.strip() and all(text in line for text in wanted)):
            yield _entry(line or b"")


def _lines(folder: Path, *, reach: int = _REACH, since: str = "") -> Iterator[bytes | None]:
    """Yield the journal's lines, newest first, and None for one that is too long.

    The last `reach` bytes are read, or with `since` as many around the first line of that time.
    """
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
        begin = max(0, end - reach)
        if since:
            begin = max(0, _position(file, end, since) - _BEFORE)
            end = min(end, begin + reach)
        yield from _backwards(file, begin, end)


def _position(file: IO[bytes], end: int, when: str) -> int:
    """Return a position before the lines of a time, where the lines are in the order of time.

    They are not where a clock stepped back; then it is that of some other line.
    """
    start = 0
    while end - start > _BLOCK:
        middle = (start + end) // 2
        file.seek(middle)
        found = _WHEN.search(file.read(_BLOCK))
        if found and found[1].decode() < when[:19]:
            start = middle
        else:
            end = middle
    return start


def _backwards(file: IO[bytes], begin: int, end: int) -> Iterator[bytes | None]:
    """Yield the lines of a part of a file, last first, and None for one too long.

    A line that begins before the part is left out.
    """
    tail, cut = b"", False
    while end > begin:
        start = max(begin, end - _BLOCK)
        file.seek(start)
        lines = file.read(end - start).split(b"\n")
        lines[-1] += tail
        while len(lines) > 1:
            line = lines.pop()
            yield None if cut else line
            cut = False
        cut = cut or len(lines[0]) > _LONGEST
        tail, end = b"" if cut else lines[0], start
    if begin == 0:
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
    """The entries to show, oldest first, and the number of unreadable lines among them.

    `older` is whether the journal has older lines in which no entry was looked for.
    """

    entries: tuple[Entry, ...]
    unreadable: int = 0
    older: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.entries:
            among = f"the last {report.size(_REACH)} of the journal have" if self.older else ""
            return [f"{among or 'the journal has'} no such entry"]
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
    reach = _EVERYTHING if environment is None else _REACH
    words = [] if environment is None else [environment]
    for entry in _entries(_lines(folder, reach=reach), *words):
        if entry is None:
            unreadable += 1
        elif environment in (None, entry.environment):
            fitting.append(entry)
            if len(fitting) == number:
                break
    older = len(fitting) < number and _size(folder) > reach
    return JournalList(tuple(reversed(fitting)), unreadable, older)


def _size(folder: Path) -> int:
    try:
        return path(folder).stat().st_size
    except OSError:
        return 0


def _number(limit: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", limit) or int(limit) == 0:
        raise Refused(f"--limit {limit!r}, expected a number above 0")
    return int(limit)
