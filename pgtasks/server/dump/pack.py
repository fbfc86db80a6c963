"""Compress the files of a dump beside pg_dump, which writes them without compression.

zlib is what bounds pg_dump: igzip of ISA-L makes the same format three times as fast. Each file is
read while it grows, and the space of what was read is given back, so the dump never lies on the
disk uncompressed. pg_restore opens `1234.dat.gz` where its table of contents says `1234.dat`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pgtasks.errors import Failed
from pgtasks.host import inotify, sparse
from pgtasks.host.worker import Worker

NAME = "gzip"  # the compression of what the packer writes
_LEVEL = 2  # of ISA-L's 0 to 3: level 3 makes files 3 % smaller and takes twice the time
_GZIP_WINDOW = 31
_SUFFIX = ".gz"
_PIECE = 1 << 20
_PUNCHED = 8 << 20  # bytes that are given back at a time
_BACKLOG = 512 << 20  # bytes on the disk that wait for the packer before pg_dump has to wait
_GROWS = 0.01  # seconds between reads of a file that grows
_LISTEN = 0.1


@dataclass(frozen=True)
class Packed:
    """The size and the SHA-256 of a compressed file."""

    size: int
    sha256: str


class Dumping(Protocol):
    """The process that writes the files."""

    def suspend(self) -> None:
        """Stop it for a while."""

    def resume(self) -> None:
        """Let it go on."""


def possible(folder: Path) -> bool:
    """Return whether files in a folder can be compressed while they are written."""
    try:
        import isal.isal_zlib  # noqa: F401
    except ImportError:  # there is no wheel for this machine
        return False
    try:
        inotify.Watch(folder).close()
    except OSError:
        return False
    return sparse.possible(folder)


class Packer:
    """Threads that compress what a program writes into a folder; leaving the block ends them.

    There are as many threads as the program has files open, so that each file that grows has one:
    so a program that waits for the packer always gets room.
    """

    def __init__(self, folder: Path, *, jobs: int) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700)
        self._watch = inotify.Watch(folder)
        self._waiting: deque[str] = deque()
        self._begun: set[str] = set()
        self._closed: set[str] = set()
        self._packed: dict[str, Packed] = {}
        self._news = threading.Condition()
        self._ended = self._stopped = self._paused = False
        self._failure: BaseException | None = None
        self._listener = Worker(self._guarded(self._listen))
        self._workers = [Worker(self._guarded(self._work)) for _ in range(jobs)]

    def __enter__(self) -> Packer:
        for worker in (self._listener, *self._workers):
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for worker in (self._listener, *self._workers):
            worker.wait()
        self._watch.close()

    def look(self, dump: Dumping) -> None:
        """Stop the program while the disk has more than `_BACKLOG` to compress, raising errors."""
        self._check()
        full = self._on_disk() > (_BACKLOG // 2 if self._paused else _BACKLOG)
        if self._watch.lost:  # a thread may wait for the end of a file until the program has ended
            full = False
        if full != self._paused:
            (dump.suspend if full else dump.resume)()
            self._paused = full

    def finish(self) -> Mapping[str, Packed]:
        """Compress the rest, once the program has ended; return the files by name."""
        with self._news:
            self._notice(sorted(name for name, _ in self._raw()))
            self._ended = True
            self._news.notify_all()
        for worker in self._workers:
            worker.wait()
        self._check()
        return self._packed

    def _check(self) -> None:
        failure = self._failure
        if isinstance(failure, OSError):
            reason = "no space is left on the disk of the backup: make room there"
            reason = reason if failure.errno == 28 else str(failure.strerror or failure)
            raise Failed(f"compressing the dump failed, {reason}") from None
        if failure is not None:
            raise failure

    def _guarded(self, work: Work) -> Work:
        def guarded() -> None:
            try:
                work()
            except BaseException as exc:
                self._failure = self._failure or exc
                self._stopped = True

        return guarded

    def _listen(self) -> None:
        while not self._stopped and not self._ended:
            events = self._watch.wait(_LISTEN)
            with self._news:
                self._closed.update(event.name for event in events if event.closed)
                self._notice([event.name for event in events if not event.closed])
                self._news.notify_all()

    def _notice(self, names: list[str]) -> None:
        fresh = [name for name in names if _is_raw(name) and name not in self._begun]
        self._begun.update(fresh)
        self._waiting.extend(fresh)

    def _work(self) -> None:
        while (name := self._next()) is not None:
            self._pack(name)

    def _next(self) -> str | None:
        with self._news:
            while not self._stopped:
                if self._waiting:
                    return self._waiting.popleft()
                if self._ended:
                    break
                self._news.wait(_LISTEN)
        return None

    def _pack(self, name: str) -> None:
        path = self._folder / name
        final = path.with_name(name + _SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with (
            os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "rb", buffering=0) as source,
            os.fdopen(os.open(final, flags, 0o600), "wb", buffering=_PIECE) as sink,
        ):
            digest, size = hashlib.sha256(), 0
            for piece in _compressed(self._content(name, source.fileno())):
                sink.write(piece)
                digest.update(piece)
                size += len(piece)
            if self._stopped:
                return
            sink.flush()
            os.fsync(sink.fileno())
        path.unlink()
        self._packed[final.name] = Packed(size, digest.hexdigest())

    def _content(self, name: str, handle: int) -> Iterator[memoryview]:
        """Yield the content of a file until its writer has closed it, and give its space back."""
        buffer = bytearray(_PIECE)
        done = punched = 0
        while not self._stopped:
            whole = self._ended or name in self._closed  # before the read that finds no more
            if length := os.readv(handle, [buffer]):
                yield memoryview(buffer)[:length]
                done += length
            elif whole:
                return
            # all of it where there is no more: its writer may be waiting for that
            if done - punched >= (_PUNCHED if length else 1):
                sparse.punch(handle, punched, done - punched)
                punched = done
            if not length:
                with self._news:
                    self._news.wait(_GROWS)

    def _on_disk(self) -> int:
        return sum(size for _, size in self._raw())

    def _raw(self) -> Iterator[tuple[str, int]]:
        """Yield the names of the files without compression, and their bytes on the disk."""
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # it was compressed meanwhile
                if _is_raw(entry.name):
                    yield entry.name, entry.stat(follow_symlinks=False).st_blocks * 512


class Work(Protocol):
    """What a thread does."""

    def __call__(self) -> None: ...


def _compressed(content: Iterator[memoryview]) -> Iterator[bytes]:
    from isal import isal_zlib

    packing = isal_zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW)
    for piece in content:
        if packed := packing.compress(piece):
            yield packed
    yield packing.flush()


def _is_raw(name: str) -> bool:
    return name.endswith(".dat") and name != "toc.dat"
