"""The tasks that reach a database host: what works, and one line for each thing that does not."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from hosts import DatabaseHost, Host, keygen
from network import USER
from projects import make_project
from terminal import answer, interrupt, resize
from waiting import PATIENCE

INV = Path(sys.executable).parent / "inv"
Done = subprocess.CompletedProcess[str]


class Site:
    """A project with an environment on a host; `shop` is not protected, `prod` is."""

    def __init__(self, root: Path, inv: Inv) -> None:
        self.root, self._inv = root, inv

    def environment(self, host: Host, name: str = "shop", /, **ssh: Any) -> None:
        """Lead an environment to a host, parts of its ssh block changed."""
        said = {"ssh": host.place(**ssh)}
        if isinstance(host, DatabaseHost):
            said = host.settings(ssh=ssh, database="postgres")
            said["user"] = ssh.get("sudo_user") or ssh.get("user", host.user)
            said["protected"] = name == "prod"
        (self.root / "env" / f"{name}.yaml").write_text(json.dumps(said))

    def run(self, *argv: str, env: str = "shop", seconds: float = 120, **more: Any) -> Done:
        """Run a task on the environment."""
        return self._inv(*argv, "--env", env, cwd=self.root, seconds=seconds, **more)

    def check(self, host: Host, /, **ssh: Any) -> Done:
        """Check a host, which must work."""
        self.environment(host, **ssh)
        done = self.run("remote.check")
        assert done.returncode == 0, done.stderr
        return done

    def fault(self, host: Host, code: int = 4, /, **ssh: Any) -> str:
        """Check a host, which must fail with one line, and return that."""
        self.environment(host, **ssh)
        return error(self.run("remote.check"), code)


def error(done: Done, code: int) -> str:
    """Return the one line of a failure: the target's line goes before it."""
    assert done.returncode == code, (done.returncode, done.stderr)
    target, *rest = done.stderr.splitlines()
    assert target.startswith(("shop: ", "prod: ", "dev: ")), done.stderr
    (line,) = rest
    assert line.startswith("error: "), done.stderr
    return line.removeprefix("error: ")


@pytest.fixture
def site(tmp_path: Path, inv: Inv) -> Site:
    root = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    return Site(root, inv)


@pytest.fixture
def own(db1: DatabaseHost) -> DatabaseHost:
    """Return db1 where it is a machine of its own."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    return db1


@contextmanager
def listening(*answers: bytes) -> Iterator[int]:
    """Have something listen that is not sshd: it says `answers` and closes, or stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                for text in answers:
                    client.sendall(text)
                if answers:
                    client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in clients:
            client.close()


