"""What a dump in SQL holds, and the stream of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pgtasks.server.proof.toc import Entry
from pgtasks.server.psql.statements import Command, Item, Remark, Statements, Stream
from pgtasks.server.quoting import qualified

# as pg_dump and pg_dumpall write them
BEGIN, END = b"-- PostgreSQL database dump", b"-- PostgreSQL database dump complete"
CLUSTER, CLUSTER_END = (
    b"-- PostgreSQL database cluster dump",
    b"-- PostgreSQL database cluster dump complete",
)
HEADER = re.compile(
    rb"-- (?:Data for )?Name: (?P<tag>.*); Type: (?P<desc>[^;]*); Schema: (?P<schema>.*);"
    rb" Owner: (?P<owner>[^;]*)(?:; Tablespace: .*)?"
)
VERSION = re.compile(rb"-- Dumped (from database|by pg_dump) version ([0-9]+)(?:\.([0-9]+))?")
# what such a dump says of its own database: its content goes into the side database all the same
MAKES_OWN = ("DROP DATABASE", "CREATE DATABASE", "\\connect")
_TELL = 16 << 20  # bytes between two reports

Table = tuple[str, str]
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Examined:
    """What a dump in SQL holds.

    `rows` are those of COPY by table, `inserted` the tables written by INSERT, whose rows were not
    counted, `entries` the objects by the headers of pg_dump; `outside` what reaches out of the
    database, and `ignored` what no restore applies, by name with the line of the first. `whole`
    says that the dump has the end that pg_dump writes; it is None for SQL of another kind.
    `returns` are the number of statements whose strings or bodies have the line ends of Windows
    as the whole file has, and the line of the first. `own` is the database that it makes and
    connects to before anything else, as those of pg_dump --create do.
    """

    bytes: int = 0
    statements: int = 0
    rows: Mapping[Table, int] = field(default_factory=dict)
    inserted: frozenset[Table] = frozenset()
    entries: tuple[Entry, ...] = ()
    outside: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    settings: frozenset[str] = frozenset()
    extensions: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    cluster: bool = False
    whole: bool | None = None
    returns: tuple[int, int] = (0, 0)
    own: str = ""
    server: tuple[int, int] = (0, 0)
    dumper: tuple[int, int] = (0, 0)

    @property
    def tables(self) -> frozenset[Table]:
        """Return the tables that it makes or fills, as far as its headers and rows name them."""
        made = {(each.namespace, each.tag) for each in self.entries if each.desc == "TABLE"}
        return frozenset({*made, *self.rows, *self.inserted})

    @property
    def total(self) -> int:
        """Return the number of rows that were counted."""
        return sum(self.rows.values())


class Limited:
    """A stream that counts its bytes; `check` is called with their number now and then."""

    def __init__(self, stream: Stream, check: Tell) -> None:
        self._stream, self._check = stream, check
        self.bytes = self._told = 0
        self.over = False  # `check` has ended it

    def read(self, size: int, /) -> bytes:
        """Return some bytes, nothing at the end."""
        piece = self._stream.read(size)
        self.bytes += len(piece)
        if self.bytes - self._told >= _TELL or not piece:
            self._told, self.over = self.bytes, True
            self._check(self.bytes)
            self.over = False
        return piece


def items(stream: Stream, part: str) -> Iterator[tuple[Item, bool]]:
    """Yield the items of a dump, and whether each is in the part of one database.

    Without a `part` all are. It is from behind its \\connect to the end of its dump: what makes the
    next database stands before the next \\connect.
    """
    from pgtasks.backup.foreign import reach

    inside = not part
    for item in Statements(stream):
        if part and isinstance(item, Command) and reach.of_command(item) == "\\connect":
            inside = reach.connected(item) == part
            yield item, False
            continue
        yield item, inside
        if part and isinstance(item, Remark) and item.text == END:
            inside = False


def versions(head: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the versions of server and pg_dump that the beginning of a dump names, or zeros."""
    found = {b"from database": (0, 0), b"by pg_dump": (0, 0)}
    for line in head.splitlines():
        if version := VERSION.match(line):
            found[version[1]] = (int(version[2]), int(version[3] or 0))
    return found[b"from database"], found[b"by pg_dump"]


def is_header(text: bytes) -> bool:
    """Return whether a remark is the header of an object, as pg_dump writes it."""
    return HEADER.fullmatch(text) is not None


def named(table: Table) -> str:
    """Return the name of a table in SQL."""
    return qualified(*table)
