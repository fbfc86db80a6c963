"""Read facts about a database host with one command, because each command costs time over SSH."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pgtasks import report
from pgtasks.host import disk
from pgtasks.host.base import Command
from pgtasks.host.disk import Disk
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.tools import Toolset

# programs that a task may need, beside the PostgreSQL tools
_PROGRAMS = ("tar", "sha256sum", "shasum", "setsid", "sudo", "socat", "python3", "perl", "nc")

# $1: the backups folder, relative to the home folder; then folders whose disks are checked
_ASK = """\
say() {{ printf '%s\\t%s\\n' "$1" "$2"; }}
disk() {{ say "disk $1" "$(df -Pk -- "$1" 2>/dev/null | tail -n 1)"; }}
say clock "$(date +%s.%N)"
say hostname "$(uname -n)"
say system "$(uname -srm)"
say distribution "$( (. /etc/os-release && printf %s "$PRETTY_NAME") 2>/dev/null)"
say account "$(id -un)"
say shell "$SHELL"
say home "$HOME"
[ -w "$HOME" ] && say home_writable yes
say cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
say memory "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo 2>/dev/null)"
for p in {programs}; do f=$(command -v "$p") && say "program $p" "$f"; done
case $1 in (/*) base=$1;; ('~'/*) base=$HOME/${{1#??}};; (*) base=$HOME/$1;; esac
say backups "$base"
[ -e "$base" ] && say backups_rights "$(ls -ld -- "$base" | awk '{{ print $1, $3 }}')"
near=$base
until [ -e "$near" ]; do near=${{near%/*}}; near=${{near:-/}}; done
[ -d "$near" ] && [ -w "$near" ] && [ -x "$near" ] && say backups_writable yes
shift
for d in "$near" "${{TMPDIR:-/tmp}}" "$@"; do disk "$d"; done
:
""".format(programs=" ".join(_PROGRAMS))


@dataclass(frozen=True)
class Folder:
    """A folder that may not exist yet; `writable` if it, or else its parent, can be written to."""

    path: str
    exists: bool
    rights: str
    writable: bool


@dataclass(frozen=True)
class HostFacts:
    """Facts about a host. `clock` is the number of seconds that its clock is ahead, if known.

    `doubt` is the uncertainty of `clock`, the time that the answer took.
    """

    hostname: str
    system: str
    distribution: str
    account: str
    shell: str
    home: str
    home_writable: bool
    cpus: int
    memory: int  # bytes, 0 if unknown
    clock: float | None
    doubt: float
    backups: Folder
    disks: tuple[Disk, ...]
    programs: dict[str, str]
    tools: tuple[Toolset, ...] = field(default=())

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [report.table(("fact", "value"), self._rows(), runs_on=True)]

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield from (("hostname", self.hostname), ("system", self.system))
        yield "distribution", self.distribution or "-"
        yield "CPUs", str(self.cpus or "-")
        yield "memory", report.size(self.memory) if self.memory else "-"
        yield "account", self.account
        yield "login shell", self.shell
        yield "home", self.home if self.home_writable else f"{self.home} (not writable)"
        yield "clock", described_clock(self)
        yield "backups folder", described_folder(self.backups)
        for each in self.disks:
            yield f"disk of {each.folder}", described_disk(each)
        for tools in self.tools:
            yield "PostgreSQL tools", f"{tools}, compression: {', '.join(_compressions(tools))}"
        yield "programs", ", ".join(self.programs.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        tools = [
            {
                "version": f"{each.version[0]}.{each.version[1]}",
                "folder": each.folder,
                "compressions": _compressions(each),
            }
            for each in self.tools
        ]
        return {**asdict(self), "tools": tools}


def _compressions(tools: Toolset) -> list[str]:
    return sorted(tools.compressions - {"none"})


def described_clock(facts: HostFacts) -> str:
    """Return the difference of the clocks and its uncertainty."""
    if facts.clock is None:
        return "not known"
    if abs(facts.clock) <= facts.doubt:
        return f"as ours, within {max(facts.doubt, 0.1):.1f} s"
    way = "before" if facts.clock > 0 else "behind"
    return f"{abs(facts.clock):.1f} s {way} ours"


def described_folder(folder: Folder) -> str:
    """Return the path, mode and owner of a folder, and whether it can be written to."""
    if not folder.exists:
        return (
            f"{folder.path} (to be made{'' if folder.writable else ', which this account may not'})"
        )
    return f"{folder.path} ({folder.rights}{'' if folder.writable else ', not writable'})"


def described_disk(disk: Disk) -> str:
    """Return the free space of a disk."""
    return f"{report.size(disk.free)} free of {report.size(disk.size)} on {disk.mount}"


def ask(host: SshHost, backups: str, *folders: str) -> HostFacts:
    """Read the facts of a host; `folders` are more folders whose disks are checked."""
    from pgtasks.host import tools

    began = time.time()
    argv = ("/bin/sh", "-c", _ASK, "sh", backups, *(folder for folder in folders if folder))
    text = host.capture(Command(argv, {"LC_ALL": "C"}))
    facts = parsed(text, began, time.time())
    bin = host.link.login.bin
    return HostFacts(**{**vars(facts), "tools": tools.installed(host, setting=bin)})


def parsed(text: str, began: float, ended: float) -> HostFacts:
    """Parse the answer of a host, which was given between two times (seconds, our clock)."""
    pairs = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
    fields = dict(pairs)
    clock, doubt = _clock(fields.get("clock", ""), began, ended)
    return HostFacts(
        hostname=fields.get("hostname", ""),
        system=fields.get("system", ""),
        distribution=fields.get("distribution", ""),
        account=fields.get("account", ""),
        shell=fields.get("shell", ""),  # nosec B604
        home=fields.get("home", ""),
        home_writable="home_writable" in fields,
        cpus=_number(fields.get("cpus", "")),
        memory=_number(fields.get("memory", "")) * 1024,
        clock=clock,
        doubt=doubt,
        backups=Folder(
            fields.get("backups", ""),
            exists="backups_rights" in fields,
            rights=fields.get("backups_rights", ""),
            writable="backups_writable" in fields,
        ),
        disks=tuple(_disks(pairs)),
        programs={
            key.removeprefix("program "): path for key, path in pairs if key.startswith("program ")
        },
    )


def _clock(text: str, began: float, ended: float) -> tuple[float | None, float]:
    """Return how far a clock is ahead, and the uncertainty, larger for whole seconds."""
    seconds, _, fraction = text.partition(".")
    if not seconds.isdecimal():
        return None, 0.0
    whole = not fraction.isdecimal()  # a date(1) without %N
    their_time = float(seconds) + (0.5 if whole else float(f"0.{fraction}"))
    doubt = (ended - began) / 2 + (0.5 if whole else 0.0)
    return round(their_time - (began + ended) / 2, 2), round(doubt, 2)


def _disks(pairs: list[list[str]]) -> Iterator[Disk]:
    for key, value in pairs:
        if key.startswith("disk ") and (
            parsed_disk := disk.parse(key.removeprefix("disk "), value)
        ):
            yield parsed_disk


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text.strip()) else 0
