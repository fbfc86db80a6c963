"""A backup that is being written to a folder with a temporary name on a database host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pgtasks.backup.format import files
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.records import FileRecord, Reading, Unread
from pgtasks.backup.store import filestream, scripts, staging, tree
from pgtasks.backup.store.backup import Backup, Holder
from pgtasks.backup.store.faults import BackupExists
from pgtasks.backup.store.filestream import FileStream
from pgtasks.backup.store.remote_index import room
from pgtasks.backup.store.remote_shell import Shell
from pgtasks.errors import Failed, Locked, Refused
from pgtasks.host import disk

_READERS = 2  # processes on the host that read the received files


@dataclass(frozen=True)
class RemoteDraft:
    """A backup that is being written to a folder with a temporary name on a host."""

    store: Holder
    shell: Shell
    id: str
    path: Path
    folder: Path
    free: int | None

    def clear(self, path: Path) -> None:
        """Remove a file or a folder on the host."""
        self.shell.remove(str(path))

    def write(self, streams: Iterable[FileStream]) -> Reading:
        """Send files, and let the host read the received ones."""
        self.shell.unpack(str(self.folder), streams)
        return self.shell.sums(str(self.folder), _READERS, new=True)

    def records(self, jobs: int, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """Let the host read the dump, and read the small files here."""
        records = {}
        for name, record in self.shell.sums(str(self.folder), jobs, new=True).items():
            if isinstance(record, Unread):
                raise Failed(f"{self.shell.prefix}{self.folder}/{name}: {record.reason}")
            records[name] = record
        return records | files.records(self.path, files.below(self.path), jobs=jobs)

    def finish(self, make_way: Callable[[], None] | None = None) -> Backup:
        """Send the small files, the manifest last."""
        small = files.below(self.path)
        small.remove(manifests.NAME)
        ordered = [*small, manifests.NAME]
        self.shell.unpack(str(self.folder), filestream.opened(self.path, ordered))
        if make_way:
            self.shell.run(scripts.settle(str(self.folder)))
            make_way()
        folder = self._renamed()
        return Backup(self.path, tree.manifest_in(self.path), self.store, folder)

    def _renamed(self) -> str:
        """Make the folder durable, give it its final name, and return its path."""
        for kind, _, _ in self.shell.run(scripts.finish(str(self.folder), self.id)):
            if kind == scripts.THERE:
                raise Refused(f"there is another backup {self.id} on {self.store.name}")
        return str(PurePosixPath(self.folder).with_name(self.id))


@contextmanager
def made(
    store: Holder, shell: Shell, base: str, home: str, id: str, *, replacing: bool
) -> Iterator[RemoteDraft]:
    """Create a folder with a temporary name below `base` for the length of a block.

    If the connection is lost, the next run removes it. Raises BackupExists for the ID of a backup
    that is there, unless that is to be replaced.
    """
    path, free = _folder(shell, base, home, id, replacing=replacing)
    try:
        yield RemoteDraft(store, shell, id, room(shell.host), Path(path), free)
    except OSError as exc:  # for example a full local disk
        raise Failed(f"cannot write {str(exc.filename)!r}: {exc.strerror}") from None
    finally:
        shell.remove(path)


def _folder(
    shell: Shell, base: str, home: str, id: str, *, replacing: bool
) -> tuple[str, int | None]:
    """Create a temporary folder; return its path and the number of free bytes."""
    path, free = "", None
    script = scripts.make(base, home, staging.name(id), "" if replacing else id)
    for kind, _, rest in shell.run(script):
        if kind == scripts.THERE:
            raise BackupExists(f"backup {id} exists already")
        if kind == scripts.BUSY:
            raise Locked(f"another run is creating backup {id} on {shell.host.name}")
        if kind == "at":
            path = rest
        elif kind == "free":
            file_system = disk.parse(path, rest)
            free = file_system.free if file_system else None
    return path, free
