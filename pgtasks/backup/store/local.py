"""The backups folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pgtasks.backup.format import files, foreign, names
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.manifest import is_id
from pgtasks.backup.format.records import FileRecord, Reading, Unread
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import choice, filestream, local_trash, staging, tree
from pgtasks.backup.store.backup import Backup, CheckNames, newest_first
from pgtasks.backup.store.base import NEWEST
from pgtasks.backup.store.contents import Broken, Contents
from pgtasks.backup.store.faults import BackupExists, UnreadableManifest, damaged
from pgtasks.backup.store.filestream import FileStreams, Tell
from pgtasks.backup.store.local_draft import LocalDraft
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.server.quoting import folder_name


@dataclass(frozen=True)
class LocalStore:
    """The folder `base`, with a folder for each environment and database in it."""

    base: Path
    name: str = "here"
    prefix: str = ""
    host: Host = HERE

    def home(self, environment: str, database: str) -> str:
        """Return the folder of one database's backups."""
        return str(self._home(environment, database))

    def _home(self, environment: str, database: str) -> Path:
        return self.base / folder_name(environment) / folder_name(database)

    def list(self) -> Contents:
        """Return the contents of the folder."""
        backups, broken, links = [], [], []
        for seen in tree.below(self.base):
            if isinstance(seen.manifest, PgtasksError):
                *_, environment, database, name = seen.path.split("/")
                home = (environment, database)
                broken.append(Broken(home, name, seen.path, seen.manifest, seen.beside))
            else:
                backups.append(Backup(Path(seen.path), seen.manifest, self, seen.path, seen.beside))
            links += [seen.path] if seen.link else []
        interrupted = [str(path) for path in staging.leftovers(self.base)]
        dropped = local_trash.below(self.base)
        return Contents(newest_first(backups), broken, interrupted, dropped, links)

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        """Return a backup by its path, or as `choice.select` finds it in the folder."""
        if which is not None and choice.kind(which) == "path":
            return self.at(Path(which).expanduser())
        try:
            return choice.select(self.list(), environment, database, which)
        except Refused:
            if which is not None and choice.kind(which) == "id" and os.path.lexists(which):
                raise Refused(foreign.described(Path(which))) from None
            raise

    def at(self, path: Path) -> Backup:
        """Return the backup in any local folder, given the folder or its manifest.

        Raises Refused if there is none, UnreadableManifest if its manifest cannot be read.
        """
        path = path.parent if path.name == manifests.NAME else path
        if not path.exists():
            raise Refused(f"no backup at {str(path)!r}: expected the folder of a backup")
        if not (choice.holds_backup(path) or (path.is_dir() and is_id(path.name))):
            raise Refused(foreign.described(path))
        read = tree.own_manifest if is_id(path.resolve().name) else tree.manifest_in
        try:
            return Backup(path, read(path), self, str(path))
        except NotProven as exc:
            raise UnreadableManifest(exc.message, id=path.name) from None

    @contextmanager
    def draft(
        self, environment: str, database: str, id: str = "", *, replacing: bool = False
    ) -> Iterator[LocalDraft]:
        """Create a backup in a folder with a temporary name."""
        home = self._home(environment, database)
        if id:
            self.sweep()  # which completes the backup of a killed run, if all its files are there
            if not replacing and os.path.lexists(home / id):
                raise BackupExists(f"backup {id} exists already")
        id = id or staging.new_id()
        with staging.making(home, id) as path:
            yield LocalDraft(self, id, path)

    def dump(self, backup: Backup) -> Path:
        """Return the path of the dump."""
        return backup.path / names.dump_name(backup.manifest.layout)

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Return a stream of files, after the size of each was checked."""
        expected = backup.manifest.files
        chosen = {name: expected[name] for name in names or expected}
        if faults := files.unfit(backup.path, chosen):
            raise damaged(backup.id, faults, self.host.name)
        return filestream.opened(backup.path, chosen)

    def settle(self, backup: Backup) -> None:
        """Do nothing: all files are here."""

    def complete(self, backup: Backup) -> None:
        """Do nothing."""

    def records(
        self, backup: Backup, jobs: int, *, check: CheckNames, tell: Tell | None = None
    ) -> Reading:
        """Read the files in parallel, the largest first."""
        try:
            if odd := files.odd(backup.path):
                raise damaged(backup.id, odd)
            check(set(files.below(backup.path)))
        except OSError as exc:  # for example a folder without read permission
            raise NotProven(f"backup {backup.id}: {exc.filename}: {exc.strerror}") from None
        return _read_all(backup.path, backup.manifest.files, jobs, tell)

    def note(self, backup: Backup, checks: Checks) -> None:
        """Write the checks into the backup's folder."""
        checks.write(backup.path)

    def sweep(self) -> Sequence[str]:
        """Clean up after interrupted backups.

        A backup that lacks only its final name gets it.
        """
        done = []
        for path in staging.leftovers(self.base):
            id = _whole(path)
            if id and staging.settle(path, id):
                done.append(f"completed backup {id}: an interrupted run had written all of it")
            elif staging.discard(path):
                done.append(f"removed {path.name!r}, an interrupted backup")
        return done

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        """Return those of the newest names whose manifests can be read."""
        home = self._home(environment, database)
        named = [path for path in home.iterdir() if is_id(path.name)] if home.is_dir() else []
        backups = []
        for path in sorted(named)[-NEWEST:]:
            try:
                manifest = tree.own_manifest(path, quick=True)
                backups.append(Backup(path, manifest, self, str(path)))
            except PgtasksError:
                pass  # damaged
        return newest_first(backups)

    # dropped backups

    def has(self, backup: Backup) -> bool:
        """Return whether the folder is there."""
        return backup.path.is_dir()

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        """Look at every file."""
        found = ((each.id, files.unfit(each.path, each.manifest.files)) for each in backups)
        return {id: faults[0] for id, faults in found if faults}

    @contextmanager
    def retaining(self, environment: str, database: str) -> Iterator[None]:
        """Hold a lock in the trash folder."""
        with local_trash.locked(self._home(environment, database)):
            yield

    def retain(self, backup: Backup, retention: Retention) -> None:
        """Write it into the backup's folder."""
        retention.write(backup.path)

    def drop(
        self, environment: str, database: str, ids: Sequence[str], when: datetime
    ) -> Mapping[str, str]:
        """Rename the folders, one at a time."""
        home = self._home(environment, database)
        return local_trash.drop([home / id for id in ids], when)

    def bring_back(self, trashed: Trashed) -> None:
        """Rename the folder."""
        local_trash.bring_back(trashed)

    def empty(self, trashed: Sequence[Trashed]) -> Mapping[str, str]:
        """Rename the folders, and remove them."""
        faults = {}
        for each in trashed:
            try:
                local_trash.remove(each)
            except OSError as exc:
                faults[each.name] = exc.strerror or str(exc)
        return faults


def _read_all(
    folder: Path, expected: Mapping[str, FileRecord], jobs: int, tell: Tell | None
) -> Reading:
    reading: dict[str, FileRecord | Unread] = {}
    largest_first = sorted(expected, key=lambda name: -expected[name].size)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        pending: dict[Future[FileRecord | Unread], str] = {
            pool.submit(_read, folder, name): name for name in largest_first
        }
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    name = pending.pop(future)
                    reading[name] = future.result()
                    if tell:
                        tell(expected[name].size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return reading


def _read(folder: Path, name: str) -> FileRecord | Unread:
    try:
        return files.record(folder, name)
    except OSError as exc:
        return Unread(exc.strerror or str(exc))


def _whole(path: Path) -> str:
    """Return the ID of an incomplete backup that lacks only its final name, else nothing."""
    try:
        manifest = tree.manifest_in(path)
    except PgtasksError:
        return ""
    whole = staging.name(manifest.id) == path.name and not files.unfit(path, manifest.files)
    return manifest.id if whole else ""
