"""Data folders that are copied from one that initdb has made, which takes a tenth of its CPU time.

A run of the tests makes hundreds of servers. Each still has a system identifier of its own, as
after initdb: it stands in the control file, under a checksum, and on the first page of the WAL.

`copied` is for the servers that fixtures make, `copy_always` for the process that forks. What tests
of server/ call themselves runs initdb.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paths import TEMPORARY

from pgtasks.server.embedded import datadir, temporary
from pgtasks.server.embedded.account import Account

_PLACE = "INITDB_COPIES"  # the variable that names the folder of a run
_PREFIX = "pgtasks-initdb-"
_IN_WAL = 24  # bytes of a page's header before the identifier
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


class Copies:
    """A plugin of the process that begins a run: it makes and removes the folder of the copies."""

    def __init__(self) -> None:
        for left in TEMPORARY.glob(f"{_PREFIX}*-*"):  # of runs that were killed
            pid = left.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=TEMPORARY))
        os.environ[_PLACE] = str(self.folder)

    def pytest_unconfigure(self) -> None:
        """Remove the folder: the workers and what they started have ended."""
        os.environ.pop(_PLACE, None)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def copied() -> Iterator[None]:
    """Copy what initdb would make during the block, where it is known."""
    run = temporary._run
    temporary._run = _instead(run)
    try:
        yield
    finally:
        temporary._run = run


def copy_always() -> None:
    """Copy what initdb would make, in this process and its forks."""
    for module in (temporary, datadir):
        module._run = _instead(module._run)  # type: ignore[attr-defined]


def _instead(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function in place of the one that runs initdb."""
    place = os.environ.get(_PLACE, "")

    def instead(argv: list[str], folder: Path, account: Account, **more: Any) -> Any:
        data = _data(argv)
        if data is None or not place or not Path(place).is_dir():
            return run(argv, folder, account, **more)
        known = Path(place, _key(argv, account))
        if known.is_dir():
            _copy(known, data)
            _identify(data)
            return "" if run.__module__ == datadir.__name__ else None
        result = run(argv, folder, account, **more)
        if (data / "PG_VERSION").exists():
            _keep(data, known)
        return result

    return instead


def _data(argv: Sequence[str]) -> Path | None:
    """Return the data folder that a command makes, None for one with a password or another one."""
    if Path(argv[0]).name != "initdb" or any(word.startswith("--pwfile") for word in argv):
        return None
    given = [word.removeprefix("--pgdata=") for word in argv if word.startswith("--pgdata=")]
    return Path(given[0] if given else argv[argv.index("-D") + 1])


def _key(argv: Sequence[str], account: Account) -> str:
    data = str(_data(argv))
    words = [word.replace(data, "") for word in argv]
    made = Path(argv[0]).stat()
    facts = [words, made.st_ino, made.st_mtime_ns, account.uid, account.gid]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _copy(source: Path, target: Path) -> None:
    words = ["cp", "--archive", "--sparse=always", f"{source}/.", target]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def _keep(data: Path, known: Path) -> None:
    """Keep a copy, complete from its first moment; another process may be first."""
    making = known.with_name(f"{known.name}.{os.getpid()}")
    making.mkdir()
    _copy(data, making)
    with suppress(OSError):
        making.rename(known)
    shutil.rmtree(making, ignore_errors=True)


def _identify(data: Path) -> None:
    """Give a data folder a system identifier of its own: the second, and what is not to be known.

    Both files are those of a server that was shut down in order.
    """
    new = struct.pack("=Q", int(time.time()) << 32 | secrets.randbits(32))
    control = data / "global" / "pg_control"
    held = control.read_bytes()
    with (data / "pg_wal" / "000000010000000000000001").open("r+b") as wal:
        wal.seek(_IN_WAL)
        assert wal.read(8) == held[:8], "the first page of the WAL is another"
        wal.seek(_IN_WAL)
        wal.write(new)
    end = _end(held)
    facts = new + held[8:end]
    control.write_bytes(facts + struct.pack("=I", list(_checksums(facts))[-1]) + held[end + 4 :])


def _end(control: bytes) -> int:
    """Return where the facts of a control file end: their checksum follows."""
    for end, checksum in enumerate(_checksums(control[:1024]), 1):
        if end % 4 == 0 and control[end : end + 4] == struct.pack("=I", checksum):
            return end
    raise AssertionError("no checksum in the control file")


def _checksums(data: bytes) -> Iterator[int]:
    """Yield the CRC-32C of the first byte, of the first two, and so on."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        yield register ^ 0xFFFFFFFF
