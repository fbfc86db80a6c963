"""Write, read, hash and sync the files of a backup."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pgtasks.backup.format.records import FileRecord, size_difference
from pgtasks.host import plainfile, private

SUMS = "SHA256SUMS"
_CHUNK = 1 << 20


def write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, and sync it to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def below(folder: Path) -> list[str]:
    """Return the sorted names of all files below a folder, without hidden ones."""
    return sorted(
        name for name, _ in plainfile.walk(folder) if not name.rpartition("/")[2].startswith(".")
    )


def odd(folder: Path) -> list[str]:
    """Return a line for each entry below a folder that is neither a regular file nor a folder."""
    kinds = ((name, plainfile.kind(seen.st_mode)) for name, seen in plainfile.walk(folder))
    return sorted(f"{name}: {kind}" for name, kind in kinds if kind)


def unfit(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    """Return a line for each file that is not regular, or not of the recorded size."""
    return [fault for name, record in records.items() if (fault := _unfit(folder, name, record))]


def _unfit(folder: Path, name: str, expected: FileRecord) -> str:
    try:
        handle = plainfile.opened(folder, name)
    except OSError as exc:
        return f"{name}: {exc.strerror}"
    try:
        size = os.fstat(handle).st_size
    finally:
        os.close(handle)
    fault = size_difference(expected, size)
    return f"{name}: {fault}" if fault else ""


def record(folder: Path, name: str, *, durable: bool = False) -> FileRecord:
    """Read a file and return its record; `durable` also restricts its mode and syncs it."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(plainfile.opened(folder, name), "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)  # lets other threads run
            size += len(chunk)
        if durable:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
    return FileRecord(size, digest.hexdigest())


def records(folder: Path, names: Iterable[str], *, jobs: int) -> dict[str, FileRecord]:
    """Make files below a folder durable, and return their records by relative name."""
    with ThreadPoolExecutor(jobs) as pool:
        chosen = list(names)
        file_records = pool.map(lambda name: record(folder, name, durable=True), chosen)
        named = dict(zip(chosen, file_records, strict=True))
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
            private.sync(path)
    return named


def sums(records: Mapping[str, FileRecord]) -> str:
    """Return the input of `sha256sum --check`."""
    return "".join(f"{record.sha256}  {name}\n" for name, record in sorted(records.items()))
