"""Machines for the tests: namespaces of their own, so that each is as good as a real host.

A machine has its own address, file system, accounts, processes and name. The kernel ends it with
the process that holds it, and that one ends with the tests, however these end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import servers

PATIENCE = 30.0  # seconds for what the kernel does in milliseconds
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KINDS = ("mnt", "net", "uts", "ipc")
_NOWHERE = "02:00:00:00:00:99"  # nobody's address on a link: what is sent there vanishes

# The first process of a machine: makes its file system, says so, and stays. /usr and /etc are the
# real ones below a layer of the machine's own; nothing else of this machine is seen in it. With
# SIGCHLD ignored the kernel itself reaps what is orphaned there.
_BOOT = """
mount -t tmpfs -o mode=755 tmpfs "$ROOM/root"
cd "$ROOM/root"
mkdir -p usr etc proc dev/pts dev/shm run/sshd tmp home root var/lib var/log var/tmp srv opt mnt
mkdir -p .layer/usr/over .layer/usr/work .layer/etc/over .layer/etc/work .old
chmod 1777 tmp var/tmp
chmod 700 root .layer
ln -s /run var/run
ln -s /run/lock var/lock
for top in usr etc; do
  mount -t overlay -o "lowerdir=/$top,upperdir=.layer/$top/over,workdir=.layer/$top/work" \
    overlay $top
done
for top in bin sbin lib lib32 lib64 libx32; do
  if [ -L /$top ]; then cp -P /$top $top
  elif [ -d /$top ]; then mkdir $top; mount --bind /$top $top; fi
done
mount -t proc proc proc
for device in null zero full random urandom tty; do
  : >dev/$device
  mount --bind /dev/$device dev/$device
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
printf '%s' "$BINDS" | while IFS='=' read -r place source; do
  mkdir -p "./$place"
  mount --bind "$source" "./$place"
done
printf '%s\\n' "$NAME" >proc/sys/kernel/hostname
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
echo ready
trap '' CHLD
exec sleep infinity
"""


@dataclass(frozen=True)
class Process:
    """A process of a machine: `pid` counts there, `outside` is the same one seen from here."""

    pid: int
    outside: int
    parent: int  # its parent as seen from here
    user: str
    command: str


class Site:
    """What the machines of one test session share: a folder, a range of addresses."""

    def __init__(self) -> None:
        self._claim, self.number = _claimed()
        self.folder = _folder(self.number)
        self.folder.mkdir(mode=0o755)
        self.machines: list[Machine] = []
        self._links = 0

    def link(self) -> tuple[str, str]:
        """Return two addresses for the ends of a link, a network of their own."""
        self._links += 1
        first = self._links * 4
        return f"10.97.{self.number}.{first + 1}", f"10.97.{self.number}.{first + 2}"

    def close(self) -> None:
        """End all machines and remove what they left on disk."""
        for machine in reversed(self.machines):
            machine.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._claim.close()


def _folder(number: int) -> Path:
    return Path(f"/tmp/pgt-hosts-{number}")  # short: sockets lie in it


def _claimed() -> tuple[socket.socket, int]:
    """Take the first free range of addresses; sweep what killed sessions left on disk.

    The claim is a socket's name: it ends with the process that holds it, so a folder whose name
    nobody claims is a leftover.
    """
    found: tuple[socket.socket, int] | None = None
    for number in range(256):
        if (folder := _folder(number)).exists() or (found is None and _unused(number)):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0pgtasks-hosts-{number}")
            except OSError:
                claim.close()
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if found is None and _unused(number) and not folder.exists():
                found = claim, number
            else:
                claim.close()
    assert found is not None, "no range of addresses below 10.97.0.0/16 is free"
    until(lambda: not _left_links(found[1]), "links of a killed session did not vanish")
    return found


def _unused(number: int) -> bool:
    """Return whether no network of this machine's own has these addresses."""
    shown = _here("ip", "-4", "route", "show", "to", "match", f"10.97.{number}.1")
    return all(line.startswith("default") for line in shown.splitlines()) and "10.97." not in shown


def _left_links(number: int) -> list[Path]:
    return list(Path("/sys/class/net").glob(f"pgt{number}-*"))


