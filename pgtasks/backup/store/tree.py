"""Folders of backups on this machine: ENVIRONMENT/DATABASE/ID below some folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.manifest import Manifest
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.host import plainfile


def manifests_below(folder: Path) -> Iterator[tuple[Path, Manifest | PgtasksError]]:
    """Yield each folder that may hold a backup, with its manifest or why that cannot be read."""
    for path in sorted(folder.glob("[!.]*/[!.]*/[!.]*")):
        if path.is_dir():
            try:
                yield path, own_manifest(path)
            except PgtasksError as exc:
                yield path, exc


def manifest_in(path: Path) -> Manifest:
    """Return the manifest in a backup's folder, raising NotProven where it cannot be read."""
    where = str(path / manifests.NAME)
    try:
        content = plainfile.read(path, manifests.NAME, limit=manifests.LIMIT)
    except OSError as exc:
        raise NotProven(f"{where}: {exc.strerror}") from None
    return manifests.parse(content, where)


def own_manifest(path: Path) -> Manifest:
    """Return the manifest in a folder named for its ID, raising NotProven for another backup's."""
    manifest = manifest_in(path)
    if manifest.id != path.name:
        where = path / manifests.NAME
        raise NotProven(
            f"{where}: the manifest of backup {manifest.id}, whose name the folder lacks"
        )
    return manifest
