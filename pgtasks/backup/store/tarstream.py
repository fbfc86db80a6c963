"""Streams of files as tar archives, for transfers over SSH.

Received archives are parsed here, not by tar: only regular files with names below a folder are
accepted.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from pgtasks.backup.store.filestream import FileStream
from pgtasks.errors import NotProven
from pgtasks.host.streams import CHUNK, CutShort

_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * _BLOCK * 2
_SKIPPED = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # extended headers, with times

_LONGEST = 64 << 10  # bytes of a name or an extended header
_MOST = 2_000_000  # files and folders


def pack(sink: IO[bytes], files: Iterable[FileStream]) -> None:
    """Write files as an archive."""
    folders = set()
    for file in files:
        for parent in reversed(Path(file.name).parents[:-1]):
            if parent not in folders:
                _put(sink, _header(f"{parent}/", 0, tarfile.DIRTYPE, 0o700))
                folders.add(parent)
        _put(sink, _header(file.name, file.size))
        for chunk in file.chunks:
            _put(sink, chunk)
        _put(sink, b"\0" * (-file.size % _BLOCK))
    _put(sink, _END)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o600) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode, info.mtime = size, kind, mode, int(time.time())
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _put(sink: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[sink.write(view) :]


def unpack(source: IO[bytes], *, several: bool = False) -> Iterator[FileStream]:
    """Yield the files of an archive in their order, without its folders.

    `several` archives may follow one another. Raises NotProven for anything but regular files below
    the folder, CutShort if bytes are missing.
    """
    for info in _members(source, several=several):
        if not info.isdir():
            yield FileStream(checked(info.name).as_posix(), info.size, _chunks(source, info.size))


def _chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise CutShort("the archive ends in the middle of a file")
        left -= len(chunk)
        yield chunk
    _exactly(source, -size % _BLOCK)


def _members(source: IO[bytes], *, several: bool) -> Iterable[tarfile.TarInfo]:
    """Yield the headers of files and folders; the caller reads each file before the next header."""
    longer = ""
    for _ in range(_MOST):
        block = _block(source, several=several)
        if not block:
            return
        info = _header_of(block)
        if info.type == tarfile.GNUTYPE_LONGNAME or info.type in _SKIPPED:
            if info.size > _LONGEST:
                raise NotProven(f"not an archive of ours: a name of {info.size:,} bytes")
            text = _exactly(source, info.size)
            _exactly(source, -info.size % _BLOCK)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                longer = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        info.name, longer = longer or info.name, ""
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise NotProven(f"the archive contains {info.name!r}, which is not a regular file")
        yield info
    raise NotProven(f"the archive contains more than {_MOST:,} files")


def _header_of(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as exc:
        raise NotProven(f"not a tar archive: {exc}") from None
    if info.size < 0:  # a number of base 256 has a sign
        raise NotProven(f"not a tar archive: {info.name!r} has {info.size} bytes")
    return info


def _block(source: IO[bytes], *, several: bool) -> bytes:
    """Return the next header, nothing at the end; an empty stream is an empty archive."""
    while first := source.read(1):
        block = first + _exactly(source, _BLOCK - 1)
        if block.strip(b"\0"):
            return block
        if not several:
            break
    return b""


def checked(name: str) -> Path:
    """Return a name as a relative path, raising NotProven if it leads out of the folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise NotProven(f"the archive contains {name!r}, which leads out of its folder")
    return path


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = source.read(size - len(data))
        if not chunk:
            raise CutShort("the archive ends too early")
        data += chunk
    return data
