"""Start, stop and find the embedded servers of a project: one per major version."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks import report
from pgtasks.errors import Failed, Refused, Unreachable
from pgtasks.report import typed
from pgtasks.server.embedded import account as accounts
from pgtasks.server.embedded import datadir, folders, postmaster, programs, sockets
from pgtasks.server.embedded.account import Account
from pgtasks.server.embedded.folders import Folders
from pgtasks.server.embedded.programs import Binaries

if TYPE_CHECKING:
    from pgtasks.settings.target import Target

_NO_RIGHT = ": run as the owner of the project folder, or give it to the user who runs this"
_WAYS_OUT = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: ": the server needs a project folder that it can write to",
    errno.ENOSPC: ": make room and try again, nothing incomplete was kept",
}


@dataclass(frozen=True)
class EmbeddedServer:
    """An embedded server, running or stopped."""

    data: Path
    bin: Path
    major: int
    socket: Path  # folder of mode 0700, owned by the server's account
    port: int
    superuser: str
    role: str  # the default role of environments
    pid: int | None  # process ID of the postmaster, None while it is stopped

    def lines(self) -> list[str]:
        """Return what a person reads."""
        state = f"running, pid {self.pid}" if self.pid else "stopped"
        return [
            f"PostgreSQL {self.major}: {state}",
            f"  data    {self.data}",
            f"  socket  {self.socket}",
            f"  psql    {self.psql()}",
            f"  roles   {self.role}, which owns what the tasks make; {self.superuser}, a superuser"
            if self.role != self.superuser
            else f"  roles   {self.superuser}, a superuser, which owns what the tasks make",
        ]

    def entered(self, target: Target) -> Target:
        """Return a target of this server with the role that its data folder has."""
        return replace(target, user=self.role) if target.user == datadir.OWNER else target

    def reached(self, target: Target) -> Target:
        """Return a target of this server with its role, socket and port."""
        return replace(self.entered(target), host=str(self.socket), port=self.port)

    def psql(self) -> str:
        """Return the command of psql for this server, quoted for a shell."""
        program = shlex.quote(str(self.bin / "psql"))
        return f"{program} -h {self.socket} -p {self.port} -U {self.role}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "major": self.major,
            "running": self.pid is not None,
            "pid": self.pid,
            "data": str(self.data),
            "bin": str(self.bin),
            "socket": str(self.socket),
            "port": self.port,
            "superuser": self.superuser,
            "role": self.role,
        }


def start(project: Path, *, major: int | None = None, prefer: str = "") -> EmbeddedServer:
    """Start the server of a project, creating it if missing, and wait until it is ready.

    Without `major` an existing data folder decides, else the newest of the preferred origin
    ("system" unless `prefer` says "wheel"). Servers of several majors may run side by side.
    """
    if not project.is_dir():
        raise Failed(f"no such project folder: {str(project)!r}")
    with _plainly():
        if running := _running(project, major):
            return running
        state = folders.make(project)
        with folders.changing(state):  # by now another terminal may have started it
            return _running(project, major) or _start(project, state, major, prefer)


def _running(project: Path, major: int | None) -> EmbeddedServer | None:
    """Return the server that `start` would return, if it already accepts connections."""
    here = folders.find(project)
    wanted = _wanted(here, major)
    if here is None or wanted is None:
        return None
    data = _readable(here.data(wanted))
    pid_file = postmaster.running(data)
    if pid_file is None or not pid_file.accepts or postmaster.stale(pid_file, data):
        return None
    return _server(here, wanted, pid_file)


def _wanted(here: Folders | None, major: int | None) -> int | None:
    return major or next(iter(here.majors() if here else ()), None)


def _start(project: Path, state: Path, major: int | None, prefer: str) -> EmbeddedServer:
    here = folders.find(project) or Folders(state, state)
    before, wanted = here.majors(), _wanted(here, major)
    installed = programs.binaries()
    chosen = programs.choose(installed, major=wanted, prefer=prefer, existing=wanted in before)
    account = accounts.for_server(here.data(chosen.major))
    _end_stale(_readable(here.data(chosen.major)))
    here = _settled(here, account)
    folder = _reachable(chosen, here, account)
    data = _made(here.data(chosen.major), folder, account)
    here = _recorded(here, (before or [chosen.major])[0], chosen.major, folder)
    launch = postmaster.Launch(
        folder, data, account, here.log(chosen.major), here.run_lock(chosen.major)
    )
    return _server(here, chosen.major, postmaster.start(launch))


def _end_stale(data: Path) -> None:
    """Stop a server that no longer accepts connections, so that it can be replaced."""
    pid_file = postmaster.running(data)
    if pid_file and pid_file.accepts and (why := postmaster.stale(pid_file, data)):
        report.say(f"the embedded server is started anew: {why} while it ran")
        postmaster.stop(data, "fast")


def _made(data: Path, folder: Path, account: Account) -> Path:
    """Return a data folder that the account can use, creating it if missing."""
    datadir.check_path(data)
    if data.exists():
        datadir.hand_over(data, account)
    else:
        datadir.make(folder, data, account)
    return data


def _settled(here: Folders, account: Account) -> Folders:
    if here.home != here.state or account.reaches(here.state):
        return here
    running = [major for major in here.majors() if postmaster.running(here.data(major))]
    if running:
        raise Failed(
            f"account {account.name!r} can no longer enter {str(here.state)!r}: stop the server "
            f"of PostgreSQL {running[0]} first, its data moves at the next start"
        )
    return folders.settle(here, account)


def _reachable(chosen: Binaries, here: Folders, account: Account) -> Path:
    if account.reaches(chosen.bin / "initdb", chosen.bin / "postgres"):
        return chosen.bin
    if chosen.origin != "wheel":
        raise Failed(f"account {account.name!r} cannot run the programs in {str(chosen.bin)!r}")
    return programs.copy_of(chosen, here.home)


def _recorded(here: Folders, winner: int, major: int, folder: Path) -> Folders:
    """Write the preferred major version, and the last binaries of each, for later calls."""
    known = {**dict(here.programs), major: str(folder)}
    recorded = replace(here, major=winner, programs=tuple(sorted(known.items())))
    if recorded != here:
        folders.write(recorded)
    return recorded


def stop(project: Path, *, mode: str = "fast", major: int | None = None) -> EmbeddedServer | None:
    """Stop the servers of a project, or that of one major; return None if none runs.

    Of several servers, it returns that of the default major version.
    """
    with _plainly():
        here = folders.find(project)
        if here is None:
            return None
        with folders.changing(here.state):
            stopped = [each for each in _majors(here, major) if _stop(here, each, mode)]
        return _server(here, stopped[0], None) if stopped else None


def _majors(here: Folders, major: int | None) -> list[int]:
    return [each for each in here.majors() if major in (None, each)]


def _stop(here: Folders, major: int, mode: str) -> bool:
    data = _readable(here.data(major))
    stopped = postmaster.stop(data, mode)
    if stopped:
        sockets.remove(data, data.stat().st_uid)
    return stopped is not None


def status(project: Path, *, major: int | None = None) -> EmbeddedServer | None:
    """Return the server that `start` would return, running or not; None if never initialised.

    Reads files only: no process is started, nothing is locked.
    """
    with _plainly():
        here = folders.find(project)
        majors = _majors(here, major) if here else []
        return _look(here, majors[0]) if here and majors else None


def servers(project: Path) -> tuple[EmbeddedServer, ...]:
    """Return the servers of a project, one per major version, the default one first."""
    with _plainly():
        here = folders.find(project)
        return tuple(_look(here, major) for major in here.majors()) if here else ()


def _look(here: Folders, major: int) -> EmbeddedServer:
    return _server(here, major, postmaster.running(_readable(here.data(major))))


def remove(project: Path) -> None:
    """Stop the servers of a project and delete all files that pgtasks created for them."""
    with _plainly():
        here = folders.find(project)
        if here is None:
            return
        with folders.changing(here.state):
            for major in here.majors():
                data = _readable(here.data(major))
                postmaster.stop(data, "immediate")
                sockets.remove(data, data.stat().st_uid)
            folders.delete(here)


def _server(here: Folders, major: int, pid_file: postmaster.PidFile | None) -> EmbeddedServer:
    data = here.data(major)
    return EmbeddedServer(
        data=data,
        bin=_bin(here, major),
        major=major,
        socket=pid_file.socket if pid_file else next(sockets.candidates(data, data.stat().st_uid)),
        port=pid_file.port if pid_file else sockets.PORT,
        superuser=datadir.SUPERUSER,
        role=datadir.role(data),
        pid=pid_file.pid if pid_file else None,
    )


def _bin(here: Folders, major: int) -> Path:
    last = here.bin(major)
    if (last / "postgres").is_file():
        return last
    # the project moved together with a wheel inside it, or the package was replaced
    return next((binaries.bin for binaries in programs.binaries() if binaries.major == major), last)


def _readable(data: Path) -> Path:
    """Return a data folder that this account may look into, else raise Failed."""
    if data.exists() and not os.access(data, os.R_OK | os.X_OK):
        accounts.for_server(data)
    return data


@contextmanager
def _plainly() -> Iterator[None]:
    """Translate an error of the file system into one line with the way out."""
    try:
        yield
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        where = f" at {exc.filename!r}" if exc.filename else ""
        way_out = _WAYS_OUT.get(exc.errno or 0, "")
        raise Failed(f"embedded server: {reason}{where}{way_out}") from exc


def required(target: Target) -> None:
    """Raise Refused for a target whose server is not an embedded one."""
    if not target.embedded:
        ssh = target.ssh
        why = f": it is on {ssh}, and embedded ones run on this machine only" if ssh else ""
        raise Refused(
            f"environment {target.environment!r} has no embedded server{why}, choose one with --env"
        )


def named(target: Target, root: Path) -> Target:
    """Return a target with the role that its server has; reads files only.

    Data folders of earlier versions have only the superuser.
    """
    server = status(root, major=target.major) if target.embedded else None
    return server.entered(target) if server else target


def as_superuser(target: Target) -> Target:
    """Return the target of an embedded server as its superuser, in the maintenance database."""
    return replace(target, user=datadir.SUPERUSER, database=target.maintenance, role="")


def located(target: Target, root: Path) -> Target:
    """Return the target of an embedded server with its socket; starts nothing."""
    if not target.embedded:
        return target
    server = status(root, major=target.major)
    if server is None:
        way = typed.task("server.start")
        raise Unreachable(
            f"{target}: the server was never started, start it with {way} in {str(root)!r}"
        )
    return server.reached(target)