def _here(*argv: str, input: str | None = None) -> str:
    done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], object], otherwise: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def missing() -> str:
    """Return why machines cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "namespaces need root"
    for program in ("unshare", "nsenter", "ip", "setpriv", "pivot_root"):
        if shutil.which(program, path=_PATH) is None:
            return f"{program} is not installed"
    # a machine in small: what fails here would fail there
    text = """
    mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir over work all && mount -t proc proc all &&
    mount -t overlay -o lowerdir=/usr,upperdir=over,workdir=work overlay all &&
    ip link add probe0 type veth peer name probe1
    """
    argv = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "sh", "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode == 0:
        return ""
    return f"namespaces cannot be made: {' '.join(done.stderr.split()) or done.returncode}"


@dataclass
class Link:
    """A cable between this machine (or another one) and a machine."""

    near: tuple[Machine | None, str, str]  # where, device, address
    far: tuple[Machine | None, str, str]

    def cut(self) -> None:
        """Let all packets vanish, both ways: no end is told, nothing is closed."""
        for (machine, device, _), (_, _, other) in (self._ends(), reversed(self._ends())):
            _ip(machine, f"neigh replace {other} lladdr {_NOWHERE} dev {device} nud permanent")

    def restore(self) -> None:
        """Let packets through again."""
        for (machine, device, _), (_, _, other) in (self._ends(), reversed(self._ends())):
            _ip(machine, f"neigh del {other} dev {device}", force=True)

    def _ends(self) -> tuple[tuple[Machine | None, str, str], ...]:
        return self.near, self.far


def _ip(machine: Machine | None, *lines: str, force: bool = False) -> None:
    argv = ["ip", *(["-force"] if force else []), "-batch", "-"]
    if machine:
        argv = ["nsenter", f"--net=/proc/{machine.holder.pid}/ns/net", "--", *argv]
    done = subprocess.run(argv, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0 or force, f"{lines}: {done.stderr}"


@dataclass
class Machine:
    """A running machine; `holder` is the process that everything in it ends with."""

    site: Site
    name: str
    folder: Path
    holder: subprocess.Popen[bytes]
    address: str = ""
    links: list[Link] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def booted(cls, site: Site, name: str, binds: dict[Path, str]) -> Machine:
        """Return a machine without a link; `binds` are folders of this machine and places there."""
        folder = site.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "root").mkdir()
        pairs = "".join(f"{place}={source}\n" for source, place in binds.items())
        kinds = ["--mount", "--net", "--pid", "--uts", "--ipc"]
        with (folder / "boot.log").open("wb") as log:
            holder = subprocess.Popen(
                ["unshare", *kinds, "--fork", "--kill-child", "sh", "-euc", _BOOT],
                cwd="/",
                env={"PATH": _PATH, "ROOM": str(folder), "NAME": name, "BINDS": pairs},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=servers.end_with_parent(signal.SIGKILL),
            )
        machine = cls(site, name, folder, holder)
        site.machines.append(machine)
        return machine

    def wait(self) -> None:
        """Wait until the machine has its file system."""
        assert self.holder.stdout is not None
        said = self.holder.stdout.readline()
        assert said == b"ready\n", (self.folder / "boot.log").read_text()
        _ip(self, "link set lo up")

    def connect(self, to: Machine | None = None) -> None:
        """Lay a link to another machine, or to this one."""
        near, far = self.site.link()
        number = len(self.site.machines)
        ends = (f"pgt{self.site.number}-{number}", "eth0")
        if to:
            ends = (f"eth{len(to.links)}", f"eth{len(self.links)}")
        _ip(
            to,
            # the far end is made where it belongs: names there cannot collide with names here
            f"link add {ends[0]} type veth peer name {ends[1]} netns {self.holder.pid}",
            f"addr add {near}/30 dev {ends[0]}",
            f"link set {ends[0]} up",
        )
        _ip(self, f"addr add {far}/30 dev {ends[1]}", f"link set {ends[1]} up")
        link = Link((to, ends[0], near), (self, ends[1], far))
        self.links.append(link)
        if to:
            to.links.append(link)
        self.address = self.address or far

    def inside(self, *argv: str | Path, user: str = "root") -> list[str]:
        """Return the command line that runs a command on the machine."""
        ns = f"/proc/{self.holder.pid}/ns"
        kinds = [f"--{'mount' if kind == 'mnt' else kind}={ns}/{kind}" for kind in _KINDS]
        become = [f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env"]
        words = [str(word) for word in argv]
        return [
            *("nsenter", *kinds, f"--pid={ns}/pid_for_children", "--"),
            *("setpriv", *become, "--", *words),
        ]

    def run(
        self, *argv: str | Path, user: str = "root", input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine to its end."""
        return subprocess.run(
            self.inside(*argv, user=user),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            check=False,
        )

    def do(self, *argv: str | Path, user: str = "root", input: str | None = None) -> str:
        """Run a command that must succeed and return its output."""
        done = self.run(*argv, user=user, input=input)
        assert done.returncode == 0, f"{self.name}: {argv}: {done.stderr or done.stdout}"
        return done.stdout

    def start(self, *argv: str | Path, log: Path, user: str = "root") -> subprocess.Popen[bytes]:
        """Start a command that stays; it ends with the machine at the latest."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.inside(*argv, user=user),
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def path(self, path: str | Path) -> Path:
        """Return the path by which this machine sees a file of that one (symlinks aside)."""
        return Path(f"/proc/{self.holder.pid}/root") / str(path).lstrip("/")

    def accounts(self) -> dict[int, str]:
        """Return the names of the machine's accounts by number."""
        lines = self.path("/etc/passwd").read_text("utf-8").splitlines()
        return {int(fields[2]): fields[0] for fields in (line.split(":") for line in lines)}

    def everything(self) -> list[Process]:
        """Return all processes of the machine but its first one."""
        names, found = self.accounts(), self._all()
        return [replace(each, user=names.get(int(each.user), each.user)) for each in found[1:]]

    def _all(self) -> list[Process]:
        space = Path(f"/proc/{self.holder.pid}/ns/pid_for_children").readlink()
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = (_process(number, space) for number in numbers)
        return sorted((each for each in found if each), key=lambda each: each.pid)

    def end(self) -> None:
        """End the machine with all that runs on it."""
        if self.holder.poll() is None:
            for first in self._all()[:1]:
                os.kill(first.outside, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.holder.wait(PATIENCE)  # ends after the last process of the machine
            self.holder.kill()
        self.holder.wait(PATIENCE)
        assert self.holder.stdout is not None
        self.holder.stdout.close()
        for process in self._started:
            process.wait(PATIENCE)


def _process(outside: int, space: Path) -> Process | None:
    """Return a process where it is one of that namespace and runs."""
    proc = Path(f"/proc/{outside}")
    try:
        if (proc / "ns/pid").readlink() != space:
            return None
        status = (proc / "status").read_text("utf-8", "surrogateescape")
        command = (proc / "cmdline").read_bytes()
    except OSError:
        return None  # it ended meanwhile
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields["State"].startswith(("Z", "X")):
        return None  # it ended; its parent has not heard yet
    words = command.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    inner = int(fields["NSpid"].split()[-1])
    return Process(inner, outside, int(fields["PPid"]), fields["Uid"].split()[0], words)
