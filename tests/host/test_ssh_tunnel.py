"""Tunnels to a server on a database host: sockets, ports with TLS, relays; many, large, none."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import DatabaseHost
from machines import Machine
from network import Network
from remains import clear, left
from waiting import PATIENCE, until

from pgtasks.errors import PgtasksError, Unreachable
from pgtasks.host import child, tools
from pgtasks.host.base import Command
from pgtasks.host.worker import Worker
from pgtasks.server import connection, reach
from pgtasks.server.reach import Reached
from pgtasks.settings.secret import Secret
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target

MIB = 1 << 20
NAME = "db.example.test"
PASSWORD = "s3cret of the real server"

Reach = Callable[..., Reached]


@pytest.fixture
def reached(db1: DatabaseHost) -> Iterator[Reach]:
    """Return what reaches db1's server; closed after the test, with nothing left there."""
    opened: list[Reached] = []

    def make(ssh: dict[str, Any] | None = None, **more: Any) -> Reached:
        place = Login(**db1.place(**(ssh or {})))
        known = {"host": db1.sockets, "port": db1.cluster.port, "user": db1.user, **more}
        wanted = Target(environment="prod", database="postgres", ssh=place, **known)
        opened.append(reach.reach(wanted, Path()))
        return opened[-1]

    yield make
    for made in opened:
        made.close()
    try:
        db1.quiet()
        assert left(db1) == []
    finally:
        clear(db1)


def who(reached: Reached) -> str:
    with reached.session() as conn:
        return str(connection.value(conn, "SELECT current_user"))


def test_the_socket_here_is_ours_alone(reached: Reach) -> None:
    made = reached()
    assert made.target.end is not None
    folder = Path(made.target.end.host)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made.close()
    assert not folder.exists()
    with pytest.raises(Unreachable):
        made.connect()


