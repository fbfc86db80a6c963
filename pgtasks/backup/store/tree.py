"""Local folders of backups: ENVIRONMENT/DATABASE/ID below a base folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.beside import Beside
from pgtasks.backup.format.manifest import Manifest
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.host import plainfile

_LIMITS = {manifests.NAME: manifests.LIMIT} | {name: names.LIMITS[name] for name in names.BESIDE}


@dataclass(frozen=True)
class Seen:
    """A folder that may be a backup: its manifest or the error of reading it, what is beside it."""

    path: str
    link: bool
    manifest: Manifest | PgtasksError
    beside: Beside


def below(folder: Path) -> Iterator[Seen]:
    """Yield each folder below another that may be a backup."""
    homes = [home for each in _folders(str(folder)) for home in _folders(each.path)]
    for entry in (entry for home in homes for entry in _folders(home.path)):
        found = plainfile.read_several(entry.path, _LIMITS)
        content = found.pop(manifests.NAME, os.strerror(errno.ENOENT))
        manifest: Manifest | PgtasksError
        try:
            manifest = parsed(content, f"{entry.path}/{manifests.NAME}", entry.name)
        except PgtasksError as exc:
            manifest = exc
        yield Seen(entry.path, entry.is_symlink(), manifest, found)


def _folders(folder: str) -> list[os.DirEntry[str]]:
    """Return the folders in one by their names, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            found = [each for each in entries if each.name[0] != "." and each.is_dir()]
    except OSError:  # not there, or of another account
        return []
    return sorted(found, key=lambda each: each.name)


def parsed(content: bytes | str, where: str, id: str) -> Manifest:
    """Return the manifest of a folder of many, of which the content is known, or why it is not.

    Raises NotProven if it cannot be read, or if `id`, the name of the folder, is not its ID.
    """
    if isinstance(content, str):
        raise NotProven(f"{where}: {content}")
    return _own(manifests.parse(content, where, quick=True), where, id)


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
    return _own(manifest_in(path, quick=quick), str(path / manifests.NAME), path.name)


def _own(manifest: Manifest, where: str, id: str) -> Manifest:
    if manifest.id != id:
        raise NotProven(
            f"{where}: the manifest is of backup {manifest.id}, which is not the name of the folder"
        )
    return manifest
