"""Backups that are nothing but their manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backups import local_backup
from pgtasks.backup.format import manifest
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore

PLAIN = Manifest(
    id="20250101T000000Z-aaaa",
    environment="dev",
    database="shop",
    system="7",
    server_version=160014,
    server="PostgreSQL 16.14",
    dump_tool=(16, 14),
    layout="directory",
    compression="gzip:1",
    snapshot_time="2025-01-01T00:00:00.000000Z",
    revision="a1",
    tables=2,
    rows=5,
    database_bytes=100,
    seconds=1.5,
    with_proof=True,
    files={"dump/toc.dat": FileRecord(3, "ab" * 32)},
    note='ünï 🐘 "quoted"',
)


def put(folder: Path, **changes: object) -> Backup:
    """Write a backup that is nothing but its manifest."""
    made = replace(PLAIN, **changes)  # type: ignore[arg-type]
    path = Path(LocalStore(folder).home(made.environment, made.database)) / made.id
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(manifest.text(made), encoding="utf-8")
    return local_backup(path)


def whole(folder: Path, **changes: object) -> Backup:
    """Write a backup whose files are there, in the sizes of its manifest."""
    backup = put(folder, **changes)
    fill(backup.path, backup.manifest)
    return backup


def fill(path: Path, known: Manifest) -> None:
    """Write the files of a manifest, in their sizes."""
    for name, record in known.files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"x" * record.size)
