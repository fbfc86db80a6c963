"""What one command costs: time, CPU of client and server, and the memory of its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtasks.errors import Failed
from pgtasks.host import orphans

Argv = Sequence[str | Path]
_BETWEEN_LOOKS = 0.01  # seconds between looks at a process's memory
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL, when the benchmark is interrupted
_REAPED = 0.2  # seconds after which the postmaster has counted its dead children
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One run of one contender, in seconds and bytes.

    `client` is CPU of the command and of all processes that it started, `server` that of the
    whole trees of the postmasters, `others` what was used on this machine by anybody else. `peak`
    is the resident memory of the command's own process (of the first, where there are several).
    `lines` are those of stderr, each with its time since the start; `steps` are the boundaries that
    `bench.stepped` noted, with theirs.
    """

    seconds: float
    client: float = 0.0
    server: float = 0.0
    others: float = 0.0
    peak: int = 0
    size: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    output: str = ""
    lines: Sequence[tuple[float, str]] = ()
    began: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "seconds": round(self.seconds, 4),
            "client_cpu": round(self.client, 2),
            "server_cpu": round(self.server, 2),
            "others_cpu": round(self.others, 2),
            "peak_bytes": self.peak,
            **({"size_bytes": self.size} if self.size else {}),
            **{key: round(value, 4) for key, value in self.extra.items()},
        }


def run(
    *argvs: Argv,
    cwd: Path,
    env: Mapping[str, str],
    postmasters: Sequence[int] = (),
    passed: Sequence[int] = (),
) -> Sample:
    """Run commands one after another and return what they cost together, raising Failed."""
    busy, server = _busy(), sum(map(_tree_cpu, postmasters))
    began = time.monotonic()
    done = [_one(argv, cwd, env, began, passed) for argv in argvs]
    seconds = time.monotonic() - began
    busy = _busy() - busy
    client = sum(one.cpu for one in done)
    if postmasters:
        time.sleep(_REAPED)
    used = sum(map(_tree_cpu, postmasters)) - server
    return Sample(
        seconds=seconds,
        client=client,
        server=used,
        others=max(busy - client - used, 0.0),
        peak=done[0].peak,
        output="".join(one.output for one in done),
        lines=[line for one in done for line in one.lines],
        began=began,
    )


@dataclass(frozen=True)
class _Done:
    cpu: float
    peak: int
    output: str
    lines: Sequence[tuple[float, str]]


def _one(
    argv: Argv, cwd: Path, env: Mapping[str, str], began: float, passed: Sequence[int]
) -> _Done:
    process = subprocess.Popen(
        [str(word) for word in argv],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=passed,
    )
    orphans.watch(process.pid, signal.SIGTERM)
    output, lines, peak = _Text(process.stdout), _Text(process.stderr, began), _Peak(process.pid)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        _end(process)
        raise
    orphans.forget(process.pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    for thread in (output, lines, peak):
        thread.join()
    if process.returncode:
        words = output.text() + lines.text()
        raise Failed(
            f"{Path(argv[0]).name} {' '.join(map(str, argv[1:]))}: exit code {process.returncode}",
            hint=words[-2000:],
        )
    return _Done(usage.ru_utime + usage.ru_stime, peak.peak, output.text(), lines.lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command in order, then by force: it may have to clean up behind itself."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Text(threading.Thread):
    """Read a pipe to its end, noting when each line came."""

    def __init__(self, pipe: Any, began: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._pipe, self._began = pipe, began
        self.lines: list[tuple[float, str]] = []
        self.start()

    def run(self) -> None:
        with self._pipe:
            for raw in self._pipe:
                self.lines.append((time.monotonic() - self._began, raw.decode(errors="replace")))

    def text(self) -> str:
        return "".join(line for _, line in self.lines)


class _Peak(threading.Thread):
    """Watch the high-water mark of one process's resident memory, without its children.

    rusage would count the children too: wait4 gives the largest of the whole tree.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self.peak = 0
        self.start()

    def run(self) -> None:
        while found := self._high_water():
            self.peak = max(self.peak, found)
            time.sleep(_BETWEEN_LOOKS)

    def _high_water(self) -> int:
        try:
            text = self._status.read_text()
        except OSError:
            return 0
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0  # a process that has ended keeps its status, without memory


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _tree_cpu(postmaster: int) -> float:
    """Return the CPU seconds of a postmaster, of its reaped children, and of those that live."""
    own = _stat(postmaster)
    if not own:
        return 0.0
    ticks = sum(int(own[place]) for place in (11, 12, 13, 14))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            child = _stat(entry.name)
            if child and int(child[1]) == postmaster:
                ticks += int(child[11]) + int(child[12])
    return ticks / _TICK


def _busy() -> float:
    """Return the CPU seconds that all processes of this machine have used; 0 where unknown."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq = map(int, first.split()[1:8])
    return (user + nice + system + irq + softirq) / _TICK


def tree_size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)
