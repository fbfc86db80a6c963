"""The temporary folder of an incomplete backup.

Its run holds a lock (flock) on a file in the folder, which the system releases when the run ends,
however it ends. So a folder whose lock is free is removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgtasks.errors import Failed, Locked
from pgtasks.host import journal, private

_LOCK = ".lock"
_SUFFIX = ".partial"
_NEW = 60.0  # seconds in which a folder without a lock may belong to a run that begins or ends


def new_id() -> str:
    """Return an ID that sorts by time (UTC): 20250131T235959Z-1a2b."""
    return f"{journal.clock():%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def name(id: str) -> str:
    """Return the temporary name of a backup's folder."""
    return f".{id}{_SUFFIX}"


@contextmanager
def making(home: Path, id: str) -> Iterator[Path]:
    """Create the temporary folder of a backup for the length of a block.

    Inside the block, `finish` gives it its final name; otherwise it is removed. Raises Failed if
    nothing can be written, Locked if another run creates the same backup.
    """
    try:
        for folder in (home.parent, home):
            private.own(folder)
            private.folder(folder)
        path, handle = _locked(home / name(id))
    except FileExistsError:
        raise Locked(f"another run is creating backup {id} in {str(home)!r}") from None
    except OSError as exc:
        raise Failed(f"cannot write below {str(home)!r}: {exc.strerror}") from None
    try:
        yield path
    except OSError as exc:  # for example a full disk
        raise Failed(f"cannot write {str(exc.filename or path)!r}: {exc.strerror}") from None
    finally:
        _remove(path)
        os.close(handle)


def finish(path: Path, id: str) -> Path:
    """Give the folder its final name, durably, and return it.

    Its lock is removed after that, because a folder with a temporary name needs one.
    """
    final = path.parent / id
    private.sync(path)
    path.rename(final)
    private.sync(path.parent)
    (final / _LOCK).unlink(missing_ok=True)
    return final


def _locked(path: Path) -> tuple[Path, int]:
    """Create and lock the folder; repeat that if a sweep removed it in between."""
    while True:
        path.mkdir(mode=0o700)
        try:
            handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if (path / _LOCK).stat().st_ino == os.fstat(handle).st_ino:
                return path, handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _remove(path: Path) -> None:
    """Remove a folder; repeat that if a child process still wrote into it."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary folders below `folder` whose run is dead."""
    return [path for path in _partials(folder) if _dead(path)]


def discard(path: Path) -> bool:
    """Remove the folder of an interrupted backup, if it still exists and no run holds it."""
    with _held(path) as ours:
        if ours:
            _remove(path)
    return ours


def settle(path: Path, id: str) -> bool:
    """Complete a backup whose run has died, if no run holds it and its name is free."""
    with _held(path) as ours:
        if not ours or (path.parent / id).exists():
            return False
        try:
            finish(path, id)
        except OSError:  # for example a folder of another account
            return False
        return True


def _partials(folder: Path) -> list[Path]:
    folders = folder.glob(f"[!.]*/[!.]*/.*{_SUFFIX}")
    return sorted(path for path in folders if path.is_dir() and not path.is_symlink())


def _dead(path: Path) -> bool:
    with _held(path) as ours:
        return ours


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold the lock of a folder whose run has died; yields False for any other folder."""
    try:
        handle = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield path.exists() and (_finished_before(path) or _age(path) > _NEW)
        return
    except OSError:
        yield False  # of another user
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        os.close(handle)


def _finished_before(path: Path) -> bool:
    """Return whether a folder is complete but not renamed, by an earlier version of pgtasks."""
    return os.path.lexists(path / "manifest.json")


def _age(path: Path) -> float:
    """Return the seconds since a folder was changed, or until then if the clock went back."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
