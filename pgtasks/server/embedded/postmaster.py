"""The server process of a data folder: found, started in the background, stopped.

A process is taken for the server only when it proves to be one of this very data folder: a pid file
may be stale and its number given to another process, the project may have been copied together
with the pid file of a server that still runs, or renamed while its server ran.
"""

from __future__ import annotations

import os
import signal
import socket as sockets_api
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import BadConfiguration, Failed
from pgtasks.server.embedded import datadir, filelock, sockets
from pgtasks.server.embedded.account import Account
from pgtasks.settings import libpq

_PROC = Path("/proc")
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_LONGEST_START = 120.0  # seconds; crash recovery reads all WAL since the last checkpoint
_LONGEST_STOP = 60.0  # seconds; pg_ctl waits as long
_LOG_SIZE = 10_000_000  # bytes; a larger log becomes .1 at the next start
_ORPHANS_END = 3.0  # seconds that backends get to notice that their server was killed
_spawned: set[int] = set()


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says (PostgreSQL's src/include/utils/pidfile.h)."""

    pid: int
    data: str
    port: int
    socket: Path
    status: str  # "starting", "ready", "standby", "stopping", "" before it is written

    @property
    def accepts(self) -> bool:
        """Tell whether the server accepts connections."""
        return self.status in ("ready", "standby")


def read(data: Path) -> PidFile | None:
    """Read the pid file of a data folder; None where it is missing or half written."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
        status = lines[7].strip() if len(lines) > 7 else ""
        return PidFile(int(lines[0]), lines[1], int(lines[3]), Path(lines[4]), status)
    except (FileNotFoundError, IndexError, ValueError):
        return None


def running(data: Path) -> PidFile | None:
    """Return the pid file of a data folder if the process it names is its server."""
    found = read(data)
    return found if found and found.pid > 0 and _serves(found, data) else None


def _serves(found: PidFile, data: Path) -> bool:
    if found.pid in _spawned:
        _reap(found.pid)
    if not (_PROC / "self").exists():
        return _is_alive(found.pid) and _answers(found)
    process = _PROC / str(found.pid)
    try:
        return _is_postgres(process) and os.path.samestat((process / "cwd").stat(), data.stat())
    except PermissionError:
        return _names(process, found, data)
    except OSError:  # no such process, or a zombie
        return False


def stale(found: PidFile, data: Path) -> str:
    """Return why a server that runs lets nobody in any more, nothing where it does.

    Its files were moved while it ran, or its socket was swept out of a folder for temporary files.
    """
    if not Path(libpq.socket_path(found.socket, found.port)).exists():
        return "its socket is gone"
    if Path(found.data) != data:
        return "its folder was moved"
    try:
        program = (_PROC / str(found.pid) / "exe").readlink()
    except OSError:
        return ""  # no such folder here, or another account's process
    return "" if program.exists() else "its programs were moved"


def _is_postgres(process: Path) -> bool:
    return (process / "comm").read_text(errors="replace").startswith("postgres")


def _reap(pid: int) -> None:
    # a child of this very process stays as a zombie until asked for
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        _spawned.discard(pid)


def _names(process: Path, found: PidFile, data: Path) -> bool:
    """Tell by its arguments whether a process serves a data folder.

    In containers root may not see another account's working folder (CAP_SYS_PTRACE). The socket
    folder among the arguments bears the identity of the data folder, so a copy does not match.
    """
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        ours = found.socket.name.startswith(sockets.name(data, data.stat().st_uid))
    except OSError:
        return False
    return os.fsencode(data) in arguments or (ours and os.fsencode(found.socket) in arguments)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _answers(found: PidFile) -> bool:
    with sockets_api.socket(sockets_api.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(libpq.socket_path(found.socket, found.port))
        except OSError:
            return False
    return True


def argv(programs: Path, data: Path, socket: Path) -> list[str]:
    """Return the command of a server that listens on a unix socket only."""
    options = {"listen_addresses": "", "unix_socket_permissions": "0700"}
    return [
        str(programs / "postgres"),
        *("-D", str(data), "-k", str(socket), "-p", str(sockets.PORT)),
        *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
    ]


@dataclass(frozen=True)
class Launch:
    """What a server is started from, and where it writes its log."""

    programs: Path
    data: Path
    account: Account
    log: Path
    run_lock: Path


def start(launch: Launch) -> PidFile:
    """Start the server unless it runs, and wait until it accepts connections.

    One caller at a time. Raises Failed with the last words of the log.
    """
    begun = time.monotonic()
    while True:
        found = running(launch.data)
        if found and found.accepts:
            return found
        if not found and (held := filelock.take(launch.run_lock)) is not None:
            break
        _wait(launch.data, found, time.monotonic() - begun)
    try:
        return _launch(launch, held)
    finally:
        os.close(held)


def _wait(data: Path, found: PidFile | None, waited: float) -> None:
    """Wait a moment for a server that starts or stops, or for what a killed one left running."""
    if found and waited > _LONGEST_START:
        raise Failed(f"the server (pid {found.pid}) is still {found.status} after {waited:.0f} s")
    if not found and waited > _ORPHANS_END:
        _end_children(data)
    if not found and waited > 5 * _ORPHANS_END:
        raise Failed(
            f"data folder {str(data)!r} is in use by a server that cannot be seen from here: "
            "stop it where it was started (another container?)"
        )
    time.sleep(0.02)


def _launch(launch: Launch, held: int) -> PidFile:
    # no process of this data folder lives, so what a killed server left binds nobody; PostgreSQL
    # itself would refuse a pid file whose number another process of this account got meanwhile
    (launch.data / "postmaster.pid").unlink(missing_ok=True)
    socket = sockets.make(launch.data, launch.account)
    sockets.clear(socket, launch.account.uid)
    begin = _open_log(launch.log)
    process = _spawn(launch, socket, held)
    try:
        found = _wait_until_ready(process, launch.data)
    finally:
        _spawned.add(process.pid)
        if process.returncode is None:
            process.returncode = 0  # it outlives this process: no ResourceWarning
    if found is None:
        said = log_tail(launch.log, begin)
        raise Failed(f"the server did not start: {datadir.complaint(said)}", hint=said)
    return found


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> PidFile | None:
    """Return the pid file of a server that accepts connections, or None if it came to its end."""
    deadline = time.monotonic() + _LONGEST_START
    while process.poll() is None:
        found = read(data)
        if found and found.pid == process.pid and found.accepts:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"server (pid {process.pid}) is not ready after {_LONGEST_START:.0f} s")
        time.sleep(0.01)
    return None


def _spawn(launch: Launch, socket: Path, held: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own: no Ctrl-C, terminal or pipe of ours reaches it.

    It inherits the descriptor of the run lock, so that this is held as long as any of its
    processes lives, whatever process table it is in.
    """
    with launch.log.open("ab") as log:
        try:
            return subprocess.Popen(
                argv(launch.programs, launch.data, socket),
                cwd=launch.data.parent,
                env=datadir.environment(launch.programs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(held,),
                **launch.account.identity(),
            )
        except OSError as exc:
            program = str(launch.programs / "postgres")
            raise Failed(f"cannot run {program!r}: {exc.strerror}") from exc


def _open_log(log: Path) -> int:
    """Set an overgrown log aside and return the size of the current one, made if missing."""
    if log.exists() and log.stat().st_size > _LOG_SIZE:
        log.replace(log.with_name(f"{log.name}.1"))
    os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o600))  # it may quote statements
    return log.stat().st_size


