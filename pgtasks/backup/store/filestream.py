"""Files on their way from one place to another: names, sizes, and bytes as they come.

A stream is read once and in order. The bytes of a file are gone when the next one is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pgtasks.backup.format.records import FileRecord, size_difference
from pgtasks.errors import Failed, NotProven
from pgtasks.host import plainfile
from pgtasks.host.streams import CHUNK

Tell = Callable[[int], None]
Admit = Callable[[str, int], None]


@dataclass(frozen=True)
class FileStream:
    """A file with a relative name, `size` bytes of which come in `chunks`."""

    name: str
    size: int
    chunks: Iterable[bytes]


FileStreams = Generator[FileStream, None, None]


class UnreadableFile(Failed):
    """Report a file that cannot be read whole."""


class UnexpectedFile(NotProven):
    """Report a file that does not belong to a backup, or not in that size."""


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
        raise UnreadableFile(f"{name}: {left:,} bytes went missing while it was read")


def measured(
    files: Iterable[FileStream], records: dict[str, FileRecord], tell: Tell | None = None
) -> Iterator[FileStream]:
    """Yield the same files, and put the record of each into `records` when it was read whole.

    `tell` gets the bytes that were read since it was told last.
    """
    for file in files:
        yield replace(file, chunks=_measured(file, records, tell))


def _measured(
    file: FileStream, records: dict[str, FileRecord], tell: Tell | None
) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in file.chunks:
        digest.update(chunk)
        yield chunk
        if tell:
            tell(len(chunk))
    records[file.name] = FileRecord(file.size, digest.hexdigest())


def counting(update: Callable[[int], None]) -> Tell:
    """Return what adds up the bytes it is told of, for an `update` that wants their sum."""
    total = 0

    def tell(size: int) -> None:
        nonlocal total
        total += size
        update(total)

    return tell


def admitted(files: Iterable[FileStream], admit: Admit) -> Iterator[FileStream]:
    """Yield the same files, after `admit` has raised for a name or a size that may not be."""
    for file in files:
        admit(file.name, file.size)
        yield file


def expecting(records: Mapping[str, FileRecord]) -> Admit:
    """Return what admits the files that a backup has, in their sizes."""

    def admit(name: str, size: int) -> None:
        if name not in records:
            raise UnexpectedFile(f"{name}: not part of the backup")
        if fault := size_difference(records[name], size):
            raise UnexpectedFile(f"{name}: {fault}")

    return admit


def laid(folder: Path, files: Iterable[FileStream]) -> None:
    """Write files below a folder, each new, durable and its owner's alone.

    Raises NotProven for a name that comes twice, OSError for what cannot be written.
    """
    pending: list[Future[None]] = []
    # the disk writes one file while the next one comes in
    with ThreadPoolExecutor(1) as pool:
        for file in files:
            handle = _made(folder / file.name)
            try:
                for chunk in file.chunks:
                    _write(handle, chunk)
            except BaseException:
                os.close(handle)
                raise
            pending.append(pool.submit(_settle, handle))
    for each in pending:
        each.result()


def _made(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise NotProven(f"the archive holds {path.name!r} twice") from None


def _write(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _settle(handle: int) -> None:
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
