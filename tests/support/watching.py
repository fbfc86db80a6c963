"""A run whose processes are all looked at for a secret."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import prefork
from waiting import PATIENCE

INV = Path(sys.executable).parent / "inv"


TOKEN = "S3cr3tT0ken"  # survives every way of escaping what stands around it


SECRET = f"{TOKEN}:@/%'\\ \"ü{TOKEN}"


@dataclass
class Watched:
    """What a run said, and the argv and variables of all processes that it started."""

    code: int
    said: str
    started: dict[tuple[int, bytes], tuple[bytes, bytes]] = field(default_factory=dict)

    def leaks(self) -> list[str]:
        """Return where the token is."""
        found = ["output"] if TOKEN in self.said else []
        for argv, environ in self.started.values():
            if TOKEN.encode() in argv:
                found.append(f"argv of {argv!r}")
            if TOKEN.encode() in environ:
                found.append(f"variables of {argv!r}")
        return found

    def programs(self) -> set[str]:
        """Return the names of the programs that were seen."""
        return {Path(os.fsdecode(argv.split(b"\0")[0])).name for argv, _ in self.started.values()}


def watched(argv: list[str], cwd: Path, env: dict[str, str], text: str = "") -> Watched:
    """Run a command while all processes below it are looked at, as fast as that goes."""
    process = prefork.start(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen: dict[tuple[int, bytes], tuple[bytes, bytes]] = {}
    sampler = threading.Thread(target=_sample, args=(process, seen))
    sampler.start()
    said = process.communicate(text, timeout=PATIENCE)[0]
    sampler.join()
    return Watched(process.returncode, said, seen)


def _sample(
    process: subprocess.Popen[str], seen: dict[tuple[int, bytes], tuple[bytes, bytes]]
) -> None:
    own = _read(process.pid, "cmdline")
    while process.returncode is None:
        own = _read(process.pid, "cmdline") or own
        for pid in _below(process.pid):
            argv = _read(pid, "cmdline")
            # between fork and exec a child shows what its parent has
            if argv and argv != own:
                seen[pid, argv] = argv, _read(pid, "environ")
        seen[process.pid, own] = own, b""  # its variables are where the user put them
        time.sleep(0.002)  # between two looks: the runs need the processor too


def _below(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _below(child)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
