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
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def append(folder: Path, entry: Entry) -> None:
    """Append one line; readers and other writers never see half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "journal.jsonl"
    line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        # a line that a full disk or a lost machine cut must not swallow the next one
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            line = "\n" + line
        file.write(line.encode())


def read(folder: Path) -> tuple[list[Entry], int]:
    """Return all entries, oldest first, and how many lines could not be read."""
    entries: list[Entry] = []
    unreadable = 0
    try:
        text = (folder / "journal.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    for line in filter(None, text.splitlines()):
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            unreadable += 1
    return entries, unreadable
