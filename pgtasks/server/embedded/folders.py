"""The folders of the embedded servers of a project: PROJECT/.pgtasks, and its home.

PROJECT/.pgtasks has the logs, the lock for starting and stopping, and the record (server.json). The
home is the same folder, unless the server's account cannot enter it. It has a data folder for each
major version, with a lock that its server holds while any of its processes runs, and copies of
binaries.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile, private
from pgtasks.server.embedded import filelock
from pgtasks.server.embedded import home as homes
from pgtasks.server.embedded.account import Account
from pgtasks.settings import project as projects

_RECORD = "server.json"
_LOCK = "server.lock"
_PATIENCE = 180.0  # seconds: another terminal may run initdb, or crash recovery


@dataclass(frozen=True)
class _Record:
    """The content of server.json; `home` is None if it is .pgtasks itself."""

    home: str | None = None
    major: int | None = None
    programs: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Folders:
    """The folders of one project; `major` is the default major version."""

    state: Path
    home: Path
    major: int | None = None
    programs: tuple[tuple[int, str], ...] = ()  # major, folder of the binaries it last ran with

    def data(self, major: int) -> Path:
        """Return the data folder of a major version; it may not exist."""
        return self.home / f"data-{major}"

    def run_lock(self, major: int) -> Path:
        """Return the file that a running server keeps locked."""
        return self.home / f"data-{major}.lock"

    def log(self, major: int) -> Path:
        """Return the file that a server writes its log to."""
        return self.state / f"server-{major}.log"

    def majors(self) -> list[int]:
        """Return the majors with a data folder, the default one first, then the newest."""
        names = [re.fullmatch(r"data-(\d+)", path.name) for path in _list(self.home)]
        majors = sorted((int(name[1]) for name in names if name), reverse=True)
        return sorted(majors, key=lambda major: major != self.major)

    def bin(self, major: int) -> Path:
        """Return the folder of the binaries that a major last ran with, empty if it never did."""
        return Path(dict(self.programs).get(major, ""))


def _list(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def find(project: Path) -> Folders | None:
    """Return the folders of a project, None if no server was ever started."""
    state = projects.state(project.resolve())
    if not state.is_dir():
        return None
    record = _read(state)
    home = Path(record.home or state)
    if home != state and not homes.mine(home, state):
        home = state
    return Folders(state, home, record.major, programs=tuple(record.programs.items()))


def make(project: Path) -> Path:
    """Create the folder .pgtasks of a project, which git ignores, and return it."""
    state = projects.state(project.resolve())
    private.state(state)
    return state


@contextmanager
def changing(state: Path) -> Iterator[None]:
    """Keep other runs from starting, stopping or removing the servers of this project."""
    with filelock.held(state / _LOCK, seconds=_PATIENCE):
        yield


def settle(folders: Folders, account: Account) -> Folders:
    """Return the folders with a home that the account can enter, moving the data if needed.

    Call it inside `changing`, while no server runs.
    """
    if folders.home != folders.state or account.reaches(folders.state):
        return folders
    settled = replace(folders, home=homes.claim(folders.state, account))
    for major in folders.majors():
        _move(folders.data(major), settled.data(major), account)
    write(settled)
    for major in folders.majors():
        shutil.rmtree(folders.data(major))
        folders.run_lock(major).unlink(missing_ok=True)
    return settled


def _move(data: Path, to: Path, account: Account) -> None:
    # a copy, because they may be on different file systems; it gets its final name at the end
    making = to.with_name(f"{to.name}.new-move")
    shutil.copytree(data, making, symlinks=True)
    account.take_tree(making)
    making.rename(to)


def write(folders: Folders) -> None:
    """Write the record of the folders atomically."""
    home = None if folders.home == folders.state else str(folders.home)
    record = _Record(home, folders.major, dict(folders.programs))
    text = json.dumps(asdict(record), indent=2) + "\n"
    # nothing else names the home, so it is never incomplete
    plainfile.replace(folders.state, _RECORD, text.encode(), mode=0o644)


def _read(state: Path) -> _Record:
    try:
        return decoding.decode_own((state / _RECORD).read_bytes(), _Record, _RECORD)
    except (FileNotFoundError, NotProven):  # missing or damaged: nothing in it is indispensable
        return _Record()


def delete(folders: Folders) -> None:
    """Delete the files that pgtasks created for servers; other files in .pgtasks stay."""
    for pattern in ("data-*", "postgresql-*"):
        for path in folders.home.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if folders.home != folders.state:
        homes.remove(folders.home)
    for path in (
        *folders.state.glob("server-*.log*"),
        folders.state / _RECORD,
        folders.state / _LOCK,
    ):
        path.unlink(missing_ok=True)
    if [path.name for path in folders.state.iterdir()] == [".gitignore"]:
        (folders.state / ".gitignore").unlink()
        folders.state.rmdir()
