"""Dropped backups on this machine: move them into the trash of their database, back, and out."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pgtasks.backup.store import trash
from pgtasks.backup.store.trash import Trashed
from pgtasks.errors import Failed, Locked, Refused
from pgtasks.host import private
from pgtasks.report.boundaries import boundary


def below(base: Path) -> list[Trashed]:
    """Return the dropped backups of all databases below a folder."""
    found = []
    for folder in sorted(base.glob(f"[!.]*/[!.]*/{trash.FOLDER}")):
        if not folder.is_symlink():
            home = folder.relative_to(base).parts[:2]
            inside = sorted(folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) else []
            found += [trash.found(home, path.name, str(path)) for path in inside]
    return [each for each in found if each is not None]


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of a database's trash, which the system releases when the run ends.

    Raises Locked if another run holds it. Without a folder of the database there is no lock,
    because nothing in it can be dropped.
    """
    if not home.is_dir():
        yield
        return
    try:
        handle = private.opened(_folder(home) / trash.LOCK, os.O_RDWR)
    except OSError as exc:
        raise Failed(f"cannot write below {str(home)!r}: {exc.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Locked(f"another run keeps or drops backups in {str(home)!r}") from None
    finally:
        os.close(handle)


def _folder(home: Path) -> Path:
    """Return the trash of a database, made if it is not there; raises Refused for a link."""
    folder = home / trash.FOLDER
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused(f"{str(folder)!r} is not a folder, which the trash must be: move it away")
    private.own(folder)
    private.folder(folder)
    return folder


def drop(paths: Sequence[Path], when: datetime) -> dict[str, str]:
    """Move backups of one database into its trash, durably; return the errors by name."""
    faults = {}
    folder = _folder(paths[0].parent)
    for path in paths:
        try:
            _rename(path, folder / trash.name(path.name, when))
        except OSError as exc:
            faults[path.name] = exc.strerror or str(exc)
        boundary("prune.dropping")
    private.sync(folder)
    private.sync(folder.parent)
    return faults


def bring_back(trashed: Trashed) -> None:
    """Move a backup from the trash to its place, raising Refused if that is taken."""
    path = Path(trashed.place)
    home = path.parent.parent / trashed.id
    try:
        _rename(path, home)
        private.sync(path.parent)
        private.sync(home.parent)
    except FileExistsError:
        raise Refused(
            f"there is a backup {trashed.id} in {str(home.parent)!r}, move it away first"
        ) from None
    except OSError as exc:
        raise Failed(f"cannot bring back {str(path)!r}: {exc.strerror}") from None


def _rename(path: Path, to: Path) -> None:
    """Rename a folder, raising FileExistsError if the name is taken."""
    if os.path.lexists(to):
        raise FileExistsError(None, "exists already", str(to))
    path.rename(to)  # onto an empty folder at most, of a run that began meanwhile


def remove(trashed: Trashed) -> None:
    """Remove a backup from the trash; raises OSError."""
    path = Path(trashed.place)
    if not trashed.removing:
        gone = path.with_name(trash.removing(trashed.name))
        _rename(path, gone)
        path = gone
    boundary("prune.removing")
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
