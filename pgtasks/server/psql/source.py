"""A file or a text for psql; files that are not SQL are detected by their first bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pgtasks.errors import Refused

_LOOK = 8192  # bytes
_BOM = b"\xef\xbb\xbf"
# First bytes of a file, its kind, and the way to SQL.
_MAGIC = (
    (b"\x1f\x8b", "is compressed by gzip", "gunzip -c {0} > {1}"),
    (b"BZh", "is compressed by bzip2", "bunzip2 -c {0} > {1}"),
    (b"\xfd7zXZ\0", "is compressed by xz", "xz -dc {0} > {1}"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "zstd -dc {0} > {1}"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4", "lz4 -dc {0} > {1}"),
    (b"PK\x03\x04", "is a zip archive", "unzip {0}"),
    (b"PGDMP", "is an archive of pg_dump (custom format)", "pg_restore --file={1} {0}"),
    (b"toc.dat\0", "is an archive of pg_dump (tar format)", "pg_restore --file={1} {0}"),
    (b"\xff\xfe", "is UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > {1}"),
    (b"\xfe\xff", "is UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > {1}"),
)


@dataclass(frozen=True)
class Source:
    """SQL to run: a file, or the text of `shown`."""

    shown: str
    path: Path | None = None
    text: bytes = b""

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.path.stat().st_size if self.path else len(self.text)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it for reading by line, after a byte order mark, raising Refused."""
        try:
            with self.path.open("rb") if self.path else io.BytesIO(self.text) as stream:
                if stream.read(3) != _BOM:
                    stream.seek(0)
                yield stream
        except OSError as exc:
            raise Refused(f"file {self.shown!r}: {exc.strerror}") from None

    def check(self) -> None:
        """Raise Refused for anything but a file with SQL."""
        if self.path is None:
            return
        if not self.path.is_file():
            raise Refused(f"file {self.shown!r} {_no_file(self.path)}")
        with self.open() as stream:
            head = stream.read(_LOOK)
        for magic, kind, way in _MAGIC:
            if head.startswith(magic):
                raise Refused(f"file {self.shown!r} {kind}, not SQL: {self._way(way)}")
        if b"\0" in head:
            kind = "is UTF-16 text without a mark" if _alternates(head) else "is binary"
            raise Refused(f"file {self.shown!r} {kind}, not SQL that psql reads")

    def _way(self, way: str) -> str:
        import shlex

        name = self.shown
        for ending in (".gz", ".bz2", ".xz", ".zst", ".lz4", ".dump", ".tar", ".pgdump"):
            name = name.removesuffix(ending)
        if name == self.shown:
            name = f"{name.removesuffix('.sql')}.utf8" if "iconv" in way else name
        name = name if name.endswith(".sql") else f"{name}.sql"
        return way.format(shlex.quote(self.shown), shlex.quote(name))


def _no_file(path: Path) -> str:
    if (path / "toc.dat").is_file():
        return (
            "is an archive of pg_dump (directory format), not SQL: "
            f"pg_restore --file={path.name}.sql {path}"
        )
    if path.is_dir():
        return "is a folder"
    return "is not a regular file" if path.exists() else "does not exist"


def _alternates(head: bytes) -> bool:
    half = len(head) // 2
    return min(head[::2].count(0), head[1::2].count(0)) * 10 < half < head.count(0) * 2
