"""Find, start and stop the server process of a data folder.

A process counts as the server only if it works in this very data folder. A pid file may be stale,
and its number given to another process; or the project was copied with the pid file of a running
server, or renamed while its server ran.
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
    """The content of postmaster.pid (src/include/utils/pidfile.h of PostgreSQL)."""

    pid: int
    data: str
    port: int
    socket: Path
    status: str  # "starting", "ready", "standby", "stopping", "" before it is written

    @property
    def accepts(self) -> bool:
        """Whether the server accepts connections."""
        return self.status in ("ready", "standby")


def read(data: Path) -> PidFile | None:
    """Read the pid file of a data folder, None if it is missing or incomplete."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
        status = lines[7].strip() if len(lines) > 7 else ""
        return PidFile(int(lines[0]), lines[1], int(lines[3]), Path(lines[4]), status)
    except (FileNotFoundError, IndexError, ValueError):
        return None


def running(data: Path) -> PidFile | None:
    """Return the pid file of a data folder if the process it names is its server."""
    pid_file = read(data)
    return pid_file if pid_file and pid_file.pid > 0 and _serves(pid_file, data) else None


def _serves(pid_file: PidFile, data: Path) -> bool:
    if pid_file.pid in _spawned:
        _reap(pid_file.pid)
    if not (_PROC / "self").exists():
        return _is_alive(pid_file.pid) and _answers(pid_file)
    process = _PROC / str(pid_file.pid)
    try:
        return _is_postgres(process) and os.path.samestat((process / "cwd").stat(), data.stat())
    except PermissionError:
        return _names(process, pid_file, data)
    except OSError:  # no such process, or a zombie
        return False


def stale(pid_file: PidFile, data: Path) -> str:
    """Return why nobody can connect to a running server, nothing if clients can.

    Its files were moved while it ran, or its socket was deleted from a folder for temporary files.
    """
    if not Path(libpq.socket_path(pid_file.socket, pid_file.port)).exists():
        return "its socket was deleted"
    if Path(pid_file.data) != data:
        return "its folder was moved"
    try:
        program = (_PROC / str(pid_file.pid) / "exe").readlink()
    except OSError:
        return ""  # no such folder here, or another account's process
    return "" if program.exists() else "its programs were moved"


def _is_postgres(process: Path) -> bool:
    return (process / "comm").read_text(errors="replace").startswith("postgres")


def _reap(pid: int) -> None:
    # a child of this process remains as a zombie until its exit code is read
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        _spawned.discard(pid)


