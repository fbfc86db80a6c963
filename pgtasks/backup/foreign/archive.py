"""Check an archive of pg_dump that somebody else made: its members, its contents, every byte.

pg_restore opens the files that an archive names, so every name and every kind of file is checked
before it gets to see them. Then it converts the whole archive to SQL, which is read as any dump in
SQL: that finds what is cut or damaged, and counts the rows.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pgtasks.backup.foreign.contents import Examined, Limited
from pgtasks.backup.foreign.examine import examine
from pgtasks.errors import Failed, NotProven, PgtasksError
from pgtasks.host import plainfile
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import Pipeline
from pgtasks.host.tools import Toolset
from pgtasks.server.proof import toc
from pgtasks.server.proof.toc import Entry, Head
from pgtasks.server.psql.statements import CHUNK

# the files of the formats directory and tar, as pg_dump 9.0 to 18 name them
_DATA = r"[0-9]{1,10}\.dat|blob_[0-9]{1,10}\.dat"
_BLOBS = r"blobs(_[0-9]{1,10})?\.toc"
_IN_FOLDER = re.compile(rf"toc\.dat|({_DATA})(\.gz|\.lz4|\.zst)?|{_BLOBS}(\.gz|\.lz4|\.zst)?")
_IN_TAR = re.compile(rf"toc\.dat|{_DATA}|{_BLOBS}|restore\.sql")
_NAMED = re.compile(rf"{_DATA}|{_BLOBS}|")
_SUFFIXES = ("", ".gz", ".lz4", ".zst")
_COMPRESSED = {".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}
_BLOCK = 512
_BLOB_LINE = re.compile(rb"[0-9]{1,10} blob_[0-9]{1,10}\.dat")
_BLOB_TOC = 1 << 30  # bytes


def described(path: Path, kind: str) -> tuple[Head, list[Entry]]:
    """Return what an archive says about itself, its members checked; raises NotProven."""
    try:
        if kind == "directory":
            return _of_folder(path)
        with _opened(path.parent, path.name) as file:
            if kind == "tar":
                file.seek(0)
                return _of_tar(path, file)
            return toc.described(file)
    except toc.Truncated:
        raise NotProven(f"{str(path)!r} is cut: it ends within its table of contents") from None
    except Failed as exc:
        raise NotProven(f"{str(path)!r}: {exc.message}") from None
    except OSError as exc:
        raise NotProven(f"{str(path)!r}: {exc.strerror}") from None


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[IO[bytes]]:
    with os.fdopen(plainfile.opened(folder, name), "rb") as file:
        yield file


def _of_folder(path: Path) -> tuple[Head, list[Entry]]:
    names = set()
    for name, seen in plainfile.walk(path):
        if not stat.S_ISREG(seen.st_mode):
            raise NotProven(f"{str(path)!r}: {name!r} is {plainfile.kind(seen.st_mode)}")
        if not _IN_FOLDER.fullmatch(name):
            raise NotProven(f"{str(path)!r}: {name!r} is no file of a dump: move it away")
        names.add(name)
    with _opened(path, "toc.dat") as file:
        head, entries = toc.described(file)
    _refuse_absent(path, entries, names, _SUFFIXES)
    for name in sorted(names):
        if name.startswith("blobs"):
            _check_blobs(path, name)
    endings = {Path(name).suffix for name in names}
    found = next((_COMPRESSED[ending] for ending in endings if ending in _COMPRESSED), "none")
    return Head(head.database, head.server, head.dumper, found), entries


def _refuse_absent(
    path: Path,
    entries: Sequence[Entry],
    names: set[str],
    suffixes: Sequence[str] = ("",),
    *,
    tar: bool = False,
) -> None:
    """Raise NotProven if an entry names a file that is not there, or none of a dump's."""
    for entry in entries:
        if not _NAMED.fullmatch(entry.file):
            raise NotProven(
                f"{str(path)!r}: its table of contents names the file {entry.file!r}, which is "
                "no file of a dump"
            )
        if tar and entry.desc == "BLOBS":  # a list and files of their own
            if not any(name.startswith("blobs") for name in names):
                raise NotProven(f"{str(path)!r} is cut: its large objects are missing")
            continue
        if entry.file and not any(entry.file + suffix in names for suffix in suffixes):
            raise NotProven(
                f"{str(path)!r} is cut: {entry.file!r}, the data of {entry.desc.lower()} "
                f"{entry.tag!r}, is missing"
            )


