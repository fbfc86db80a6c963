"""The hosts that tests of remote runs use: they are what they claim, and nothing stays behind.

What logs in here is OpenSSH's own client.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import loopback
import machines
import psycopg2
import pytest
from hosts import DatabaseHost, Host
from machines import Process
from network import Network
from paths import ROOT, SUPPORT, TEMPORARY
from waiting import until

MIB = 1 << 20
_PATIENCE = 120

Ssh = Callable[..., "subprocess.Popen[str]"]


def ssh(host: Host, command: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a command there to its end."""
    argv = host.ssh(command, **options)
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        # the process of a jump host may live longer, and would hold a pipe open
        done = subprocess.run(argv, stdout=out, stderr=err, timeout=_PATIENCE, check=False)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(argv, done.returncode, out.read(), err.read())


@pytest.fixture
def start_ssh() -> Iterator[Ssh]:
    """Return what starts a command there and leaves it running."""
    started: list[subprocess.Popen[str]] = []

    def start(host: Host, command: str) -> subprocess.Popen[str]:
        argv, pipe = host.ssh(command), subprocess.PIPE
        started.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def commands(host: Host) -> list[str]:
    """Return what runs there, as `ps` would show it."""
    return [each.command for each in host.processes()]


def seen(host: Host, command: str) -> Process:
    """Return the process that runs that command, once it does."""
    until(lambda: command in commands(host), lambda: f"no {command!r}: {commands(host)}")
    return next(each for each in host.processes() if each.command == command)