def test_a_long_folder_for_temporary_files_is_no_hindrance(
    db1: DatabaseHost, reached: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert who(reached()) == db1.user


def test_sockets_that_killed_runs_left_are_swept(reached: Reach) -> None:
    temporary = Path(tempfile.gettempdir())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = temporary / f"pgtasks-run-{ended.pid}-x"
    alive = temporary / f"pgtasks-run-{os.getpid()}-x"
    embedded = temporary / f"pgtasks-{ended.pid}-0123456789ab"
    for folder in (dead, alive, embedded):
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(f"{folder}/.s.PGSQL.5432")
    reached()
    assert [folder.exists() for folder in (dead, alive, embedded)] == [False, True, True]


def test_many_connections_at_once(reached: Reach) -> None:
    made = reached()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            with made.session() as conn:
                for size in (1, 100_000, 3_000_000):
                    text = connection.value(conn, "SELECT repeat('x', %s)", (size,))
                    assert text == "x" * size
                    sent = connection.value(conn, "SELECT length(%s)", ("y" * size,))
                    assert sent == size
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert faults == []
    assert not any(thread.is_alive() for thread in threads)


def test_much_data_goes_through_both_ways(reached: Reach, tmp_path: Path) -> None:
    """100 MiB by COPY, there and back, the same bytes."""
    made = reached()
    line = b"0123456789abcdef" * 64
    rows = 100 * MIB // len(line)
    with (tmp_path / "in").open("wb") as file:
        for number in range(rows):
            file.write(b"%d\t%s\n" % (number, line))
    with made.session() as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE much (n int, t text)")
        with (tmp_path / "in").open("rb") as source:
            cursor.copy_expert("COPY much FROM STDIN", source, size=MIB)
        with (tmp_path / "out").open("wb") as sink:
            cursor.copy_expert("COPY much TO STDOUT", sink)
    assert (tmp_path / "in").stat().st_size > 100 * MIB
    assert subprocess.run(["cmp", tmp_path / "in", tmp_path / "out"]).returncode == 0


def test_a_statement_is_cancelled_through_it(db1: DatabaseHost, reached: Reach) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = %s"

    with reached().session() as conn:

        def cancel() -> None:
            until(lambda: db1.cluster.value(query, parameters=(conn.info.backend_pid,)))
            conn.cancel()

        cancelling = Worker(cancel)
        cancelling.start()
        with pytest.raises(PgtasksError, match="canceling statement due to user request"):
            connection.execute(conn, "SELECT pg_sleep(600)")
        assert cancelling.wait(PATIENCE)


def test_a_server_that_is_not_there_says_so(reached: Reach) -> None:
    with pytest.raises(Unreachable) as failure:
        reached(port=6543)
    assert ".s.PGSQL.6543" in failure.value.message
    assert "\n" not in failure.value.message
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:6543: connect failed"):
        reached(host="127.0.0.1", port=6543)


# relays: where sshd forwards no sockets, and where another account is what the server wants


@pytest.mark.parametrize("program", ["socat", "python3", "perl", "nc", ""])
def test_a_relay_takes_over(db1: DatabaseHost, reached: Reach, program: str) -> None:
    relays = {"socat", "python3", "python", "perl", "nc"}
    if program and db1.run("sh", "-c", f"command -v {program}").returncode != 0:
        pytest.skip(f"{program} is not installed")
    with hidden(db1, relays - {program}), db1.start_sshd(AllowStreamLocalForwarding="no"):
        if not program:
            with pytest.raises(Unreachable, match="none of socat, python3, perl and nc is there"):
                reached()
            return
        made = reached()
        assert who(made) == db1.user
        with made.session() as conn:
            text = connection.value(conn, "SELECT repeat('x', 5000000)")
            assert len(text) == 5_000_000
            assert connection.value(conn, "SELECT length(%s)", ("y" * 5_000_000,)) == 5_000_000
        made.close()
        db1.quiet()


def test_another_account_is_reached_by_a_relay(reached: Reach) -> None:
    made = reached(ssh={"sudo_user": "postgres"}, user="postgres")
    assert who(made) == "postgres"
    assert made.host.capture(Command(("id", "-un"))) == "postgres\n"


def test_a_connection_that_sshd_has_no_session_for_says_so(
    db1: DatabaseHost, reached: Reach
) -> None:
    with db1.start_sshd(MaxSessions="4"):
        made = reached(ssh={"sudo_user": "postgres"}, user="postgres")
        with made.session() as one, made.session() as other:
            with pytest.raises(Unreachable, match="MaxSessions"):
                made.connect()
            assert connection.value(one, "SELECT 1") == connection.value(other, "SELECT 1")
        made.close()


class hidden:
    """Hide programs of the host for a block: the real ones stay where they are."""

    def __init__(self, place: DatabaseHost, names: set[str]) -> None:
        self.place, self.names = place, names

    def __enter__(self) -> None:
        found = "; ".join(f"type -P {name}" for name in sorted(self.names))
        paths = self.place.run("bash", "-c", f"{found}; true").stdout.split()
        self.paths = [path for path in paths if path.startswith("/")]
        for path in self.paths:
            self.place.do("mv", path, f"{path}.hidden")

    def __exit__(self, *_: object) -> None:
        for path in self.paths:
            self.place.do("mv", f"{path}.hidden", path)


# TLS


@pytest.fixture(scope="module")
def tls(network: Network) -> DatabaseHost:
    """A host whose server takes connections by TLS on a port of its own, with a password."""
    host = network.database(
        "tls",
        settings={"listen_addresses": "127.0.0.1"},
        hba="hostssl all all 127.0.0.1/32 scram-sha-256\nhost all all all reject",
    )
    if not isinstance(host.machine, Machine):
        pytest.skip("needs a machine of its own: a name in its /etc/hosts")
    data = "/var/lib/postgresql/data"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    make += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    host.do(*make, "-keyout", f"{data}/server.key", "-out", f"{data}/server.crt", user="postgres")
    host.do("sh", "-c", f"echo 127.0.0.1 {NAME} >>/etc/hosts")
    host.cluster.execute("ALTER SYSTEM SET ssl = on")
    host.cluster.execute("SELECT pg_reload_conf()")
    host.cluster.execute(f"ALTER ROLE {host.user} PASSWORD '{PASSWORD}'")
    until(lambda: host.cluster.value("SHOW ssl") == "on", lambda: "no TLS")
    return host


@pytest.fixture
def authority(tls: DatabaseHost, tmp_path: Path) -> Path:
    """Return this machine's copy of the certificate that the server's is signed with."""
    path = tmp_path / "root of trust.crt"
    path.write_bytes(tls.path("/var/lib/postgresql/data/server.crt").read_bytes())
    return path


@pytest.fixture
def by_tls(tls: DatabaseHost, authority: Path) -> Iterator[Reach]:
    opened: list[Reached] = []

    def make(mode: str, *, host: str = NAME, root: Path | str = authority, **more: Any) -> Reached:
        parameters = {"sslmode": mode, "sslrootcert": str(root), "connect_timeout": "10"}
        wanted = Target(
            environment="prod",
            database="postgres",
            host=host,
            port=5432,
            user=tls.user,
            ssh=Login(**tls.place()),
            parameters=parameters,
            **more,
        )
        opened.append(reach.reach(wanted, Path()))
        return opened[-1]

    yield make
    for made in opened:
        made.close()
    tls.quiet()
    assert left(tls) == []


def speaks_tls(reached: Reached) -> bool:
    with reached.session() as conn:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(connection.value(conn, query))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_is_between_this_machine_and_the_server(by_tls: Reach, mode: str) -> None:
    assert speaks_tls(by_tls(mode, password=Secret(PASSWORD)))


def test_a_certificate_is_held_against_the_real_name(by_tls: Reach, tls: DatabaseHost) -> None:
    assert speaks_tls(by_tls("verify-ca", host="localhost", password=Secret(PASSWORD)))
    with pytest.raises(Unreachable, match="does not match host name"):
        by_tls("verify-full", host="localhost", password=Secret(PASSWORD))


def test_a_certificate_of_another_authority_is_refused(by_tls: Reach, tmp_path: Path) -> None:
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}"]
    other = [*make, "-keyout", tmp_path / "k", "-out", tmp_path / "other.crt"]
    subprocess.run(other, check=True, capture_output=True)
    with pytest.raises(Unreachable, match="certificate verify failed"):
        by_tls("verify-full", root=tmp_path / "other.crt", password=Secret(PASSWORD))


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_password_file_here_is_read_for_the_real_server(by_tls: Reach, mode: str) -> None:
    path = Path("~/.pgpass").expanduser()
    path.write_text(
        f"127.0.0.1:*:*:*:wrong\nlocalhost:*:*:*:wrong\n{NAME}:5432:*:deploy:{PASSWORD}\n"
    )
    path.chmod(0o600)
    assert speaks_tls(by_tls(mode))


def test_tools_there_verify_with_the_certificate_of_this_machine(by_tls: Reach) -> None:
    made = by_tls("verify-full", password=Secret(PASSWORD))
    with made.host.passfile(made.target) as passfile:
        env = tools.environment(made.there, passfile)
        argv = ("psql", "-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert made.host.capture(Command(argv, env)) == "t\n"


def test_children_here_go_through_it_too(by_tls: Reach) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed here")
    target = by_tls("verify-full", password=Secret(PASSWORD)).target
    env = {**child.for_tools(), **tools.environment(target.here(), ""), "PGPASSWORD": PASSWORD}
    done = subprocess.run([psql, "-XAtc", "SELECT 1"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
