"""The files of a backup: written for their owner alone, read again, hashed, synced."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pgtasks.backup.manifest import FileRecord
from pgtasks.backup.partial import sync

SUMS = "SHA256SUMS"
_CHUNK = 1 << 20


def write(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is on the disk when this returns."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def below(folder: Path) -> list[Path]:
    """Return all files below a folder that are not hidden, sorted."""
    return sorted(
        path for path in folder.rglob("*") if not path.is_dir() and not path.name.startswith(".")
    )


def record(path: Path, *, durable: bool = False) -> FileRecord:
    """Read a file and return its size and checksum; `durable` shuts and syncs it besides."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)  # lets other threads run
            size += len(chunk)
        if durable:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
    return FileRecord(size, digest.hexdigest())


def records(folder: Path, paths: Iterable[Path], *, jobs: int) -> dict[str, FileRecord]:
    """Return the records of files below a folder by their relative names, made durable."""
    with ThreadPoolExecutor(jobs) as pool:
        chosen = list(paths)
        found = pool.map(lambda path: record(path, durable=True), chosen)
        named = {
            path.relative_to(folder).as_posix(): one
            for path, one in zip(chosen, found, strict=True)
        }
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
            sync(path)
    return named


def sums(records: Mapping[str, FileRecord]) -> str:
    """Return the text that `sha256sum --check` reads."""
    return "".join(f"{one.sha256}  {name}\n" for name, one in sorted(records.items()))
