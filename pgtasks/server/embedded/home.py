"""A folder for data outside the project, if the server's account cannot enter the project.

That is so for root below a folder of mode 0700, such as /root: instead of opening that folder,
data and binaries go to /var/lib/pgtasks/ID, and PROJECT/.pgtasks points there. Each home names the
`.pgtasks` folder it belongs to, by path and by identity (device and inode), so that a renamed
project keeps its home and a copied one gets another.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import Failed, NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.server.embedded import filelock
from pgtasks.server.embedded.account import Account

PLACES = (Path("/var/lib/pgtasks"), Path("/var/tmp/pgtasks"))  # nosec B108
_OWNER = "owner.json"


@dataclass(frozen=True)
class _Owner:
    state: str  # path of the .pgtasks folder
    device: int
    inode: int

    def is_at(self, state: Path) -> bool:
        try:
            status = state.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    def lives_elsewhere(self, state: Path) -> bool:
        its_state = Path(self.state)
        return not self.is_at(state) and its_state != state and self.is_at(its_state)


def claim(state: Path, account: Account) -> Path:
    """Create a home for a `.pgtasks` folder, which the account can enter."""
    for _ in range(10):  # removing another project's last home may remove the base too
        home = _base(account) / secrets.token_hex(6)
        try:
            home.mkdir(mode=0o700)
        except FileNotFoundError:
            continue
        home.chmod(0o755)
        _write(home, state)
        return home
    raise Failed(f"cannot create a folder for data in {str(PLACES[0])!r}")


def mine(home: Path, state: Path) -> bool:
    """Return whether the home that a `.pgtasks` folder names belongs to it.

    The home of a project that was moved is adopted. A copy of a project that still exists must not
    share its home.
    """
    owner = _read(home)
    if owner is None or owner.lives_elsewhere(state):
        return False
    if owner.is_at(state) and owner.state == str(state):
        return True
    # moved by a rename or to another file system; without write access nothing needs to be recorded
    return not os.access(home, os.W_OK) or _adopt(home, state)


def _adopt(home: Path, state: Path) -> bool:
    with filelock.held(home / "owner.lock", seconds=10):
        owner = _read(home)
        if owner is None or owner.lives_elsewhere(state):
            return False
        _write(home, state)
    return True


def remove(home: Path) -> None:
    """Delete a home, and with the last one the folder of all homes."""
    shutil.rmtree(home)
    try:
        home.parent.rmdir()
    except OSError:
        pass


def _base(account: Account) -> Path:
    for base in PLACES:
        try:
            base.mkdir(mode=0o700)
            base.chmod(0o755)
        except FileExistsError:
            pass
        except OSError:
            continue
        if _is_safe(base) and account.reaches(base):
            return base
    tried = " nor ".join(repr(str(base)) for base in PLACES)
    raise Failed(
        f"account {account.name!r} can enter neither the project nor {tried}: "
        "move the project, or run as an ordinary user"
    )


def _is_safe(base: Path) -> bool:
    """Return whether a folder is not a link, and only this account can write to it."""
    status = base.lstat()
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return stat.S_ISDIR(status.st_mode) and ours


def _read(home: Path) -> _Owner | None:
    try:
        return decoding.decode_own((home / _OWNER).read_bytes(), _Owner, _OWNER)
    except (OSError, NotProven):
        return None


def _write(home: Path, state: Path) -> None:
    status = state.stat()
    owner = {"state": str(state), "device": status.st_dev, "inode": status.st_ino}
    plainfile.replace(home, _OWNER, f"{json.dumps(owner)}\n".encode(), mode=0o644)
