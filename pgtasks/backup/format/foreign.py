"""Recognize dumps of other tools by their first bytes.

They have no manifest, so a restore could not be proven. PostgreSQL's own tools load them.
"""

from __future__ import annotations

import os
import shlex
import zlib
from pathlib import Path

from pgtasks.host import plainfile
from pgtasks.report import typed

_HEAD = 4096  # bytes that are read of a file
_GZIP, _CUSTOM, _TAR = b"\x1f\x8b", b"PGDMP", b"ustar"
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd -d", b"\x04\x22\x4d\x18": "lz4 -d", b"\xfd7zXZ\0": "xz -dk"}
_PACKED[b"BZh"] = "bzip2 -dk"


def described(path: Path) -> str:
    """Describe a path that is not a backup, and the command that loads it."""
    shown = _quoted(path)
    if path.is_dir():
        return _folder(path, shown)
    head = _head(path.parent, path.name)
    if head.startswith(_GZIP):
        return _no_backup(path, _gzipped(path, _unpacked(head)))
    for magic, command in _PACKED.items():
        if head.startswith(magic):
            return _no_backup(path, f"it is compressed: unpack it with {command} {shown}")
    if head.startswith(_CUSTOM):
        return _no_backup(path, f"it is a dump of pg_dump (format custom); {_way(shown)}")
    if head[257:262] == _TAR and head.startswith(b"toc.dat\0"):
        return _no_backup(path, f"it is a dump of pg_dump (format tar); {_way(shown)}")
    if _is_text(head) and (path.suffix == ".sql" or b"PostgreSQL database" in head):
        return _no_backup(path, f"it is SQL, {typed.task('db.run', '--file', shown)} runs it")
    return _no_backup(path, "expected the folder of a backup")


def _gzipped(path: Path, inside: bytes) -> str:
    unpacking = f"gunzip -k {_quoted(path)} unpacks it"
    if path.suffix == ".gz" and _is_text(inside):
        unpacked = _quoted(path.with_suffix(""))
        runs = typed.task("db.run", "--file", unpacked)
        return f"it is compressed SQL: {unpacking}, {runs} runs it"
    return f"it is compressed: {unpacking}"


def _folder(path: Path, shown: str) -> str:
    if _head(path, "toc.dat").startswith(_CUSTOM):
        return _no_backup(path, f"it is a dump of pg_dump (format directory); {_way(shown)}")
    return _no_backup(path, "the folder has no manifest.json")


def _no_backup(path: Path, fault: str) -> str:
    return f"no backup at {str(path)!r}: {fault}"


def _way(shown: str) -> str:
    return (
        "without a manifest nothing proves it, and stock pg_restore loads it: pg_restore"
        f" --exit-on-error --no-owner --dbname=URL {shown} (an empty database's URL,"
        f" {typed.task('env.show', '--url')} prints this one's)"
    )


def _head(folder: Path, name: str) -> bytes:
    """Return the first bytes of a regular file, nothing if it cannot be read."""
    try:
        with os.fdopen(plainfile.opened(folder, name), "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _is_text(head: bytes) -> bool:
    return bool(head) and b"\0" not in head


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
