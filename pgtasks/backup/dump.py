"""pg_dump, pg_dumpall and pg_restore as a backup uses them: what to run, and what they say."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pgtasks.backup.compression import argument
from pgtasks.backup.manifest import Layout
from pgtasks.errors import Failed
from pgtasks.host import Command, Host
from pgtasks.proof.model import SequenceProof
from pgtasks.tools import Toolset

Note = Callable[[str], AbstractContextManager[str]]

LOCK_WAIT = 300  # seconds that pg_dump waits for a table somebody holds exclusively
# pg_dump's progress is read, so it must not be translated; the data's encoding is set apart
_PLAIN_WORDS = {"LC_ALL": "C"}
CONTENTS = 512 << 20  # bytes: the table of contents of a million objects or so
_FAULT = re.compile(r"^pg_dump(all)?: (error|detail|hint|warning|fatal):")
_OTHER = re.compile(r"^pg_dump(all)?: ")


@dataclass(frozen=True)
class DumpPlan:
    """All that pg_dump is told.

    `path` is on the host where the dump will lie; a streamed one comes by pg_dump's stdout.
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

    def argv(self, snapshot: str) -> tuple[str, ...]:
        """Return pg_dump's argv."""
        where = () if self.streamed else (f"--file={self.path}",)
        jobs = (f"--jobs={self.jobs}",) if self.layout == "directory" else ()
        return (
            self.toolset.tool("pg_dump"),
            f"--format={self.layout}",
            *where,
            *jobs,
            argument(self.compression, self.toolset.major),
            f"--encoding={self.encoding}",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={LOCK_WAIT * 1000}",
            "--no-password",
            # every file is read and synced after it, in parallel
            "--no-sync",
            "--verbose",
            *(("--schema-only",) if self.schema_only else ()),
            *(f"--exclude-table-data={pattern}" for pattern in self.exclude_table_data),
        )

    def command(self, snapshot: str, env: Mapping[str, str]) -> Command:
        """Return pg_dump as a command."""
        return Command(self.argv(snapshot), {**env, **_PLAIN_WORDS})


def globals_command(
    toolset: Toolset, env: Mapping[str, str], *, maintenance: str, passwords: bool
) -> Command:
    """Return the command that prints roles and tablespaces as SQL.

    Without passwords it reads pg_roles, which everybody may; with them pg_authid, which only
    superusers may.
    """
    argv = [toolset.tool("pg_dumpall"), "--globals-only", "--no-password"]
    argv.append(f"--database={maintenance}")
    if not passwords:
        argv.append("--no-role-passwords")
    return Command(tuple(argv), {**env, **_PLAIN_WORDS})


class Words:
    """What pg_dump says while it works: read line by line from its stderr.

    `locked` is set when it holds its locks on all tables; `begun` are the tables whose data it has
    begun to write, as pg_dump names them.
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
        """Take in one line."""
        if self._locking and _OTHER.match(line) and not _FAULT.match(line):
            self.locked.set()  # what it does next; a lock that failed is a fault
        if line == self._BEFORE_LOCKS:
            self._locking = True
        elif found := self._BEGUN.match(line):
            self.begun.append(found[1])
        elif found := self._WARNING.match(line):
            self.warnings.append(found[1])


def faults(lines: Iterable[str]) -> str:
    """Return the lines of --verbose that speak of a fault, with those that go on from them."""
    kept, inside = [], False
    for line in lines:
        inside = bool(_FAULT.match(line)) or (inside and not _OTHER.match(line))
        if inside:
            kept.append(line)
    return "\n".join(kept)


def said_plainly(failure: Failed) -> Failed:
    """Return a failure of pg_dump without its talk of progress."""
    return Failed(failure.message, hint=faults(failure.hint.splitlines()) or failure.hint)


@dataclass(frozen=True)
class Entry:
    """One line of a dump's table of contents; `oid` is the table's for TABLE DATA."""

    line: str
    oid: int
    rest: str

    def of_kind(self, kind: str) -> bool:
        """Return whether it is one of `TABLE DATA`, `SEQUENCE SET` and so on."""
        return self.rest.startswith(f"{kind} ")


def parse_contents(text: str) -> list[Entry]:
    """Parse what `pg_restore --list` prints."""
    found = []
    for line in text.splitlines():
        parts = re.match(r"^\d+; (\d+) (\d+) (.*)$", line)
        if parts:
            found.append(Entry(line, int(parts[2]), parts[3]))
    return found


def contents(host: Host, toolset: Toolset, dump: Path) -> list[Entry]:
    """Return the table of contents of a dump, raising Failed where it does not parse."""
    argv = (toolset.tool("pg_restore"), "--list", str(dump))
    return parse_contents(host.capture(Command(argv), seconds=600, most=CONTENTS))


def sequences(
    host: Host, toolset: Toolset, dump: Path, entries: Sequence[Entry], note: Note
) -> tuple[SequenceProof, ...]:
    """Return where the sequences stand by the dump itself: they ignore snapshots.

    `note` puts the list that pg_restore reads on the host.
    """
    wanted = [entry.line for entry in entries if entry.of_kind("SEQUENCE SET")]
    if not wanted:
        return ()
    with note("\n".join(wanted) + "\n") as chosen:
        argv = (toolset.tool("pg_restore"), f"--use-list={chosen}", "--file=-", str(dump))
        text = host.capture(Command(argv), seconds=600, most=CONTENTS)
    found = tuple(sorted(parse_sequences(text), key=str))
    if len(found) != len(wanted):
        raise Failed(f"{len(found)} of {len(wanted)} sequences could be read from the dump")
    return found


_SETVAL = re.compile(
    r"^SELECT pg_catalog\.setval\('((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.MULTILINE
)
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def parse_sequences(text: str) -> Iterator[SequenceProof]:
    """Parse the setval calls of a dump's script."""
    for name, value, called in _SETVAL.findall(text):
        parts = [
            quoted.replace('""', '"') or plain
            for quoted, plain in _NAME.findall(name.replace("''", "'"))
        ]
        schema, sequence = parts
        yield SequenceProof(schema, sequence, int(value), called == "true")
