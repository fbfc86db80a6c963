"""Say what a path is that holds no backup of ours: a dump of somebody else, by its first bytes."""

from __future__ import annotations

import shlex
from pathlib import Path

from pgtasks.host import plainfile
from pgtasks.report import typed

_HEAD = 4096  # bytes that are read of a file
_CUSTOM, _TAR = b"PGDMP", b"ustar"
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


def packing_of(head: bytes) -> str:
    """Return the compression of a file by its first bytes, an empty text for none."""
    return next((name for magic, name in _PACKED if head.startswith(magic)), "")


def described(path: Path) -> str:
    """Describe a path that is not a backup, and the commands that take a dump."""
    if path.is_dir():
        kind = (
            "format directory" if plainfile.head(path, "toc.dat", _HEAD).startswith(_CUSTOM) else ""
        )
        return _no_backup(path, _taken(path, kind) if kind else "the folder has no manifest.json")
    head = plainfile.head(path.parent, path.name, _HEAD)
    if packed := packing_of(head):
        return _no_backup(path, f"it is compressed by {packed}; {_way(path)}")
    kind = _kind(path, head)
    return _no_backup(path, _taken(path, kind) if kind else "expected the folder of a backup")


def _kind(path: Path, head: bytes) -> str:
    if head.startswith(_CUSTOM):
        return "format custom"
    if head[257:262] == _TAR and head.startswith(b"toc.dat\0"):
        return "format tar"
    is_text = bool(head) and b"\0" not in head
    return "SQL" if is_text and (path.suffix == ".sql" or b"PostgreSQL database" in head) else ""


def _taken(path: Path, kind: str) -> str:
    return f"it is a dump ({kind}); {_way(path)}"


def _way(path: Path) -> str:
    shown = shlex.quote(str(path))
    restores = typed.task("db.restore", "--backup", shown)
    return f"{restores} restores a dump, {typed.task('backup.import', shown)} makes a backup of it"


def _no_backup(path: Path, fault: str) -> str:
    return f"no backup at {str(path)!r}: {fault}"