def _names(process: Path, pid_file: PidFile, data: Path) -> bool:
    """Return whether a process serves a data folder, judged by its arguments.

    In containers root may not see another account's working folder (CAP_SYS_PTRACE). The name of
    the socket folder contains the identity of the data folder, so a copy does not match.
    """
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        own_socket = pid_file.socket.name.startswith(sockets.name(data, data.stat().st_uid))
    except OSError:
        return False
    return os.fsencode(data) in arguments or (
        own_socket and os.fsencode(pid_file.socket) in arguments
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _answers(pid_file: PidFile) -> bool:
    with sockets_api.socket(sockets_api.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(libpq.socket_path(pid_file.socket, pid_file.port))
        except OSError:
            return False
    return True


def argv(programs: Path, data: Path, socket: Path) -> list[str]:
    """Return the command of a server that listens only on a Unix socket."""
    options = {"listen_addresses": "", "unix_socket_permissions": "0700"}
    return [
        str(programs / "postgres"),
        *("-D", str(data), "-k", str(socket), "-p", str(sockets.PORT)),
        *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
    ]


@dataclass(frozen=True)
class Launch:
    """The programs, folders and account of a server, and its log file."""

    programs: Path
    data: Path
    account: Account
    log: Path
    run_lock: Path


def start(launch: Launch) -> PidFile:
    """Start the server unless it runs, and wait until it accepts connections.

    Only one caller at a time may do so. Raises Failed with the last lines of the log.
    """
    begun = time.monotonic()
    while True:
        pid_file = running(launch.data)
        if pid_file and pid_file.accepts:
            return pid_file
        if not pid_file and (held := filelock.take(launch.run_lock)) is not None:
            break
        _wait(launch.data, pid_file, time.monotonic() - begun)
    try:
        return _launch(launch, held)
    finally:
        os.close(held)


def _wait(data: Path, pid_file: PidFile | None, waited: float) -> None:
    """Wait a moment for a server that starts or stops, or for the processes of a killed one."""
    if pid_file and waited > _LONGEST_START:
        raise Failed(
            f"the server (pid {pid_file.pid}) is still {pid_file.status} after {waited:.0f} s"
        )
    if not pid_file and waited > _ORPHANS_END:
        _end_children(data)
    if not pid_file and waited > 5 * _ORPHANS_END:
        raise Failed(
            f"data folder {str(data)!r} is in use by a server that cannot be seen from here: "
            "stop it where it was started (another container?)"
        )
    time.sleep(0.02)


def _launch(launch: Launch, held: int) -> PidFile:
    # no process of this data folder runs, so the files of a killed server can go; PostgreSQL itself
    # would refuse to start if another process of this account has got the number in the pid file
    (launch.data / "postmaster.pid").unlink(missing_ok=True)
    socket = sockets.make(launch.data, launch.account)
    sockets.clear(socket, launch.account.uid)
    begin = _open_log(launch.log)
    process = _spawn(launch, socket, held)
    try:
        pid_file = _wait_until_ready(process, launch.data)
    finally:
        _spawned.add(process.pid)
        if process.returncode is None:
            process.returncode = 0  # it outlives this process: no ResourceWarning
    if pid_file is None:
        last_lines = log_tail(launch.log, begin)
        raise Failed(f"the server did not start: {datadir.complaint(last_lines)}", hint=last_lines)
    return pid_file


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> PidFile | None:
    """Return the pid file once the server accepts connections, None if it has ended."""
    deadline = time.monotonic() + _LONGEST_START
    while process.poll() is None:
        pid_file = read(data)
        if pid_file and pid_file.pid == process.pid and pid_file.accepts:
            return pid_file
        if time.monotonic() > deadline:
            raise Failed(f"server (pid {process.pid}) is not ready after {_LONGEST_START:.0f} s")
        time.sleep(0.01)
    return None


def _spawn(launch: Launch, socket: Path, held: int) -> subprocess.Popen[bytes]:
    """Start the server in its own session, out of reach of our Ctrl-C, terminal and pipes.

    It inherits the descriptor of the run lock, which is held as long as any of its processes lives,
    even in another PID namespace.
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
    """Rename a log that is too large, create a missing one, and return its size."""
    if log.exists() and log.stat().st_size > _LOG_SIZE:
        log.replace(log.with_name(f"{log.name}.1"))
    os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o600))  # it may quote statements
    return log.stat().st_size


def log_tail(log: Path, begin: int, lines: int = 10) -> str:
    """Return the last lines of a log that were written after a position."""
    with log.open("rb") as file:
        file.seek(begin)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def children(data: Path) -> list[int]:
    """Return the processes of a killed server that still run in its data folder."""
    pids = []
    for process in _PROC.glob("[0-9]*"):
        try:
            if _is_postgres(process) and os.path.samestat((process / "cwd").stat(), data.stat()):
                pids.append(int(process.name))
        except OSError:
            continue
    return pids


def _end_children(data: Path) -> bool:
    """End all processes of a killed server at once; return whether there were any."""
    pids = children(data)
    for pid in pids:
        _send(pid, signal.SIGQUIT)
    return bool(pids)


def stop(data: Path, mode: str) -> PidFile | None:
    """Stop the server of a data folder and wait for its end; None if it does not run.

    The processes of a killed server are ended too. `mode` is that of pg_ctl: smart waits for the
    clients, fast ends them, immediate requires recovery at the next start.
    """
    if mode not in _SIGNALS:
        raise BadConfiguration(f"unknown shutdown mode {mode!r}, known: {', '.join(_SIGNALS)}")
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