def _check_blobs(path: Path, name: str) -> None:
    """Check the list of large objects: pg_restore opens what it names."""
    if name.endswith((".lz4", ".zst")):
        raise NotProven(f"{str(path)!r}: {name!r} cannot be looked into: it is compressed")
    raw = plainfile.read(path, name, limit=_BLOB_TOC)
    if name.endswith(".gz"):
        import zlib

        inflater = zlib.decompressobj(wbits=31)
        try:
            raw = inflater.decompress(raw, _BLOB_TOC)
        except zlib.error as exc:
            raise NotProven(f"{str(path)!r}: {name!r} is damaged ({exc})") from None
    for line in raw.splitlines():
        if not _BLOB_LINE.fullmatch(line):
            raise NotProven(f"{str(path)!r}: {name!r} names {line[:60]!r}, no file of a dump")


def _of_tar(path: Path, file: IO[bytes]) -> tuple[Head, list[Entry]]:
    """Read the members of a tar: regular files with names of pg_dump, each one once."""
    names: set[str] = set()
    contents = None
    for name, size in _members(path, file):
        if not _IN_TAR.fullmatch(name) or name in names:
            raise NotProven(f"{str(path)!r}: member {name!r} is none of a dump")
        names.add(name)
        begin = file.tell()
        if name == "toc.dat":
            contents = toc.described(io.BytesIO(file.read(min(size, toc.LIMIT))))
        elif name.startswith("blobs"):
            for line in file.read(min(size, _BLOB_TOC)).splitlines():
                if not _BLOB_LINE.fullmatch(line):
                    raise NotProven(f"{str(path)!r}: {name!r} names {line[:60]!r}")
        file.seek(begin + -(-size // _BLOCK) * _BLOCK)
    if contents is None:
        raise NotProven(f"{str(path)!r}: it has no table of contents")
    _refuse_absent(path, contents[1], names, tar=True)
    return contents


def _members(path: Path, file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Yield names and sizes, with the file at the content; raises NotProven at an odd header."""
    total = os.fstat(file.fileno()).st_size
    while True:
        block = file.read(_BLOCK)
        if block == b"\0" * _BLOCK:
            return
        if len(block) < _BLOCK:
            raise NotProven(f"{str(path)!r} is cut: the tar has no end")
        try:
            member = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as exc:
            raise NotProven(f"{str(path)!r}: a member of the tar is damaged ({exc})") from None
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise NotProven(f"{str(path)!r}: member {member.name!r} is no regular file")
        if not 0 <= member.size <= total - file.tell():
            raise NotProven(f"{str(path)!r} is cut: it ends within {member.name!r}")
        yield member.name, member.size


def counted(
    path: Path, toolset: Toolset, shown: str, *, check: Callable[[int], None]
) -> Examined | None:
    """Let pg_restore convert an archive to SQL, and return what that holds; raises NotProven.

    None if the SQL cannot be followed: pg_restore has read all of it, but no row is counted.
    """
    argv = (toolset.tool("pg_restore"), "--file=-", str(path))
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as output:
        try:
            running = Pipeline(HERE, [Command(argv)], stdout=writer)
        finally:
            os.close(writer)
        with running:
            found = _examined(output, shown, check)
            try:
                running.check()
            except Failed as exc:
                before, _, words = exc.hint.strip().rpartition("\n")
                raise NotProven(
                    f"{shown} is cut or damaged: pg_restore cannot read all of it ({words})",
                    hint=before,
                ) from None
    return found if isinstance(found, Examined) else None


def _examined(
    output: IO[bytes], shown: str, check: Callable[[int], None]
) -> Examined | PgtasksError:
    """Return what was found, or the error of reading it, after its end."""
    limited = Limited(output, check)
    try:
        return examine(limited, shown, part="", check=lambda size: None)
    except (NotProven, Failed) as exc:
        problem: PgtasksError = exc
    except PgtasksError as exc:
        if limited.over:
            raise
        problem = exc
    while limited.read(CHUNK):
        pass  # so that pg_restore says itself what it could not read
    return problem
