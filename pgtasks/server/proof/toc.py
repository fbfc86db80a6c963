"""Parse the table of contents of pg_dump's archives.

A custom-format file begins with it, in the directory format it is toc.dat. The layout is that of
pg_backup_archiver.c (WriteHead, WriteToc). An archive is untrusted: every length is checked against
a limit, and an incomplete or invalid archive is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from pgtasks.errors import Failed, VersionMismatch
from pgtasks.server.quoting import from_bytes

LIMIT = 512 << 20  # largest table of contents, in bytes
_PIECE = 1 << 20
_OLDEST, _NEWEST = (1, 12), (1, 16)  # those of pg_dump 9.0 and of pg_dump 17 and 18
PRE_DATA = 2  # the section before the rows
POST_DATA = 4  # the section after the rows
STATISTICS = "STATISTICS DATA"  # the kind of what is saved of the planner's statistics
COLUMNS = b"pg_restore_attribute_stats"  # in the definition of those that are about columns
_CUSTOM, _TAR = 1, 3  # toc.dat of the directory format calls itself tar
_MOST_DEPENDENCIES = 1 << 20
_COMPRESSIONS = ("none", "gzip", "lz4", "zstd")  # by number, since 1.15
_MAJOR = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?")
_OID = re.compile(r"[0-9]{1,10}")


class Truncated(Failed):
    """The archive ends within its table of contents."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `desc` is its kind (`TABLE`, `ACL`), `tag` its name without the schema.

    `oid` is the OID of the object, `definition` the SQL that creates it, `copy` the COPY statement
    of TABLE DATA, `rest` the other fields that pg_restore uses (tablespace, access method, kind of
    relation, section, whether there is data). `number` is its number in the archive, `needs` the
    numbers of the entries it depends on, `file` the file of its data in a folder or a tar. A digest
    stands in place of the definition of statistics.
    """

    desc: str
    namespace: str
    tag: str
    owner: str
    oid: int = 0
    definition: bytes = b""
    copy: bytes = b""
    rest: tuple[str, ...] = ()
    number: int = 0
    section: int = 0
    needs: frozenset[int] = frozenset()
    file: str = ""

    @property
    def digest(self) -> str:
        """Return a digest of everything that pg_restore uses, except kind, name and owner."""
        parts = (self.definition, self.copy, "\0".join(self.rest).encode())
        digest = hashlib.sha256()
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Head:
    """What an archive says about itself; `server` and `dumper` are versions, (0, 0) if unknown."""

    database: str
    server: tuple[int, int]
    dumper: tuple[int, int]
    compression: str


def described(source: IO[bytes], *, limit: int = LIMIT) -> tuple[Head, list[Entry]]:
    """Read what an archive says about itself, and its table of contents, as `read` does."""
    reader = _Reader(source, limit)
    entries = reader.entries()
    return reader.head, entries


def read(source: IO[bytes], *, limit: int = LIMIT) -> list[Entry]:
    """Read the table of contents from the beginning of an archive.

    Raises Truncated if `source` ends within it, Failed if it is not an archive, VersionMismatch if
    the version of pg_dump is unknown.
    """
    return _Reader(source, limit).entries()


class _Reader:
    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source, self._left = source, limit
        self._integer_bytes = self._offset_bytes = 0
        self._format, self._version = 0, (0, 0)
        self.head = Head("", (0, 0), (0, 0), "none")

    def entries(self) -> list[Entry]:
        self._head()
        number = self._integer()
        if not 0 <= number <= self._left:
            raise Failed(f"not an archive of pg_dump: {number} entries")
        return [self._entry() for _ in range(number)]

    def _head(self) -> None:
        if self._bytes(5) != b"PGDMP":
            raise Failed("not an archive of pg_dump: it does not begin with PGDMP")
        major, minor, _, self._integer_bytes, self._offset_bytes, self._format = self._bytes(6)
        self._version = (major, minor)
        if not _OLDEST <= self._version <= _NEWEST:
            raise VersionMismatch(
                f"an archive of format {major}.{minor}, this pgtasks reads "
                f"{'.'.join(map(str, _OLDEST))} to {'.'.join(map(str, _NEWEST))}: upgrade it"
            )
        if not (1 <= self._integer_bytes <= 8 and 1 <= self._offset_bytes <= 16):
            raise Failed("not an archive of pg_dump: its integers have an impossible size")
        if self._format not in (_CUSTOM, _TAR):
            raise Failed(f"an archive of kind {self._format}, expected custom or directory")
        if self._version >= (1, 15):
            number = self._bytes(1)[0]
            compression = _COMPRESSIONS[number] if number < len(_COMPRESSIONS) else str(number)
        else:
            compression = "gzip" if self._integer() else "none"
        for _ in range(7):  # when it was made
            self._integer()
        database, server, dumper = (self._text() for _ in range(3))
        self.head = Head(database, _version(server), _version(dumper), compression)

    def _entry(self) -> Entry:
        number = self._integer()
        has_data = self._integer()
        self._string()  # the catalog's OID
        oid, tag, desc = self._text(), self._text(), self._text()
        section, definition = self._integer(), self._string()
        self._string()  # the DROP statement: only pg_restore --clean runs it
        copy, namespace, tablespace = self._string(), self._text(), self._text()
        method = self._text() if self._version >= (1, 14) else ""
        relation = self._integer() if self._version >= (1, 16) else 0
        owner = self._text()
        self._string()  # WITH OIDS, of old
        needs = set()
        for _ in range(_MOST_DEPENDENCIES):
            if (text := self._string()) is None:
                break
            needs.add(int(text) if text.isdigit() else 0)
        else:
            raise Failed("not an archive of pg_dump: an entry without end")
        file = ""
        if self._format == _CUSTOM:
            self._bytes(1 + self._offset_bytes)
        else:
            file = self._text()
        if desc == STATISTICS:
            definition = _brief(definition or b"")
        return Entry(
            desc=desc,
            namespace=namespace,
            tag=tag,
            owner=owner,
            oid=int(oid) if _OID.fullmatch(oid) else 0,
            definition=definition or b"",
            copy=copy or b"",
            rest=(tablespace, method, str(relation), str(section), str(int(bool(has_data)))),
            number=number,
            section=section,
            needs=frozenset(needs),
            file=file,
        )

    def _integer(self) -> int:
        raw = self._bytes(1 + self._integer_bytes)
        value = int.from_bytes(raw[1:], "little")
        return -value if raw[0] else value

    def _string(self) -> bytes | None:
        length = self._integer()
        return None if length < 0 else self._bytes(length)

    def _text(self) -> str:
        # a database in SQL_ASCII may have any bytes in its names
        return from_bytes(self._string() or b"")

    def _bytes(self, length: int) -> bytes:
        if length > self._left:
            raise Failed("not an archive of pg_dump: its table of contents has no end")
        self._left -= length
        # a false length must not allocate that much memory
        small = length <= _PIECE
        data = self._source.read(length) if small else b"".join(self._pieces(length))
        if len(data) != length:
            raise Truncated("the archive ends within its table of contents")
        return data

    def _pieces(self, length: int) -> Iterator[bytes]:
        while length and (piece := self._source.read(min(length, _PIECE))):
            length -= len(piece)
            yield piece


def _brief(definition: bytes) -> bytes:
    """Return what stands for the definition of statistics: of many tables they fill the memory."""
    digest = hashlib.sha256(definition).hexdigest()
    return b"%s%s" % (digest.encode(), b", " + COLUMNS if COLUMNS in definition else b"")


def _version(text: str) -> tuple[int, int]:
    """Return the version in `16.14 (Debian 16.14-1)`, (0, 0) for anything else."""
    found = _MAJOR.match(text)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)
