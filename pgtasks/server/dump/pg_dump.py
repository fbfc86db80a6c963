"""The commands pg_dump, pg_dumpall and pg_restore of a backup, and their messages."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.host import plainfile, streams
from pgtasks.host.base import Command, Host
from pgtasks.host.local import HERE
from pgtasks.host.tools import Toolset
from pgtasks.server.dump.compression import argument
from pgtasks.server.dump.layout import Layout
from pgtasks.server.proof import toc
from pgtasks.server.proof.model import SequenceProof
from pgtasks.server.proof.toc import Entry

STATISTICS = 18  # the first pg_dump that can save statistics, and server that can take them
LOCK_WAIT = 300  # seconds that pg_dump waits for a table that is locked exclusively
# the messages of pg_dump must not be translated; this does not affect the encoding of data
_PLAIN_WORDS = {"LC_ALL": "C"}
CONTENTS = 512 << 20  # bytes: the table of contents of a million objects or so
_FAULT = re.compile(r"^pg_(dump|dumpall|restore): (error|detail|hint|warning|fatal):")
_OTHER = re.compile(r"^pg_(dump|dumpall|restore): ")
# Workers write to one stderr, each line in several pieces, so lines may be mixed.
_PROGRAM = r"pg_(?:dump|dumpall|restore):"
_MIXED = re.compile(rf"{_PROGRAM}.*{_PROGRAM}|(?:error|detail|hint|fatal): ")


@dataclass(frozen=True)
class DumpPlan:
    """The options of pg_dump.

    `path` is on the host of the destination; a streamed dump is written to stdout. The files of a
    packed one are compressed by `pack`, not by pg_dump.
    """

    toolset: Toolset
    path: Path
    layout: Layout
    compression: str
    jobs: int
    schema_only: bool = False
    exclude_table_data: tuple[str, ...] = ()
    encoding: str = "UTF8"
    streamed: bool = False
    packed: bool = False

    @property
    def with_statistics(self) -> bool:
        """Return whether the dump has the planner's statistics, which hold values of all tables."""
        whole = not (self.schema_only or self.exclude_table_data)
        return whole and self.toolset.major >= STATISTICS

    def argv(self, snapshot: str) -> tuple[str, ...]:
        """Return pg_dump's argv."""
        where = () if self.streamed else (f"--file={self.path}",)
        jobs = (f"--jobs={self.jobs}",) if self.layout == "directory" else ()
        return (
            self.toolset.tool("pg_dump"),
            f"--format={self.layout}",
            *where,
            *jobs,
            argument("none" if self.packed else self.compression, self.toolset.major),
            f"--encoding={self.encoding}",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={LOCK_WAIT * 1000}",
            "--no-password",
            # every file is read and flushed afterwards, in parallel
            "--no-sync",
            "--verbose",
            *(("--schema-only",) if self.schema_only else ()),
            *(("--statistics",) if self.with_statistics else ()),
            *(f"--exclude-table-data={pattern}" for pattern in self.exclude_table_data),
        )

    def command(self, snapshot: str, env: Mapping[str, str]) -> Command:
        """Return pg_dump as a command."""
        return Command(self.argv(snapshot), {**env, **_PLAIN_WORDS})


def globals_command(
    toolset: Toolset, env: Mapping[str, str], *, maintenance: str, passwords: bool
) -> Command:
    """Return the command that prints roles and tablespaces as SQL.

    Without passwords it reads pg_roles, which any role may read; with passwords it reads pg_authid,
    which only superusers may read.
    """
    argv = [toolset.tool("pg_dumpall"), "--globals-only", "--no-password"]
    argv.append(f"--database={maintenance}")
    if not passwords:
        argv.append("--no-role-passwords")
    return Command(tuple(argv), {**env, **_PLAIN_WORDS})


class DumpLog:
    """The log of pg_dump, read line by line from its stderr.

    `locked` is set when it has locked all tables; `begun` are the tables whose data it has started
    to write, as pg_dump names them.
    """

    _BEFORE_LOCKS = "pg_dump: reading user-defined tables"
    _BEGUN = re.compile(r'^pg_dump: dumping contents of table "(.*)"$')
    _WARNING = re.compile(r"^pg_dump: warning: (.*)$")

    def __init__(self) -> None:
        self.locked = threading.Event()
        self.begun: list[str] = []
        self.warnings: list[str] = []
        self._locking = False

    def hear(self, line: str) -> None:
        """Process one line."""
        if self._locking and _OTHER.match(line) and not _FAULT.match(line):
            self.locked.set()  # the next step; a failed lock is an error
        if line == self._BEFORE_LOCKS:
            self._locking = True
        elif match := self._BEGUN.match(line):
            self.begun.append(match[1])
        elif match := self._WARNING.match(line):
            self.warnings.append(match[1])


def faults(lines: Iterable[str]) -> str:
    """Return the lines of --verbose that report an error, with their continuation lines."""
    kept, inside = [], False
    for line in lines:
        is_fault = bool(_FAULT.match(line) or _MIXED.search(line))
        inside = is_fault or (inside and not _OTHER.match(line))
        if inside:
            kept.append(line)
    return "\n".join(kept)


def without_progress(failure: Failed) -> Failed:
    """Return an error of pg_dump without its progress messages."""
    message = failure.message
    if "No space left on device" in failure.hint:
        message = "pg_dump failed, no space is left on the disk of the backup: make room there"
    return Failed(message, hint=faults(failure.hint.splitlines()) or failure.hint)


def check_listed(host: Host, toolset: Toolset, dump: Path) -> None:
    """Make pg_restore list a dump, raising Failed if it cannot."""
    argv = (toolset.tool("pg_restore"), "--list", str(dump))
    host.capture(Command(argv), seconds=600, most=CONTENTS)


_FIRST = 1 << 20  # bytes that are first read from another host


def contents(host: Host, layout: str, dump: Path) -> list[Entry]:
    """Return the table of contents of a dump on a host, raising Failed if it is invalid."""
    path = dump / "toc.dat" if layout == "directory" else dump
    if host == HERE:
        try:
            with os.fdopen(plainfile.opened(path.parent, path.name), "rb") as file:
                return toc.read(file)
        except OSError as exc:
            raise Failed(f"cannot read {str(path)!r}: {exc.strerror}") from None
    size = _FIRST
    while True:  # its length is known only when it is read
        command = Command(("head", "-c", str(size), str(path)))
        with streams.reading(host, command, most=size) as source:
            head = source.read()
        try:
            return toc.read(io.BytesIO(head))
        except toc.Truncated:
            if len(head) < size or size >= toc.LIMIT:
                raise
        size *= 8


_SETVAL = re.compile(rb", (-?\d+), (true|false)\);\s*\Z")


def sequences(entries: Iterable[Entry]) -> tuple[SequenceProof, ...]:
    """Return the values of the sequences in the dump, because sequences ignore snapshots."""
    return tuple(
        sorted((_sequence(entry) for entry in entries if entry.desc == "SEQUENCE SET"), key=str)
    )


def _sequence(entry: Entry) -> SequenceProof:
    match = _SETVAL.search(entry.definition)
    if match is None:
        raise Failed(f"the dump has no value of sequence {entry.tag!r}")
    return SequenceProof(entry.namespace, entry.tag, int(match[1]), match[2] == b"true")