class TestCheck:
    def test_one_screen(self, site: Site, db1: DatabaseHost) -> None:
        done = site.check(db1, backups=db1.backups)
        rows = [line.split(None, 2) for line in done.stdout.splitlines()[2:]]
        found = {row[0]: row for row in rows}
        assert {"ssh", "line", "host", "clock", "server", "tools", "disk"} <= found.keys()
        assert f"{db1.user}@{db1.address}" in done.stdout
        assert f"by {db1.identity}" in done.stdout
        assert f"known by {db1.known_hosts}:" in done.stdout
        assert f"PostgreSQL {db1.cluster.major}." in " ".join(found["server"])
        assert f"on {db1.sockets}:" in " ".join(found["server"])
        assert f"({db1.bin}" in done.stdout or f", {db1.bin})" in done.stdout
        assert "fault" not in done.stdout

    def test_as_a_document(self, site: Site, db2: DatabaseHost) -> None:
        site.environment(db2, backups=db2.backups)
        said = json.loads(site.run("remote.check", "--json").stdout)
        assert said["host"] == f"{db2.user}@{db2.address}" or db2.port != 22
        assert len(said["host_keys"]) == 2
        assert all(key["fingerprint"].startswith("SHA256:") for key in said["host_keys"])
        assert said["server"].startswith(f"{db2.cluster.major}.")
        assert said["facts"]["tools"][0]["folder"]
        assert abs(said["facts"]["clock"]) < 60
        assert {finding["state"] for finding in said["findings"]} <= {"ok", "note"}

    def test_facts(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own, backups=own.backups)
        said = json.loads(site.run("remote.facts", "--json").stdout)
        assert (said["hostname"], said["account"]) == ("db1", "deploy")
        assert (said["home"], said["home_writable"]) == (f"/home/{USER}", True)
        assert said["backups"] == {
            "path": own.backups,
            "exists": True,
            "rights": "drwx------ deploy",
            "writable": True,
        }
        disk = next(each for each in said["disks"] if each["folder"] == own.backups)
        assert 0 < disk["free"] <= disk["size"]
        assert "/usr/bin/tar" in said["programs"].values()
        lines = site.run("remote.facts").stdout
        assert "hostname" in lines
        assert "db1" in lines

    def test_a_host_that_ssh_config_knows(
        self, site: Site, db2: DatabaseHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = Path.home() / ".ssh"
        folder.mkdir(mode=0o700)
        (folder / "config").write_text("Include hosts\n")
        (folder / "hosts").write_text(f"{db2.config('far')}StrictHostKeyChecking no\n")
        server = {"host": db2.sockets, "port": db2.cluster.port}
        said = {"ssh": "far", "database": "postgres", **server}
        (site.root / "env" / "shop.yaml").write_text(json.dumps(said))
        done = site.run("remote.check")
        assert done.returncode == 0, done.stderr
        assert "jump host key" in done.stdout
        # what counts for ssh and not here is said, before and in the list
        assert "ssh_config says stricthostkeychecking" in done.stderr
        assert "stricthostkeychecking" in done.stdout

    def test_the_ciphers_that_ssh_config_allows(self, site: Site, db1: DatabaseHost) -> None:
        config = Path.home() / ".ssh" / "config"
        config.parent.mkdir(mode=0o700)
        config.write_text("Ciphers aes256-ctr\n")
        site.check(db1)
        with db1.start_sshd(Ciphers="aes128-ctr"):
            assert "cipher" in site.fault(db1)
        config.write_text("Ciphers chacha20-poly1305@openssh.com\n")
        line = site.fault(db1)
        assert "none of the ciphers chacha20-poly1305@openssh.com of ssh_config is known" in line

    def test_a_program_on_the_way(self, site: Site, db2: DatabaseHost, jump: Host) -> None:
        config = site.root / "jump_config"
        config.write_text(jump.config())
        folder = Path.home() / ".ssh"
        folder.mkdir(mode=0o700)
        # %% is for ssh_config, %h and %p are the database host's
        way = f"ProxyCommand ssh -F {config} -W %h:%p {jump.name}\n"
        (folder / "config").write_text(f"Host {db2.address}\n{way}")
        place = db2.place()
        del place["jump"]
        said = {**db2.settings(database="postgres"), "ssh": place}
        (site.root / "env" / "shop.yaml").write_text(json.dumps(said))
        done = site.run("remote.check")
        assert done.returncode == 0, done.stderr

    def test_a_server_that_is_down(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        with own.stop_server():
            done = site.run("remote.check")
        assert "no such file" in error(done, 4).lower() or "connect" in error(done, 4)
        # what else was found is said all the same
        assert "tools" in done.stdout
        assert "fault" in done.stdout

    def test_sockets_that_sshd_does_not_forward(self, site: Site, own: DatabaseHost) -> None:
        with own.start_sshd(AllowStreamLocalForwarding="no"):
            done = site.check(own)
        assert "sshd forwards no sockets" in done.stdout

    def test_as_another_account(self, site: Site, own: DatabaseHost) -> None:
        done = site.check(own, sudo_user="postgres")
        assert "commands run as postgres" in done.stdout

    def test_tools_there_are_missing(self, site: Site, own: DatabaseHost) -> None:
        with own.hidden_tools():
            said = site.fault(own, 7)
        assert said.startswith("no pg_dump there")
        assert "ssh.bin" in said

    def test_tools_there_are_too_old(self, site: Site, own: DatabaseHost) -> None:
        own.do("mkdir", "-p", "/opt/old")
        fake = own.path("/opt/old/pg_dump")
        fake.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
        fake.chmod(0o755)
        said = site.fault(own, 7, bin="/opt/old")
        assert "no pg_dump fits" in said
        assert "found 9.6 (setting, /opt/old)" in said or "9.6" in said
        assert "ssh.bin" in said

    def test_a_folder_without_tools(self, site: Site, own: DatabaseHost) -> None:
        said = site.fault(own, 3, bin="/nowhere")
        assert "/nowhere/pg_dump" in said

    def test_programs_there_are_missing(self, site: Site, own: DatabaseHost) -> None:
        names = ("tar", "sha256sum", "shasum", "timeout", "nproc", "socat", "perl", "sudo")
        with own.hidden_tools(*names):
            done = site.check(own)
        assert "no tar and no sha256sum: no db.backup --on-host" in done.stdout

    def test_a_folder_for_backups_that_is_not_ours(self, site: Site, own: DatabaseHost) -> None:
        done = site.check(own, backups="/usr/lib/backups")
        assert "/usr/lib/backups (to be made, which this account may not): no db.backup --on" in (
            done.stdout
        )

    def test_a_disk_that_is_nearly_full(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own, backups=own.backups)
        with own.full_disk(own.backups, 1 << 20):
            own.do("sh", "-c", f"head -c 1000000 /dev/zero > {own.backups}/x", user="deploy")
            done = site.run("remote.check")
        (row,) = (line for line in done.stdout.splitlines() if f"{own.backups}: " in line)
        assert row.split()[:2] == ["disk", "note"]

    def test_a_clock_that_goes_before_ours(self, site: Site, own: DatabaseHost) -> None:
        real = own.path("/usr/bin/date")
        own.do("mv", "/usr/bin/date", "/usr/bin/date.real")
        try:
            real.write_text("#!/bin/sh\nexec /usr/bin/date.real -d '+90 seconds' \"$@\"\n")
            real.chmod(0o755)
            done = site.check(own)
        finally:
            own.do("mv", "/usr/bin/date.real", "/usr/bin/date")
        (row,) = (line for line in done.stdout.splitlines() if line.startswith("clock"))
        assert row.split()[1] == "note"
        assert " s before ours" in row


class TestShellThere:
    def test_one_that_greets(self, site: Site, own: DatabaseHost) -> None:
        user = own.user_with(shell="/bin/bash", greeting="WELCOME *** to db1")
        done = site.check(own, user=user)
        assert "WELCOME" not in done.stdout + done.stderr

    @pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash", "/usr/bin/fish", "/bin/csh"])
    def test_others(self, site: Site, own: DatabaseHost, shell: str) -> None:
        site.check(own, user=own.user_with(shell=shell))

    @pytest.mark.parametrize(
        ("shell", "said"),
        [("/usr/sbin/nologin", "This account is currently not available"), ("/bin/false", "")],
    )
    def test_none(self, site: Site, own: DatabaseHost, shell: str, said: str) -> None:
        user = own.user_with(shell=shell)
        line = site.fault(own, user=user)
        assert line.startswith(f"{user}@{own.address}: no command starts there: ")
        assert said in line

    def test_a_home_without_write_access(self, site: Site, own: DatabaseHost) -> None:
        user = own.user_with(home_writable=False)
        done = site.check(own, user=user)
        assert "which this account may not" in done.stdout

    def test_an_account_for_files_alone(self, site: Site, own: DatabaseHost) -> None:
        with own.start_sshd(ForceCommand="internal-sftp"):
            assert "no command starts there" in site.fault(own, channel_timeout=2)

    def test_sudo_that_is_not_allowed(self, site: Site, own: DatabaseHost) -> None:
        user = own.user_with(role=False)
        line = site.fault(own, user=user, sudo_user="postgres")
        assert "sudo: a password is required" in line


class TestHostKey:
    def test_an_unknown_one(self, site: Site, db1: DatabaseHost) -> None:
        line = site.fault(db1, known_hosts=str(site.root / "none"))
        assert "is unknown: inv remote.trust --env shop trusts it" in line
        assert "SHA256:" in line

    def test_an_unknown_one_of_the_jump_host(self, site: Site, db2: DatabaseHost) -> None:
        line = site.fault(db2, known_hosts=str(site.root / "none"))
        assert db2.jump is not None
        assert db2.jump.address in line
        assert "is unknown: inv remote.trust" in line

    def test_an_unknown_one_behind_a_known_jump_host(self, site: Site, db2: DatabaseHost) -> None:
        known = site.root / "known"
        assert db2.jump is not None
        lines = db2.known_hosts.read_text().splitlines(keepends=True)
        known.write_text("".join(line for line in lines if named(db2.jump) in line.split()))
        line = site.fault(db2, known_hosts=str(known))
        assert line.startswith(f"{named(db2)}: its ssh-ed25519 key SHA256:")

    def test_a_changed_one(self, site: Site, db1: DatabaseHost) -> None:
        with db1.new_host_key():
            line = site.fault(db1)
        assert "somebody may sit in between" in line
        assert f"ssh-keygen -R {named(db1)}" in line.replace("'", "")

    def test_a_changed_one_of_the_jump_host(self, site: Site, db2: DatabaseHost) -> None:
        assert db2.jump is not None
        with db2.jump.new_host_key():
            line = site.fault(db2)
        assert line.startswith(f"{named(db2.jump)}: ")
        assert "somebody may sit in between" in line


def named(host: Host) -> str:
    """Return what known_hosts calls a host."""
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


class TestLogin:
    def test_a_wrong_key(self, site: Site, db1: DatabaseHost) -> None:
        keygen(site.root / "stranger")
        line = site.fault(db1, identity="stranger")
        assert line.endswith(f"login as {db1.user!r} denied: {site.root}/stranger")

    def test_a_wrong_key_for_the_jump_host(self, site: Site, db2: DatabaseHost) -> None:
        keygen(site.root / "stranger")
        line = site.fault(db2, identity="stranger")
        assert db2.jump is not None
        assert line.startswith(f"ssh {db2.jump.user}@{db2.jump.address}")

    def test_no_such_user(self, site: Site, own: DatabaseHost) -> None:
        line = site.fault(own, user="nobody-here")
        assert (
            line == f"ssh nobody-here@{own.address}: login as 'nobody-here' denied: {own.identity}"
        )

    def test_a_passphrase_and_nobody_to_ask(self, site: Site, db1: DatabaseHost) -> None:
        locked(db1, site.root / "id")
        line = site.fault(db1, identity="id")
        assert line.endswith("(it has a passphrase, and there is no terminal: ssh-add it)")

    def test_a_passphrase_is_asked_for(self, site: Site, db1: DatabaseHost) -> None:
        locked(db1, site.root / "id")
        site.environment(db1, identity="id")
        argv = [INV, "remote.check", "--env", "shop"]
        typed = [("passphrase for .*/id: ", "wrong\n"), ("passphrase for", "s3cret phrase\n")]
        done = answer(argv, typed, cwd=site.root)
        assert done.code == 0, done.screen
        assert "s3cret" not in done.screen

    def test_a_passphrase_that_is_wrong(self, site: Site, db1: DatabaseHost) -> None:
        locked(db1, site.root / "id")
        site.environment(db1, identity="id")
        argv = [INV, "remote.check", "--env", "shop"]
        done = answer(argv, [("passphrase for .*/id: ", "wrong\n")] * 3, cwd=site.root)
        assert done.code == 4
        assert done.screen.endswith("/id (wrong passphrase)\n")


def locked(host: Host, path: Path) -> None:
    """Copy the key that a host lets in, with a passphrase."""
    path.write_bytes(host.identity.read_bytes())
    path.chmod(0o600)
    argv = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "s3cret phrase", "-f", path]
    subprocess.run(argv, check=True, capture_output=True)


class TestPlace:
    def test_a_port_that_is_closed(self, site: Site, db1: DatabaseHost) -> None:
        line = site.fault(db1, port=1)
        assert line == f"ssh {db1.user}@{db1.address}:1: connection refused"

    def test_a_host_that_does_not_answer(self, site: Site, own: DatabaseHost) -> None:
        with own.cut():
            line = site.fault(own, connect_timeout=1)
        assert "no answer in 1 s (connect_timeout)" in line or "no route to host" in line

    def test_a_host_that_the_jump_host_does_not_reach(self, site: Site, db2: DatabaseHost) -> None:
        if db2.machine.lacks:
            pytest.skip(f"needs a machine of its own: {db2.machine.lacks}")
        with db2.cut():
            line = site.fault(db2, connect_timeout=1)
        assert line.startswith(f"ssh {db2.user}@{db2.address}: no answer in 1 s (connect_timeout)")

    def test_a_port_that_is_closed_behind_the_jump_host(
        self, site: Site, db2: DatabaseHost
    ) -> None:
        line = site.fault(db2, port=1)
        assert "the jump host" in line
        assert "cannot connect to it: " in line

    def test_a_jump_host_that_forwards_nothing(self, site: Site, db2: DatabaseHost) -> None:
        assert db2.jump is not None
        with db2.jump.start_sshd(AllowTcpForwarding="no"):
            line = site.fault(db2)
        assert "the jump host" in line
        assert "forwards nothing" in line

    def test_a_name_that_there_is_not(self, site: Site, db1: DatabaseHost) -> None:
        line = site.fault(db1, host="db1.invalid")
        assert line.startswith(f"ssh {db1.user}@db1.invalid")
        assert "no such name: " in line

    @pytest.mark.parametrize(
        "answers",
        [(), (b"",), (b"HTTP/1.1 400 Bad Request\r\n\r\n",), (b"SSH-1.5-old\r\n",), (b"\0" * 99,)],
    )
    def test_something_that_is_no_sshd(
        self, site: Site, db1: DatabaseHost, answers: tuple[bytes, ...]
    ) -> None:
        with listening(*answers) as port:
            line = site.fault(db1, host="127.0.0.1", port=port, banner_timeout=1)
        assert line.startswith(f"ssh {db1.user}@127.0.0.1:{port}: ")
        assert "banner_timeout" in line or "version" in line

    @pytest.mark.parametrize(
        "argv",
        [
            ("remote.check",),
            ("remote.trust",),
            ("remote.facts",),
            ("remote.shell",),
            ("remote.psql",),
            ("remote.run", "true"),
        ],
    )
    def test_an_environment_without_a_host(self, site: Site, argv: tuple[str, ...]) -> None:
        line = error(site.run(*argv, env="dev"), 2)
        assert line.startswith("environment 'dev' has no ssh")


class TestTrust:
    @pytest.fixture
    def known(self, site: Site) -> Path:
        return site.root / "ssh" / "known_hosts"

    def test_a_person_says_so(self, site: Site, db2: DatabaseHost, known: Path) -> None:
        site.environment(db2, "prod", known_hosts=str(known))
        argv = [INV, "remote.trust", "--env", "prod"]
        assert db2.jump is not None
        typed = [(f"{db2.jump.address}.*ssh-ed25519 key SHA256:.{{43}}\\s", "")]
        typed += [(r"trust it\? \[y/N\] ", "y\n"), (r"trust it\? \[y/N\] ", "yes\n")]
        done = answer(argv, typed, cwd=site.root)
        assert done.code == 0, done.screen
        assert done.screen.count("is trusted now") == 2
        keys = {line.split()[2] for line in known.read_text().splitlines()}
        assert keys == {public(db2), public(db2.jump)}
        again = site.run("remote.trust", env="prod")
        assert again.stdout.count("was known already") == 2
        assert site.run("remote.check", env="prod").returncode == 0

    def test_a_signal_ends_it(self, site: Site, db2: DatabaseHost, known: Path) -> None:
        site.environment(db2, "prod", known_hosts=str(known))
        argv = [INV, "remote.trust", "--env", "prod"]
        ask = r"trust it\? \[y/N\] "
        for typed, said in (
            ([(ask, interrupt)], "no file was written"),
            ([(ask, "y\n"), (ask, interrupt)], f"{known} is written"),
        ):
            done = answer(argv, typed, cwd=site.root, columns=400)
            assert done.code == 130, done.screen
            assert done.screen.splitlines()[-1].endswith(f"error: interrupted: {said}")
        assert db2.jump is not None
        assert [line.split()[2] for line in known.read_text().splitlines()] == [public(db2.jump)]

    def test_a_person_says_no(self, site: Site, db1: DatabaseHost, known: Path) -> None:
        site.environment(db1, known_hosts=str(known))
        argv = [INV, "remote.trust", "--env", "shop"]
        done = answer(argv, [(r"\[y/N\] ", "\n")], cwd=site.root)
        assert done.code == 2
        assert "is not trusted, nothing was written" in done.screen
        assert not known.exists()

    def test_nobody_is_there(self, site: Site, db1: DatabaseHost, known: Path) -> None:
        site.environment(db1, known_hosts=str(known))
        line = error(site.run("remote.trust"), 2)
        assert "no terminal to ask on" in line
        assert f"add --fingerprint {fingerprint(db1)} or --yes" in line
        assert not known.exists()

    def test_a_fingerprint_that_was_told(self, site: Site, db2: DatabaseHost, known: Path) -> None:
        site.environment(db2, "prod", known_hosts=str(known))
        assert db2.jump is not None
        told = [
            f"{named(db2)}={fingerprint(db2)}",
            f"{named(db2.jump)}={fingerprint(db2.jump).removeprefix('SHA256:')}",
        ]
        flags = [word for text in told for word in ("--fingerprint", text)]
        done = site.run("remote.trust", *flags, "--json", env="prod")
        assert done.returncode == 0, done.stderr
        assert [key["new"] for key in json.loads(done.stdout)["keys"]] == [True, True]
        assert len(known.read_text().splitlines()) == 2

    def test_a_fingerprint_belongs_to_one_host(
        self, site: Site, db2: DatabaseHost, known: Path
    ) -> None:
        """A jump host that answers for the one behind it does so with its own key."""
        assert db2.jump is not None
        site.environment(db2, known_hosts=str(known))
        own, theirs = fingerprint(db2), fingerprint(db2.jump)
        line = error(site.run("remote.trust", "--fingerprint", theirs, "--fingerprint", own), 2)
        assert f"({named(db2.jump)}, {named(db2)})" in line
        assert f"say --fingerprint {named(db2)}=SHA256:..." in line
        assert not known.exists()
        exchanged = [f"{named(db2)}={theirs}", f"{named(db2.jump)}={own}"]
        flags = [word for text in exchanged for word in ("--fingerprint", text)]
        assert "given for it" in error(site.run("remote.trust", *flags), 4)
        assert not known.exists()
        line = error(site.run("remote.trust", "--fingerprint", f"nowhere={own}"), 2)
        assert "'nowhere', expected one of" in line
        for text in (" ", "SHA256:short", "x=", f"{own},{theirs}"):
            assert "expected SHA256:" in error(site.run("remote.trust", "--fingerprint", text), 2)
        line = error(site.run("remote.trust"), 2)
        assert f"add --fingerprint {named(db2.jump)}={theirs} or --yes" in line

    def test_another_fingerprint(self, site: Site, db1: DatabaseHost, known: Path) -> None:
        site.environment(db1, known_hosts=str(known))
        done = site.run("remote.trust", "--fingerprint", "SHA256:" + "A" * 43)
        assert "has no fingerprint that was given for it: it is not trusted" in error(done, 4)
        assert not known.exists()

    def test_yes(self, site: Site, db1: DatabaseHost, known: Path) -> None:
        site.environment(db1, "prod", known_hosts=str(known))
        line = error(site.run("remote.trust", "--yes", env="prod"), 2)
        assert "is protected, --yes does not trust its host" in line
        site.environment(db1, known_hosts=str(known))
        assert site.run("remote.trust", "--yes").returncode == 0
        assert known.read_text().split() == [named(db1), "ssh-ed25519", public(db1)]

    def test_a_plan(self, site: Site, db2: DatabaseHost, known: Path) -> None:
        site.environment(db2, "prod", known_hosts=str(known))
        assert db2.jump is not None
        done = site.run("remote.trust", "--dry", env="prod")
        assert done.returncode == 0, done.stderr
        key = f"ssh-ed25519 key {fingerprint(db2.jump)}"
        assert done.stdout == f"{named(db2.jump)}: {key} would be trusted: {known}\n"
        assert not known.exists()

    def test_a_changed_key_is_never_replaced(
        self, site: Site, db1: DatabaseHost, known: Path
    ) -> None:
        known.parent.mkdir()
        known.write_bytes(db1.known_hosts.read_bytes())
        site.environment(db1, known_hosts=str(known))
        with db1.new_host_key():
            line = error(site.run("remote.trust", "--yes"), 4)
        assert "somebody may sit in between" in line
        assert known.read_bytes() == db1.known_hosts.read_bytes()

    def test_a_host_that_does_not_let_us_in_yet(
        self, site: Site, db1: DatabaseHost, known: Path
    ) -> None:
        keygen(site.root / "stranger")
        site.environment(db1, known_hosts=str(known), identity="stranger")
        assert site.run("remote.trust", "--yes").returncode == 0
        assert " denied: " in error(site.run("remote.check"), 4)


def public(host: Host) -> str:
    """Return a host's key as its known_hosts file has it."""
    lines = (line.split() for line in host.known_hosts.read_text().splitlines())
    return next(parts[2] for parts in lines if parts[0] == named(host))


def fingerprint(host: Host) -> str:
    """Return the fingerprint of a host's key, as its administrator would read it."""
    argv = ["ssh-keygen", "-l", "-f", "-"]
    line = f"ssh-ed25519 {public(host)}\n"
    return subprocess.run(
        argv, input=line, capture_output=True, text=True, check=True
    ).stdout.split()[1]


class TestRun:
    def test_output_comes_through_unchanged(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        script = 'pwd; whoami; printf "a\\000b\\377c"; echo "to stderr" >&2'
        argv = [INV, "remote.run", script, "--env", "shop"]
        done = subprocess.run(argv, cwd=site.root, stdin=subprocess.DEVNULL, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"/home/{USER}\n{USER}\na\0b".encode() + b"\xffc"
        assert done.stderr.splitlines()[1:] == [b"to stderr"]

    def test_its_exit_code_is_named(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        assert error(site.run("remote.run", "exit 3"), 1) == "the command failed: exit code 3"
        assert error(site.run("remote.run", "kill -9 $$"), 1).startswith("the command failed: ")

    def test_quotes_and_lines(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        script = "for w in \"a b\" 'c\\d' \"it's\" '$HOME' 'ü 🐘'; do\n  printf '<%s>' \"$w\"\ndone"
        assert site.run("remote.run", script).stdout == "<a b><c\\d><it's><$HOME><ü 🐘>"

    def test_it_reads_nothing(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        assert site.run("remote.run", "cat; echo done", input="x\n").stdout == "done\n"

    def test_much_output_and_a_reader_that_leaves(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        done = site.run("remote.run", "head -c 3000000 /dev/zero | tr '\\0' x")
        assert done.stdout == "x" * 3000000
        line = f"{INV} remote.run 'yes' --env shop | head -n 1"
        piped = subprocess.run(
            line, cwd=site.root, shell=True, capture_output=True, timeout=PATIENCE
        )
        assert piped.stdout == b"y\n"
        assert b"Traceback" not in piped.stderr
        db1.quiet()

    def test_a_protected_environment_wants_the_name(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1, "prod")
        line = error(site.run("remote.run", "echo done", env="prod"), 2)
        assert line == "environment 'prod' is protected, add --confirm postgres"
        done = site.run("remote.run", "echo done", "--confirm", "postgres", env="prod")
        assert done.stdout == "done\n"
        wrong = site.run("remote.run", "echo done", "--confirm", "shop", env="prod")
        assert "is not the database's name" in error(wrong, 2)

    @pytest.mark.parametrize("argv", [("remote.run", "touch planned"), ("remote.shell",)])
    def test_a_plan_runs_nothing(
        self, site: Site, db1: DatabaseHost, inv: Inv, argv: tuple[str, ...]
    ) -> None:
        site.environment(db1, "prod")
        done = inv("--dry", *argv, "--env", "prod", cwd=site.root)
        assert done.returncode == 0, done.stderr
        assert "without --dry it would be refused: environment 'prod' is protected" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("would ")
        site.environment(db1)
        assert site.run("remote.run", "ls").stdout.find("planned") == -1

    def test_what_it_was_is_not_kept(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        site.run("remote.run", "echo s3cret")
        kept = (site.root / "backups" / "journal.jsonl").read_text()
        assert '"task": "remote.run"' in kept
        assert "s3cret" not in kept

    def test_ctrl_c_ends_it_there(
        self, site: Site, db1: DatabaseHost, start_inv: Callable[..., Any]
    ) -> None:
        site.environment(db1)
        process = start_inv("remote.run", "echo up; exec sleep 321", "--env", "shop", cwd=site.root)
        assert process.stdout.readline() == "up\n"
        process.send_signal(2)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        words = "error: interrupted: what the command had done on the host stays"
        assert said.splitlines()[-1] == words
        db1.quiet()


class TestShell:
    def test_a_login_shell(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        typed = [(r"\$ ", "echo $0 $((6*7)) $(hostname); exit 3\n")]
        done = answer(argv, typed, cwd=site.root)
        assert "-sh 42 db1" in done.screen
        assert done.code == 0, done.screen
        own.quiet()

    def test_what_is_typed_before_the_shell_begins(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        done = answer(argv, [("", "echo $((6*7)); exit\n")], cwd=site.root)
        assert "42" in done.screen

    def test_keys_are_for_the_program(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        typed = [
            (r"\$ ", "sh -c 'echo u\"\"p; exec cat'\n"),
            ("up\r\n", "\x1a"),
            (r"Stopped[^$]*\$ ", "fg\nhere\n"),
            (r"here[^$]*here\r\n", "\x03"),
            (r"\^C[^$]*\$ ", "echo $?; exit\n"),
        ]
        done = answer(argv, typed, cwd=site.root)
        assert "130" in done.screen.splitlines()

    def test_the_terminal_is_like_ours(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        shown = 'until [ "$(stty size)" = "31 97" ]; do sleep 0.05; done; echo as ours; exit\n'
        typed = [
            (r"\$ ", "echo =$TERM=; stty size\n"),
            (r"=dumb=\r\n24 93\r\n.*\$ ", partial(resize, rows=31, columns=97)),
            ("", shown),
        ]
        done = answer(argv, typed, cwd=site.root, env={"TERM": "dumb"}, columns=93)
        assert "as ours" in done.screen.splitlines()

    def test_much_in_both_directions(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        size = 5_000_000  # more than a channel holds
        typed = [
            (r"\$ ", f"stty raw -echo; echo up; head -c {size} | wc -c; exit\n"),
            ("up\n", "x" * size),
        ]
        done = answer(argv, typed, cwd=site.root)
        assert str(size) in done.screen.split()
        printed = answer(
            argv, [(r"\$ ", f"head -c {size} /dev/zero | tr '\\0' =; exit\n")], cwd=site.root
        )
        assert printed.screen.count("=" * size) == 1

    def test_a_protected_environment_wants_the_name(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own, "prod")
        argv = [INV, "remote.shell", "--env", "prod"]
        typed = [("type the database's name to go on: ", "postgres\n"), (r"\$ ", "exit\n")]
        assert answer(argv, typed, cwd=site.root).code == 0

    @pytest.mark.parametrize("task", ["remote.shell", "remote.psql"])
    def test_a_terminal_that_sshd_does_not_give(
        self, site: Site, own: DatabaseHost, task: str
    ) -> None:
        site.environment(own)
        with own.start_sshd(PermitTTY="no"):
            done = answer([INV, task, "--env", "shop"], [], cwd=site.root)
        assert done.code == 4
        assert "sshd gives no terminal there" in done.screen.splitlines()[-1]

    def test_a_line_that_is_lost(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.shell", "--env", "shop"]
        done = answer(argv, [(r"\$ ", "kill -9 $PPID\n")], cwd=site.root)
        assert done.code == 4, done.screen
        # the shell's prompt may stand before it
        assert f"error: deploy@{own.address}: the line " in done.screen.splitlines()[-1]
        own.quiet()

    @pytest.mark.parametrize(
        ("task", "prompt", "sign", "words"),
        [
            ("remote.shell", r"\$ ", signal.SIGTERM, "what was done in the shell stays"),
            ("remote.shell", r"\$ ", signal.SIGHUP, "what was done in the shell stays"),
            ("remote.psql", "postgres=[#>] ", signal.SIGTERM, "what psql had committed stays"),
        ],
    )
    def test_a_signal_ends_it(
        self,
        site: Site,
        own: DatabaseHost,
        task: str,
        prompt: str,
        sign: signal.Signals,
        words: str,
    ) -> None:
        site.environment(own)
        done = answer(
            [INV, task, "--env", "shop"], [(prompt, partial(interrupt, sign=sign))], cwd=site.root
        )
        assert done.code == 130, done.screen
        # the prompt may stand before it
        assert done.screen.splitlines()[-1].endswith(f"error: interrupted: {words}")
        own.quiet()

    def test_without_a_terminal(self, site: Site, db1: DatabaseHost) -> None:
        site.environment(db1)
        assert "remote.shell needs a terminal" in error(site.run("remote.shell"), 2)


class TestPsql:
    def test_on_a_terminal(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        argv = [INV, "remote.psql", "--env", "shop", "--write", "--confirm", "postgres"]
        typed = [("postgres=[#>] ", "\\! hostname\nSELECT 6*7 AS x;\n"), ("42", "\\q\n")]
        done = answer(argv, typed, cwd=site.root)
        assert done.code == 0, done.screen
        assert "db1" in done.screen.splitlines()
        own.quiet()

    def test_without_one(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        done = site.run("remote.psql", input="\\pset format unaligned\n\\t\nSELECT 6*7;\n")
        assert done.returncode == 0, done.stderr
        assert "42" in done.stdout.split()

    def test_a_protected_database_is_only_read(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own, "prod")
        text = "SHOW default_transaction_read_only;\n"
        done = site.run("remote.psql", env="prod", input=text)
        assert " on\n" in done.stdout
        assert "read-only, as " in done.stderr
        written = site.run(
            "remote.psql", "--write", "--confirm", "postgres", env="prod", input=text
        )
        assert " off\n" in written.stdout

    def test_an_error_in_it(self, site: Site, own: DatabaseHost) -> None:
        site.environment(own)
        text = "\\set ON_ERROR_STOP 1\nSELECT 1/0;\n"
        done = site.run("remote.psql", input=text)
        assert done.returncode == 1
        assert "division by zero" in done.stderr
        assert done.stderr.splitlines()[-1] == "error: psql failed: exit code 3"
