"""A backup that is being written to a folder with a temporary name on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgtasks.backup.format import files
from pgtasks.backup.format.records import FileRecord, Reading
from pgtasks.backup.store import filestream, staging, tree
from pgtasks.backup.store.backup import Backup, Holder
from pgtasks.backup.store.filestream import FileStream
from pgtasks.host import private
from pgtasks.host.local import HERE


@dataclass(frozen=True)
class LocalDraft:
    """A backup that is being written to a folder with a temporary name."""

    store: Holder
    id: str
    path: Path

    @property
    def folder(self) -> Path:
        """Return the same folder, into which the tools write."""
        return self.path

    @property
    def free(self) -> int | None:
        """Return the free bytes of its disk."""
        return HERE.free_bytes(str(self.path))

    def clear(self, path: Path) -> None:
        """Remove a file or a folder."""
        files.remove(path)

    def write(self, streams: Iterable[FileStream]) -> Reading:
        """Write files, and return their records."""
        records: dict[str, FileRecord] = {}
        filestream.laid(self.path, filestream.measured(streams, records))
        for folder in self.path.iterdir():
            if folder.is_dir():
                private.sync(folder)
        return records

    def records(self, jobs: int, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """Read the other files again."""
        names = files.below(self.path)
        read = files.records(self.path, [each for each in names if each not in known], jobs=jobs)
        return {name: known.get(name) or read[name] for name in names}

    def finish(self, make_way: Callable[[], None] | None = None) -> Backup:
        """Rename the folder."""
        if make_way:
            make_way()
        path = staging.finish(self.path, self.id)
        return Backup(path, tree.manifest_in(path), self.store, str(path))