@pytest.fixture
def own(db1: DatabaseHost) -> DatabaseHost:
    """Return db1 where it is a machine of its own."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    return db1


class TestLogin:
    def test_by_a_key(self, db1: DatabaseHost) -> None:
        done = ssh(db1, "whoami")
        assert (done.stdout, done.stderr) == (f"{db1.user}\n", "")

    def test_through_the_jump_host(self, db2: DatabaseHost) -> None:
        done = ssh(db2, "whoami")
        assert (done.stdout, done.stderr) == (f"{db2.user}\n", "")

    def test_each_host_is_one_of_its_own(self, own: DatabaseHost, db2: DatabaseHost) -> None:
        look = "hostname; cat /etc/hosts; ls -A / /home /tmp; ls -d /work /root/.ssh 2>/dev/null"
        here, there = ssh(own, look).stdout.split(), ssh(db2, look).stdout.split()
        assert (here[0], there[0]) == ("db1", "db2")
        assert "tests" not in here
        assert str(ROOT) not in here
        identifier = "SELECT system_identifier FROM pg_control_system()"
        assert own.cluster.value(identifier) != db2.cluster.value(identifier)

    def test_the_second_host_is_not_reached_directly(
        self, own: DatabaseHost, db2: DatabaseHost
    ) -> None:
        done = ssh(db2, "whoami", ProxyJump="none", ConnectTimeout="1")
        assert done.returncode == 255
        assert f"connect to host {db2.address} port 22" in done.stderr

    def test_only_by_the_key(self, db1: DatabaseHost, tmp_path: Path) -> None:
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
        argv = [str(other) if word == str(db1.identity) else word for word in db1.ssh("whoami")]
        config = Path(argv[2])
        config.write_text(config.read_text().replace(str(db1.identity), str(other)))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert "Permission denied (publickey)" in done.stderr


class TestServer:
    def test_the_role_is_the_account(self, own: DatabaseHost) -> None:
        own.needs("sudo")
        who = "psql -X -A -t -d postgres -c 'SELECT current_user'"
        assert ssh(own, who).stdout == "deploy\n"
        assert ssh(own, f"sudo -n -u postgres {who}").stdout == "postgres\n"
        assert "Peer authentication failed" in ssh(own, f"{who} -U postgres").stderr

    def test_it_listens_on_its_socket_alone(self, own: DatabaseHost) -> None:
        for host in ("127.0.0.1", own.address):
            done = ssh(own, f"psql -X -d postgres -h {host} -c ''")
            assert "Connection refused" in done.stderr

    def test_the_tests_reach_it_from_outside(self, db1: DatabaseHost) -> None:
        name = db1.cluster.create(owner=db1.user)
        try:
            assert name in ssh(db1, f"psql -h {db1.sockets} -X -A -t -l -d postgres").stdout
        finally:
            db1.cluster.drop(name)

    def test_it_stops_and_starts(self, own: DatabaseHost) -> None:
        with own.stop_server():
            with pytest.raises(psycopg2.OperationalError):
                own.cluster.connect()
            until(lambda: commands(own) == [], lambda: str(commands(own)))
        assert own.cluster.value("SELECT 1") == 1
        own.quiet()

    def test_a_server_may_be_newer_than_the_tools(self, db18: DatabaseHost) -> None:
        assert db18.cluster.value("SHOW server_version_num") >= "180000"
        assert ssh(db18, f"{db18.bin}/pg_dump --version").stdout.startswith("pg_dump (Po")
        assert ssh(db18, "pg_dump --version").stdout.split()[2:3] < ["18"]


class TestProcesses:
    def test_what_runs_there_is_seen_exactly(self, db1: DatabaseHost, start_ssh: Ssh) -> None:
        db1.quiet()
        client = start_ssh(db1, "exec sleep 300")
        sleeping = seen(db1, "sleep 300")
        assert sleeping.user == db1.user
        assert Path(f"/proc/{sleeping.outside}/comm").read_text() == "sleep\n"
        sessions = [command for command in commands(db1) if command != "sleep 300"]
        assert sessions
        assert all(command.startswith("sshd") for command in sessions)
        client.kill()  # what is silent outlives the line
        until(lambda: commands(db1) == ["sleep 300"], lambda: str(commands(db1)))
        os.kill(sleeping.outside, signal.SIGKILL)
        db1.quiet()

    def test_sessions_of_the_server_are_seen(self, db1: DatabaseHost) -> None:
        db1.quiet()
        connection = db1.cluster.connect()
        (backend,) = db1.processes()
        assert backend.command.startswith("postgres: postgres postgres [local] idle")
        connection.close()
        db1.quiet()

    def test_numbers_are_the_machine_s_own(self, own: DatabaseHost, start_ssh: Ssh) -> None:
        client = start_ssh(own, "echo $$; exec sleep 301")
        assert client.stdout is not None
        said = int(client.stdout.readline())
        sleeping = seen(own, "sleep 301")
        assert said == sleeping.pid
        own.do("kill", str(said))
        client.wait(_PATIENCE)
        own.quiet()

    def test_an_orphan_is_gone_when_it_ends(self, own: DatabaseHost) -> None:
        pid = own.do("sh", "-c", "sleep 304 >/dev/null 2>&1 & echo $!").strip()
        seen(own, "sleep 304")
        own.do("kill", pid)
        # its number too: what asks there whether it still runs must not be told that it does
        until(lambda: own.run("kill", "-0", pid).returncode, lambda: own.do("ps", "-p", pid))


class TestLine:
    def test_a_cut_line_says_nothing_and_comes_back(
        self, own: DatabaseHost, start_ssh: Ssh
    ) -> None:
        client = start_ssh(own, "while echo tick; do sleep 0.02; done")
        assert client.stdout is not None
        assert client.stdout.readline() == "tick\n"
        with own.cut():
            deadline = time.monotonic() + _PATIENCE
            while select.select([client.stdout], [], [], 1)[0]:  # what was under way arrives
                assert os.read(client.stdout.fileno(), 1 << 16), "the client ended"
                assert time.monotonic() < deadline, "the line is not cut"
            assert client.poll() is None
            done = ssh(own, "whoami", ConnectTimeout="1")
            assert "timed out" in done.stderr
            assert any(command.startswith("sshd: deploy") for command in commands(own))
        assert select.select([client.stdout], [], [], _PATIENCE)[0]
        assert b"tick" in os.read(client.stdout.fileno(), 1 << 16)
        client.kill()
        own.quiet()

    def test_the_jump_host_s_own_line_is_cut_alone(
        self, own: DatabaseHost, db2: DatabaseHost
    ) -> None:
        with db2.cut():
            assert ssh(db2, "whoami", ConnectTimeout="1").returncode == 255
            assert db2.jump is not None
            assert ssh(db2.jump, "whoami").stdout == "deploy\n"
            assert ssh(own, "whoami").stdout == "deploy\n"
        assert ssh(db2, "whoami").stdout == "deploy\n"

    def test_a_slow_line_takes_its_time(self, own: DatabaseHost) -> None:
        with own.slow("4mbit"):
            begun = time.monotonic()
            done = ssh(own, f"head -c {MIB} /dev/zero", Compression="no")
            assert len(done.stdout) == MIB
            assert time.monotonic() - begun > 1.5  # 2.1 s, less what the queues hold at once


class TestSshd:
    def test_its_settings_are_changed_for_a_block(self, db1: DatabaseHost) -> None:
        with db1.start_sshd(AllowUsers="nobody-else"):
            assert "Permission denied" in ssh(db1, "whoami").stderr
        assert ssh(db1, "whoami").returncode == 0

    def test_killed_it_ends_sessions_not_what_they_started(
        self, db1: DatabaseHost, start_ssh: Ssh
    ) -> None:
        client = start_ssh(db1, "exec sleep 302")
        sleeping = seen(db1, "sleep 302")
        with db1.stop_sshd():
            assert client.wait(_PATIENCE) == 255
            until(lambda: commands(db1) == ["sleep 302"], lambda: str(commands(db1)))
            assert "Connection refused" in ssh(db1, "whoami").stderr
        os.kill(sleeping.outside, signal.SIGKILL)
        assert ssh(db1, "whoami").returncode == 0
        db1.quiet()

    def test_its_key_is_another_for_a_block(self, db1: DatabaseHost) -> None:
        with db1.new_host_key():
            assert "IDENTIFICATION HAS CHANGED" in ssh(db1, "whoami").stderr
        assert ssh(db1, "whoami").returncode == 0
        with db1.new_host_key(known=True):
            assert ssh(db1, "whoami").returncode == 0
        assert ssh(db1, "whoami").returncode == 0


class TestOddities:
    def test_a_full_disk(self, own: DatabaseHost) -> None:
        kept = own.path(own.backups) / "kept"
        kept.write_text("")
        with own.full_disk(own.backups, MIB):
            assert ssh(own, f"ls -A {own.backups}; echo some >{own.backups}/small").stdout == ""
            done = ssh(own, f"head -c {2 * MIB} /dev/zero >{own.backups}/large")
            assert "No space left on device" in done.stderr
        assert "kept" in ssh(own, f"ls -A {own.backups}").stdout.split()
        kept.unlink()

    def test_no_tools(self, own: DatabaseHost) -> None:
        there = f"ls -d {own.bin}/pg_dump; command -v psql; command -v pg_restore"
        before = ssh(own, there).stdout
        assert before.split() == [f"{own.bin}/pg_dump", "/usr/bin/psql", "/usr/bin/pg_restore"]
        with own.hidden_tools("psql"):
            assert ssh(own, there).stdout.split() == [f"{own.bin}/pg_dump", "/usr/bin/pg_restore"]
        with own.hidden_tools():
            assert ssh(own, there).stdout == ""
            assert own.cluster.execute("DO 'BEGIN END'") == []  # loads plpgsql from beside them
        assert ssh(own, there).stdout == before
        own.quiet()

    @pytest.mark.parametrize("shell", ["/bin/dash", "/bin/bash", "/bin/tcsh", "/usr/bin/fish"])
    def test_a_shell_that_talks(self, own: DatabaseHost, shell: str) -> None:
        user = own.user_with(shell=shell, greeting="hello there")
        done = ssh(own, "echo $0; id -un", User=user)
        said = done.stdout.splitlines()
        assert said[-1] == user
        assert ("hello there" in said) == (shell != "/bin/dash")  # dash reads no file here

    def test_no_shell_at_all(self, own: DatabaseHost) -> None:
        done = ssh(own, "id", User=own.user_with(shell="/usr/sbin/nologin"))
        assert done.returncode == 1
        assert "This account is currently not available" in done.stdout

    def test_a_home_that_is_not_its_own(self, own: DatabaseHost) -> None:
        user = own.user_with(home_writable=False, home="/srv/some one")
        done = ssh(own, "pwd; echo >file", User=user)
        assert done.stdout == "/srv/some one\n"
        assert "Permission denied" in done.stderr

    def test_the_role_of_another_account(self, own: DatabaseHost) -> None:
        own.needs("sudo")
        user = own.user_with()
        who = "psql -X -A -t -d postgres -c 'SELECT current_user'"
        assert ssh(own, who, User=user).stdout == f"{user}\n"
        assert "a password is required" in ssh(own, "sudo -n -u postgres id", User=user).stderr


class TestEnd:
    @pytest.fixture(autouse=True)
    def _machines(self) -> None:
        if lacks := machines.missing():
            pytest.skip(lacks)

    def test_two_networks_at_once_and_nothing_left(self, own: DatabaseHost) -> None:
        second = Network()
        try:
            host = second.plain("db1")
            assert host.address != own.address
            assert ssh(host, "hostname").stdout == "db1\n"
            left = _traces(second.site.number, host.machine.holder.pid)
            assert left() != []
            # nothing of it is mounted where others see it
            assert str(second.site.folder) not in Path("/proc/self/mountinfo").read_text()
        finally:
            second.site.close()
        assert left() == []
        assert not second.site.folder.exists()
        assert ssh(own, "hostname").stdout == "db1\n"

    def test_killed_tests_leave_nothing(self, tmp_path: Path) -> None:
        killed = subprocess.Popen(
            [sys.executable, "-c", _KILLED], cwd=SUPPORT, stdout=subprocess.PIPE
        )
        assert killed.stdout is not None
        number, holder = map(int, killed.stdout.readline().split())
        left = _traces(number, holder)
        assert len(left()) > 3
        machine = TEMPORARY / f"pgt-hosts-{number}" / "db1"
        mark = machine / "of the killed one"  # another run of tests may take the number next
        mark.touch()
        killed.kill()
        killed.communicate()
        until(lambda: not left(), lambda: str(left()))
        after = Network()
        try:
            assert not mark.exists()
        finally:
            after.site.close()


_KILLED = """
import sys, time
sys.path.insert(0, "../..")
from network import Network
host = Network().database("db1")
print(host.machine.site.number, host.machine.holder.pid, flush=True)
time.sleep(600)
"""


def _traces(number: int, holder: int) -> Callable[[], list[str]]:
    """Return what tells all processes and links that belong to a machine."""
    spaces = {
        Path(f"/proc/{holder}/ns/{kind}").readlink()
        for kind in ("mnt", "net", "uts", "ipc", "pid_for_children")
    }

    def traces() -> list[str]:
        found = [path.name for path in Path("/sys/class/net").glob(f"pgt{number}-*")]
        for link in Path("/proc").glob("[0-9]*/ns/*"):
            try:
                found += [str(link)] if link.readlink() in spaces else []
            except OSError:
                pass  # it ended meanwhile
        return found

    return traces


@pytest.mark.skipif(bool(loopback.missing()), reason=loopback.missing() or "none")
def test_where_namespaces_cannot_be_made(start_ssh: Ssh) -> None:
    made = Network("no namespaces, says this test")
    try:
        jump = made.plain("jump")
        host = made.database("db", jump=jump)
        assert host.settings()["ssh"]["jump"].endswith(f"@127.0.0.1:{jump.port}")
        who = f"psql -h {host.sockets} -X -A -t -d postgres -c 'SELECT current_user'"
        assert ssh(host, who).stdout == f"{host.user}\n"
        client = start_ssh(host, "exec sleep 303")
        sleeping = seen(host, "sleep 303")
        assert not [each for each in jump.processes() if each.outside == sleeping.outside]
        client.kill()
        until(lambda: commands(host) == ["sleep 303"], lambda: str(commands(host)))
        with pytest.raises(pytest.skip.Exception, match="says this test"):
            host.cut()
    finally:
        made.site.close()
    assert Process.seen(sleeping.outside) is None