def log_tail(log: Path, begin: int, lines: int = 10) -> str:
    """Return the last lines of a log, from a byte on."""
    with log.open("rb") as file:
        file.seek(begin)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def children(data: Path) -> list[int]:
    """Return the processes that work in a data folder though its server was killed."""
    found = []
    for process in _PROC.glob("[0-9]*"):
        try:
            if _is_postgres(process) and os.path.samestat((process / "cwd").stat(), data.stat()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _end_children(data: Path) -> bool:
    """Tell all processes of a killed server to end at once; False when there is none."""
    found = children(data)
    for pid in found:
        _send(pid, signal.SIGQUIT)
    return bool(found)


def stop(data: Path, mode: str) -> PidFile | None:
    """Stop the server of a data folder and wait for its end; None where none runs.

    Where it was killed, what it left running is ended all the same.
    `mode` is pg_ctl's: smart waits for the clients, fast ends them, immediate needs recovery.
    """
    if mode not in _SIGNALS:
        raise BadConfiguration(f"unknown mode of stopping {mode!r}, known: {', '.join(_SIGNALS)}")
    first = running(data)
    deadline = time.monotonic() + _LONGEST_STOP
    if first is None:
        while _end_children(data) and time.monotonic() < deadline:
            time.sleep(0.01)
        return None
    _send(first.pid, _SIGNALS[mode])
    while running(data):
        if time.monotonic() > deadline:
            raise Failed(
                f"the server (pid {first.pid}) did not stop within {_LONGEST_STOP:.0f} s: "
                "end its clients, or stop it in mode immediate"
            )
        time.sleep(0.01)
    return first


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
