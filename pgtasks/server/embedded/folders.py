"""Where the embedded servers of a project keep their things: PROJECT/.pgtasks, or a far home too.

In .pgtasks: logs, the lock of start and stop, the record (server.json). In the home, which is
.pgtasks itself unless the server's account cannot enter it: data folders, one per major, each with
the lock that its server holds while any process of it lives, and copies of binaries.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgtasks.host import plainfile, private
from pgtasks.server.embedded import filelock
from pgtasks.server.embedded import home as far
from pgtasks.server.embedded.account import Account
from pgtasks.settings import project as projects

_RECORD = "server.json"
_LOCK = "server.lock"
_PATIENCE = 180.0  # seconds: another terminal may be in initdb, or in crash recovery


@dataclass(frozen=True)
class Place:
    """The folders of one project; `major` is the one that wins unless another is asked for."""

    state: Path
    home: Path
    major: int | None = None
    programs: tuple[tuple[int, str], ...] = ()  # major, folder of the binaries it last ran with

    def data(self, major: int) -> Path:
        """Return the data folder of a major, whether it exists or not."""
        return self.home / f"data-{major}"

    def run_lock(self, major: int) -> Path:
        """Return the file that a running server keeps locked."""
        return self.home / f"data-{major}.lock"

    def log(self, major: int) -> Path:
        """Return the file that a server writes its log to."""
        return self.state / f"server-{major}.log"

    def majors(self) -> list[int]:
        """Return the majors that have a data folder, the winning one first, then the newest."""
        names = [re.fullmatch(r"data-(\d+)", path.name) for path in _list(self.home)]
        found = sorted((int(name[1]) for name in names if name), reverse=True)
        return sorted(found, key=lambda major: major != self.major)

    def bin(self, major: int) -> Path:
        """Return the folder of the binaries that a major last ran with, empty if it never did."""
        return Path(dict(self.programs).get(major, ""))


def _list(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def find(project: Path) -> Place | None:
    """Return the place of a project, or None where nothing was ever started."""
    state = projects.state(project.resolve())
    if not state.is_dir():
        return None
    record = _read(state)
    home = Path(str(record.get("home") or state))
    if home != state and not far.mine(home, state):
        home = state
    programs = record.get("programs") or {}
    return Place(
        state,
        home,
        major=record.get("major"),
        programs=tuple((int(major), str(folder)) for major, folder in programs.items()),
    )


def make(project: Path) -> Path:
    """Make the folder .pgtasks of a project, which git ignores, and return it."""
    state = projects.state(project.resolve())
    private.state(state)
    return state


@contextmanager
def changing(state: Path) -> Iterator[None]:
    """Keep other runs from starting, stopping or removing the servers of this place."""
    with filelock.held(state / _LOCK, seconds=_PATIENCE):
        yield


def settle(place: Place, account: Account) -> Place:
    """Return the place with a home that the account can enter; data moves there if need be.

    To be called while `changing`, and while no server runs.
    """
    if place.home != place.state or account.reaches(place.state):
        return place
    settled = replace(place, home=far.claim(place.state, account))
    for major in place.majors():
        _move(place.data(major), settled.data(major), account)
    write(settled)
    for major in place.majors():
        shutil.rmtree(place.data(major))
        place.run_lock(major).unlink(missing_ok=True)
    return settled


def _move(data: Path, to: Path, account: Account) -> None:
    # a copy, as the two may lie on different file systems; named at the end
    making = to.with_name(f"{to.name}.new-move")
    shutil.copytree(data, making, symlinks=True)
    account.take_tree(making)
    making.rename(to)


def write(place: Place) -> None:
    """Write the record of a place, whole or not at all."""
    record = {
        "home": None if place.home == place.state else str(place.home),
        "major": place.major,
        "programs": {str(major): folder for major, folder in place.programs},
    }
    text = json.dumps(record, indent=2) + "\n"
    plainfile.replace(place.state, _RECORD, text.encode(), mode=0o644)  # it alone knows a far home


def _read(state: Path) -> dict[str, Any]:
    try:
        record = json.loads((state / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never written, or damaged: nothing in it is needed
        return {}
    return record if isinstance(record, dict) else {}


def delete(place: Place) -> None:
    """Delete all that pgtasks made here for servers; what else lies in .pgtasks stays."""
    for pattern in ("data-*", "postgresql-*"):
        for path in place.home.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if place.home != place.state:
        far.remove(place.home)
    for path in (*place.state.glob("server-*.log*"), place.state / _RECORD, place.state / _LOCK):
        path.unlink(missing_ok=True)
    if [path.name for path in place.state.iterdir()] == [".gitignore"]:
        (place.state / ".gitignore").unlink()
        place.state.rmdir()
