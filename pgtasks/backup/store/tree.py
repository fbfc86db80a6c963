"""Local folders of backups: ENVIRONMENT/DATABASE/ID below a base folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.manifest import Manifest
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.host import plainfile


def manifests_below(folder: Path) -> Iterator[tuple[Path, Manifest | PgtasksError]]:
    """Yield each folder that may be a backup, with its manifest or the error of reading it."""
    for path in sorted(folder.glob("[!.]*/[!.]*/[!.]*")):
        if path.is_dir():
            try:
                yield path, own_manifest(path, quick=True)
            except PgtasksError as exc:
                yield path, exc


def manifest_in(path: Path, *, quick: bool = False) -> Manifest:
    """Return the manifest in a folder, raising NotProven if it cannot be read.

    `quick` is that of `manifest.parse`.
    """
    where = str(path / manifests.NAME)
    try:
        content = plainfile.read(path, manifests.NAME, limit=manifests.LIMIT)
    except OSError as exc:
        raise NotProven(f"{where}: {exc.strerror}") from None
    return manifests.parse(content, where, quick=quick)


def own_manifest(path: Path, *, quick: bool = False) -> Manifest:
    """Return the manifest in a folder, raising NotProven if the folder's name is not its ID."""
    manifest = manifest_in(path, quick=quick)
    if manifest.id != path.name:
        where = path / manifests.NAME
        raise NotProven(
            f"{where}: the manifest is of backup {manifest.id}, which is not the name of the folder"
        )
    return manifest
