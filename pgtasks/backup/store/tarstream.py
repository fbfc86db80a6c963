"""Files as a tar stream: the form in which backups go over the line.

What comes in is written by us and not by tar: plain files and folders with names below the
destination, readable by their owner alone, nothing else.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from pgtasks.backup.format.records import FileRecord, size_difference
from pgtasks.errors import Failed, NotProven
from pgtasks.host import plainfile
from pgtasks.host.streams import CHUNK, CutShort

_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * _BLOCK * 2
_SKIPPED = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # times and the like, as some tars write them

_LONGEST = 64 << 10  # bytes of a name, or of what some tars write beside one
_MOST = 2_000_000  # files and folders

Tell = Callable[[int], None]
Admit = Callable[[str, int], None]


class Unread(Failed):
    """Report a file that cannot be read whole."""


class Unexpected(NotProven):
    """Report a file that an archive should not hold, or not in that size."""


def pack(
    sink: IO[bytes], folder: Path, names: Iterable[str], tell: Tell | None = None
) -> dict[str, FileRecord]:
    """Write files below a folder as an archive and return their records as they were read.

    `tell` gets the bytes that went out since it was told last. Raises Unread for a file that is
    not there or gets shorter meanwhile.
    """
    found, folders = {}, set()
    for name in names:
        for parent in reversed(Path(name).parents[:-1]):
            if parent not in folders:
                _put(sink, _header(f"{parent}/", 0, tarfile.DIRTYPE, 0o700))
                folders.add(parent)
        found[name] = _pack_file(sink, folder, name, tell)
    _put(sink, _END)
    return found


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o600) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode, info.mtime = size, kind, mode, int(time.time())
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _put(sink: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[sink.write(view) :]


def _pack_file(sink: IO[bytes], folder: Path, name: str, tell: Tell | None) -> FileRecord:
    digest, done = hashlib.sha256(), 0
    try:
        handle = plainfile.opened(folder, name)
    except OSError as exc:
        raise Unread(f"{name}: {exc.strerror}") from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        _put(sink, _header(name, size))
        while done < size and (chunk := file.read(min(CHUNK, size - done))):
            _put(sink, chunk)
            digest.update(chunk)
            done += len(chunk)
            if tell:
                tell(len(chunk))
    if done < size:
        raise Unread(f"{name}: {size - done:,} bytes went missing while it was read")
    _put(sink, b"\0" * (-size % _BLOCK))
    return FileRecord(size, digest.hexdigest())


def unpack(
    source: IO[bytes], folder: Path, tell: Tell | None = None, *, admit: Admit
) -> dict[str, FileRecord]:
    """Write the files of an archive below a folder, durably, and return their records.

    `admit` gets name and size of each before it is written, and raises what is wrong with it.
    Raises NotProven for what is no plain file or lies elsewhere, CutShort where bytes are missing,
    OSError for what cannot be written.
    """
    found: dict[str, FileRecord] = {}
    pending: list[Future[None]] = []
    # the disk writes one file while the next one comes in
    with ThreadPoolExecutor(1) as pool:
        for info in _members(source):
            if info.isdir():
                continue  # one that a file needs is made for it
            name = checked(info.name).as_posix()
            admit(name, info.size)
            handle = _made(folder / name)
            try:
                record = _unpack_file(source, handle, info.size, tell)
            except BaseException:
                os.close(handle)
                raise
            pending.append(pool.submit(_settle, handle))
            found[name] = record
    for each in pending:
        each.result()
    return found


def _made(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise NotProven(f"the archive holds {path.name!r} twice") from None


def admitting(expected: Mapping[str, FileRecord]) -> Admit:
    """Return what admits the files that a backup has, each once and in its size."""

    def admit(name: str, size: int) -> None:
        if name not in expected:
            raise Unexpected(f"{name}: not part of the backup")
        if fault := size_difference(expected[name], size):
            raise Unexpected(f"{name}: {fault}")

    return admit


def _members(source: IO[bytes]) -> Iterable[tarfile.TarInfo]:
    """Read the headers of files and folders; whoever asks for the next one has read the file."""
    longer = ""
    for _ in range(_MOST):
        block = _block(source)
        if not block:
            return
        info = _header_of(block)
        if info.type == tarfile.GNUTYPE_LONGNAME or info.type in _SKIPPED:
            if info.size > _LONGEST:
                raise NotProven(f"what came is no archive of ours: a name of {info.size:,} bytes")
            text = _exactly(source, info.size)
            _exactly(source, -info.size % _BLOCK)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                longer = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        info.name, longer = longer or info.name, ""
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise NotProven(f"the archive holds {info.name!r}, which is no plain file")
        yield info
    raise NotProven(f"the archive holds more than {_MOST:,} files")


def _header_of(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as exc:
        raise NotProven(f"what came is no archive: {exc}") from None
    if info.size < 0:  # a number of base 256 has a sign
        raise NotProven(f"what came is no archive: {info.name!r} has {info.size} bytes")
    return info


def _block(source: IO[bytes]) -> bytes:
    """Return the next header, nothing at the archive's end; a stream of nothing is an empty one."""
    first = source.read(1)
    block = first + _exactly(source, _BLOCK - 1) if first else b""
    return block if block.strip(b"\0") else b""


def checked(name: str) -> Path:
    """Return a name as a path below some folder, raising NotProven for one that leads elsewhere."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise NotProven(f"the archive holds {name!r}, which lies elsewhere")
    return path


def _unpack_file(source: IO[bytes], handle: int, size: int, tell: Tell | None) -> FileRecord:
    digest, left = hashlib.sha256(), size
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise CutShort("the archive ends in the middle of a file")
        view = memoryview(chunk)
        while view:
            view = view[os.write(handle, view) :]
        digest.update(chunk)
        left -= len(chunk)
        if tell:
            tell(len(chunk))
    _exactly(source, -size % _BLOCK)
    return FileRecord(size, digest.hexdigest())


def _settle(handle: int) -> None:
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exactly(source: IO[bytes], size: int) -> bytes:
    said = b""
    while len(said) < size:
        more = source.read(size - len(said))
        if not more:
            raise CutShort("the archive ends too early")
        said += more
    return said
