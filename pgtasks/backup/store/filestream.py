"""Streams of files between stores: names, sizes and content.

A stream is read once and in order: the content of a file before the next file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from pgtasks.backup.format.records import FileRecord, size_difference
from pgtasks.errors import Failed, NotProven
from pgtasks.host import plainfile
from pgtasks.host.streams import CHUNK

_SMALL = 1 << 16  # bytes of a piece that is not worth a switch to another thread
_FLUSHED = 32 << 20  # bytes after which a file that arrives is flushed to the disk

Tell = Callable[[int], None]
Admit = Callable[[str, int], None]


@dataclass(frozen=True)
class FileStream:
    """A file with a relative name, whose `size` bytes are read from `chunks`."""

    name: str
    size: int
    chunks: Iterable[bytes]


FileStreams = Generator[FileStream, None, None]


class UnreadableFile(Failed):
    """A file cannot be read to its end."""


class UnexpectedFile(NotProven):
    """A file does not belong to the backup, or has another size."""


def opened(folder: Path, names: Iterable[str]) -> FileStreams:
    """Yield files below a folder.

    Raises UnreadableFile for a file that is missing, not regular, or gets shorter meanwhile.
    """
    for name in names:
        try:
            handle = plainfile.opened(folder, name)
        except OSError as exc:
            raise UnreadableFile(f"{name}: {exc.strerror}") from None
        with os.fdopen(handle, "rb", buffering=0) as file:
            size = os.fstat(handle).st_size
            yield FileStream(name, size, _chunks(name, file.read, size))


def _chunks(name: str, read: Callable[[int], bytes | None], size: int) -> Iterator[bytes]:
    left = size
    while left and (chunk := read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk
    if left:
        raise UnreadableFile(f"{name}: it became {left:,} bytes shorter while it was read")


def measured(files: Iterable[FileStream], records: dict[str, FileRecord]) -> Iterator[FileStream]:
    """Yield the same files, and add the record of each to `records` when it has been read."""
    with ThreadPoolExecutor(1) as pool:
        for file in files:
            yield replace(file, chunks=_measured(file, records, pool))


def _measured(
    file: FileStream, records: dict[str, FileRecord], pool: ThreadPoolExecutor
) -> Iterator[bytes]:
    digest = hashlib.sha256()
    pending: Future[None] | None = None
    for chunk in file.chunks:
        if pending is not None:
            pending.result()
        # the checksum of a large piece is computed while it is written
        pending = pool.submit(digest.update, chunk) if len(chunk) > _SMALL else None
        if pending is None:
            digest.update(chunk)
        yield chunk
    if pending is not None:
        pending.result()
    records[file.name] = FileRecord(file.size, digest.hexdigest())


def told(files: Iterable[FileStream], tell: Tell | None) -> Iterator[FileStream]:
    """Yield the same files; `tell` is called with the number of bytes since its last call."""
    for file in files:
        yield replace(file, chunks=_told(file, tell)) if tell else file


def _told(file: FileStream, tell: Tell) -> Iterator[bytes]:
    for chunk in file.chunks:
        yield chunk
        tell(len(chunk))


def counting(update: Callable[[int], None]) -> Tell:
    """Return a function that adds up bytes, and calls `update` with the sum."""
    total = 0

    def tell(size: int) -> None:
        nonlocal total
        total += size
        update(total)

    return tell


def admitted(files: Iterable[FileStream], admit: Admit) -> Iterator[FileStream]:
    """Yield the same files; `admit` raises for a name or a size that is not allowed."""
    for file in files:
        admit(file.name, file.size)
        yield file


def expecting(records: Mapping[str, FileRecord]) -> Admit:
    """Return a check for `admitted`: only the files in `records`, with their sizes."""

    def admit(name: str, size: int) -> None:
        if name not in records:
            raise UnexpectedFile(f"{name}: not part of the backup")
        if fault := size_difference(records[name], size):
            raise UnexpectedFile(f"{name}: {fault}")

    return admit


def laid(folder: Path, files: Iterable[FileStream], *, durable: bool = True) -> None:
    """Create files below a folder, readable only by their owner, and durable unless told otherwise.

    Raises NotProven if a name occurs twice, OSError if a file cannot be written.
    """
    pending: list[Future[None]] = []
    # what has come is flushed to the disk while more arrives
    with ThreadPoolExecutor(1) as pool:
        for file in files:
            handle = _made(folder / file.name)
            try:
                flushing = _written(handle, file, pool if durable else None)
            except BaseException:
                os.close(handle)
                raise
            pending += flushing
            if durable:
                pending.append(pool.submit(_settle, handle))
            else:
                os.close(handle)
    for each in pending:
        each.result()


def _made(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise NotProven(f"the archive contains {path.name!r} twice") from None


def _written(handle: int, file: FileStream, pool: ThreadPoolExecutor | None) -> list[Future[None]]:
    """Write a file; return the work of flushing parts of it, the end of which is not waited for."""
    flushing: list[Future[None]] = []
    unflushed = 0
    try:
        for chunk in file.chunks:
            _write(handle, chunk)
            unflushed += len(chunk)
            if pool and unflushed >= _FLUSHED:
                flushing, unflushed = [pool.submit(os.fsync, handle), *_failed(flushing)], 0
    except BaseException:
        wait(flushing)  # before the handle is closed, whose number may be another file's then
        raise
    return flushing


def _failed(flushing: Iterable[Future[None]]) -> list[Future[None]]:
    """Return the work that is not done, or has failed."""
    return [each for each in flushing if not each.done() or each.exception()]


def _write(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _settle(handle: int) -> None:
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
