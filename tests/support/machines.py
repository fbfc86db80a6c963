"""Machines for the tests: namespaces of their own, so that each is as good as a real host.

A machine has its own address, file system, accounts, processes and name. The kernel ends it with
the process that holds it, and that one ends with the tests, however these end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from sites import Site
from waiting import PATIENCE

from pgtasks.host import orphans

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KINDS = ("mnt", "net", "uts", "ipc")
_NOWHERE = "02:00:00:00:00:99"  # nobody's address on a link: what is sent there vanishes

# The first process of a machine: makes its file system, says so, and stays. /usr and /etc are the
# real ones below a layer of the machine's own; of the rest of this machine nothing is seen in it.
# With SIGCHLD ignored the kernel itself reaps what is orphaned there.
_BOOT = """
mount -t tmpfs -o mode=755 tmpfs "$ROOM/root"
cd "$ROOM/root"
mkdir -p proc dev/pts dev/shm run/sshd tmp home root var/lib var/log var/tmp srv mnt .layer .old
chmod 1777 tmp var/tmp
chmod 700 root .layer
ln -s /run var/run
printf '%s' "$LAYERS" | while IFS='=' read -r place source; do
  own=".layer/$(echo "$place" | tr / -)"
  mkdir -p "./$place" "$own/over" "$own/work"
  mount -t overlay -o "lowerdir=$source,upperdir=$own/over,workdir=$own/work" overlay "./$place"
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
exec env --ignore-signal=CHLD sleep infinity
"""


@dataclass(frozen=True)
class Process:
    """A process of a machine: `pid` counts there, `outside` is the same one seen from here."""

    pid: int
    outside: int
    parent: int  # its parent as seen from here
    user: str
    command: str

    @classmethod
    def seen(cls, outside: int) -> Process | None:
        """Return a process of any machine by its number here, where it runs; user: its number."""
        proc = Path(f"/proc/{outside}")
        try:
            status = (proc / "status").read_text("utf-8", "surrogateescape")
            command = (proc / "cmdline").read_bytes()
        except OSError:
            return None  # it ended meanwhile
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields["State"].startswith(("Z", "X")):
            return None  # it ended; its parent has not heard yet
        inner, uid = fields["NSpid"].split()[-1], fields["Uid"].split()[0]
        words = command.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")
        return cls(int(inner), outside, int(fields["PPid"]), uid, words)


def _lines(places: dict[str, Path]) -> str:
    return "".join(f"{place}={source}\n" for place, source in places.items())


def missing() -> str:
    """Return why machines cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "namespaces need root"
    for program in ("unshare", "nsenter", "ip", "setpriv", "pivot_root"):
        if shutil.which(program, path=PATH) is None:
            return f"{program} is not installed"
    # a machine in small: what fails here would fail there
    text = """
    mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir over work all && mount -t proc proc all &&
    mount -t overlay -o lowerdir=/usr,upperdir=over,workdir=work overlay all &&
    ip link add probe0 type veth peer name probe1 && env --ignore-signal=CHLD true
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

    def remove(self) -> None:
        """Take the link away where it ends on this machine."""
        if not self.near[0]:
            _ip(None, f"link del {self.near[1]}", force=True)

    def slow(self, rate: str) -> str:
        """Let no more than that much through each way (tc: 8mbit); return why not, if so."""
        words = f"root tbf rate {rate} burst 64kb latency 500ms"
        done = [_tc(machine, "replace", device, words) for machine, device, _ in self._ends()]
        return " ".join(filter(None, done))

    def hasten(self) -> None:
        """Let as much through as there is again."""
        for machine, device, _ in self._ends():
            _tc(machine, "del", device, "root")

    def _ends(self) -> tuple[tuple[Machine | None, str, str], ...]:
        return self.near, self.far


def _at(machine: Machine | None) -> list[str]:
    return ["nsenter", f"--net=/proc/{machine.holder.pid}/ns/net", "--"] if machine else []


def _tc(machine: Machine | None, verb: str, device: str, words: str) -> str:
    argv = [*_at(machine), "tc", "qdisc", verb, "dev", device, *words.split()]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stderr.strip()


def _ip(machine: Machine | None, *lines: str, force: bool = False) -> None:
    argv = [*_at(machine), "ip", *(["-force"] if force else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0 or force, f"{lines}: {done.stderr}"


@dataclass
class Machine:
    """A running machine; `holder` is the process that everything in it ends with."""

    lacks: ClassVar[str] = ""  # why it is less than a machine
    ssh: ClassVar[Path] = Path("/etc/ssh")
    temporary: ClassVar[str] = "/tmp"
    backups: ClassVar[str] = "/srv/backups"

    site: Site
    name: str
    folder: Path
    holder: subprocess.Popen[bytes]
    address: str = ""
    links: list[Link] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def booted(
        cls, site: Site, name: str, *, layers: dict[str, Path], binds: dict[str, Path]
    ) -> Machine:
        """Start a machine without a link.

        `layers` and `binds` are folders of this machine by their place there: what is written
        into a layer stays there, what is written into the others is seen on both.
        """
        folder = site.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "root").mkdir()
        (folder / "boot").write_text(_BOOT)
        layers = {"/usr": Path("/usr"), "/etc": Path("/etc"), **layers}
        environment = {"ROOM": str(folder), "NAME": name, "PATH": PATH}
        environment |= {"LAYERS": _lines(layers), "BINDS": _lines(binds)}
        kinds = ["--mount", "--net", "--pid", "--uts", "--ipc"]
        with (folder / "boot.log").open("wb") as log:
            holder = subprocess.Popen(
                ["unshare", *kinds, "--fork", "--kill-child", "sh", "-eu", str(folder / "boot")],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        orphans.watch(holder.pid, signal.SIGKILL)
        machine = cls(site, name, folder, holder)
        site.stack.callback(machine.end)
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
        ends = (f"pgt{self.site.number}-{near.split('.')[-1]}", f"eth{len(self.links)}")
        if to:
            ends = (f"eth{len(to.links)}", ends[1])
        lines = [
            # the far end is made where it belongs: names there cannot collide with names here
            f"link add {ends[0]} type veth peer name {ends[1]} netns {self.holder.pid}",
            f"addr add {near}/30 dev {ends[0]}",
            f"link set {ends[0]} up",
        ]
        if not to:
            # what is for a host that this machine does not reach must not leave by another door
            rest, rank = f"10.97.{self.site.number}.0/24", near.split(".")[-1]
            lines.append(f"route add {rest} dev {ends[0]} metric 10{rank}")
        _ip(to, *lines)
        _ip(self, f"addr add {far}/30 dev {ends[1]}", f"link set {ends[1]} up")
        link = Link((to, ends[0], near), (self, ends[1], far))
        self.links.append(link)
        if to:
            to.links.append(link)
        self.address = self.address or far

    def own(self, *words: str | Path) -> None:
        """Let pass: all files of a machine are its own (a stand-in for one skips here)."""

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
            env={"PATH": PATH, "LANG": "C.UTF-8"},
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
                env={"PATH": PATH, "LANG": "C.UTF-8"},
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

    def process_of(self, started: subprocess.Popen[bytes]) -> int:
        """Return the process, seen from here, that `start` started: it is nsenter's child."""
        found = [each.outside for each in self._all() if each.parent == started.pid]
        return found[0] if found else 0

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
        found = (Process.seen(number) for number in numbers if _space(number) == space)
        return sorted((each for each in found if each), key=lambda each: each.pid)

    def end(self) -> None:
        """End the machine with all that runs on it."""
        for link in self.links:
            link.remove()  # the kernel would, but only after a while
        if self.holder.poll() is None:
            for first in self._all()[:1]:
                os.kill(first.outside, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.holder.wait(PATIENCE)  # ends after the last process of the machine
            self.holder.kill()
        self.holder.wait(PATIENCE)
        orphans.forget(self.holder.pid)
        assert self.holder.stdout is not None
        self.holder.stdout.close()
        for process in self._started:
            process.wait(PATIENCE)


def _space(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return None  # it ended meanwhile
