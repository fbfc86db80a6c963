"""What ~/.ssh/config says counts as it does for ssh, and what does not is said."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path

import pytest

from pgtasks.errors import BadConfiguration
from pgtasks.host.ssh import config
from pgtasks.host.ssh.config import Settings, settings
from pgtasks.host.ssh.route import Route
from pgtasks.settings.ssh import Login

# there is no configuration of the machine that would say anything of these hosts


@pytest.fixture(autouse=True)
def _asks_ssh() -> None:
    if shutil.which("ssh") is None:
        pytest.skip("openssh-client is not installed")


def configure(text: str, name: str = "config") -> Path:
    """Write a file of ~/.ssh."""
    path = Path.home() / ".ssh" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def found(text: str, wanted: Login | str = "db") -> Settings:
    """Return how a host is reached under a configuration."""
    configure(text)
    return settings(wanted if isinstance(wanted, Login) else Login(wanted))


class TestHost:
    def test_without_a_configuration(self) -> None:
        one = settings(Login("db1.example.com"))
        assert (one.host, one.port, one.user) == ("db1.example.com", 22, getpass.getuser())
        assert one.name == "db1.example.com"
        assert one.known_hosts[0] == str(Path.home() / ".ssh/known_hosts")
        assert str(Path.home() / ".ssh/id_ed25519") in one.identities
        assert (one.jumps, one.proxy_command, one.unapplied) == ((), "", ())

    def test_an_alias_is_a_host(self) -> None:
        one = found("Host db\n HostName db1.example.com\n User deploy\n Port 2222\n")
        assert str(one) == "deploy@db1.example.com:2222"
        assert one.name == "[db1.example.com]:2222"
        assert one.plain == "db1.example.com"

    def test_an_account_without_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nameless() -> str:
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.setattr(getpass, "getuser", nameless)
        text = "Host db\n User deploy\n IdentityFile /keys/%u\n"
        assert found(text).identities == (f"/keys/{os.getuid()}",)

    def test_the_environments_own_words_win(self) -> None:
        text = "Host db\n HostName db1\n User ann\n Port 2222\n IdentityFile ~/.ssh/ann\n"
        one = found(f"{text} ProxyJump gate\n", Login("db", "deploy", 22, "/k/id", jump="none"))
        assert str(one) == "deploy@db1"
        assert (one.identities, one.identities_only) == (("/k/id",), True)
        assert one.jumps == ()

    def test_included_files_count(self) -> None:
        configure("Host db\n HostName db1.example.com\n", "more")
        assert found("Include more\n").host == "db1.example.com"

    def test_conditions_count(self) -> None:
        text = "Match host db user ann\n HostName db1\nMatch host db exec true\n HostName db2\n"
        assert found(text, Login("db", "ann")).host == "db1"
        assert found(text, Login("db", "bob")).host == "db2"

    def test_a_key_may_be_known_by_another_name(self) -> None:
        one = found("Host db\n HostName 10.0.0.1\n Port 2222\n HostKeyAlias prod-db\n")
        # ssh looks an alias up as it stands, whatever the port
        assert (one.host, one.name, one.plain) == ("10.0.0.1", "prod-db", "")

    def test_an_address_with_colons(self) -> None:
        one = settings(Login("2001:db8::1", "deploy", 2222))
        assert (one.host, one.name) == ("2001:db8::1", "[2001:db8::1]:2222")
        assert str(one) == "deploy@[2001:db8::1]:2222"

    def test_a_configuration_that_ssh_refuses(self) -> None:
        with pytest.raises(
            BadConfiguration, match=r"^ssh -G db: .*config: line 1: Bad configuration option: prot"
        ):
            found("Prot 22\n")

    def test_a_circle_of_jump_hosts(self) -> None:
        configure("Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost db\n ProxyJump a\n")
        with pytest.raises(BadConfiguration, match="a cycle of jump hosts"):
            Route(Login("db"))


class TestFiles:
    def test_keys_are_found_where_the_tokens_lead(self) -> None:
        text = 'Host db\n HostName db1\n User ann\n IdentityFile "%d/my keys/%r@%h"\n'
        assert found(text).identities == (f"{Path.home()}/my keys/ann@db1",)

    def test_a_variable_in_a_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEYS", "/k")
        assert found("Host db\n IdentityFile ${KEYS}/id\n").identities == ("/k/id",)

    def test_only_these_keys(self) -> None:
        assert not found("").identities_only
        assert found("IdentitiesOnly yes\n").identities_only

    def test_files_of_known_hosts_may_have_spaces(self) -> None:
        one = found('UserKnownHostsFile "/k/known hosts" ~/.ssh/more\nGlobalKnownHostsFile /g\n')
        assert one.known_hosts == ("/k/known hosts", f"{Path.home()}/.ssh/more")
        assert one.shared_hosts == ("/g",)
        assert config.trusted_file(one) == Path("/k/known hosts")

    def test_names_are_hashed_where_ssh_hashes_them(self) -> None:
        assert found("HashKnownHosts yes\n").hashed
        assert not found("HashKnownHosts no\n").hashed
        # the project's own file is read by people
        assert not found("HashKnownHosts yes\n", Login("db", known_hosts="/k")).hashed

    def test_the_environments_file_is_the_only_one(self) -> None:
        one = found("UserKnownHostsFile /other\n", Login("db", known_hosts="/k/known %h"))
        assert (one.known_hosts, one.shared_hosts) == (("/k/known %h",), ())

    def test_no_file_to_trust_a_key_in(self) -> None:
        one = found("UserKnownHostsFile none\n")
        assert one.known_hosts == ()
        with pytest.raises(BadConfiguration, match=r"no file .* name one in ssh.known_hosts"):
            config.trusted_file(one)

    def test_revoked_keys(self) -> None:
        assert found("RevokedHostKeys ~/revoked\n").revoked == f"{Path.home()}/revoked"
        assert found("RevokedHostKeys none\n").revoked == ""


class TestWay:
    def test_jump_hosts_in_order(self) -> None:
        assert found("Host db\n ProxyJump a,ann@b:2222\n").jumps == ("a", "ann@b:2222")
        assert found("Host db\n ProxyJump %r@gate\n", Login("db", "ann")).jumps == ("ann@gate",)

    def test_a_jump_host_has_settings_of_its_own(self) -> None:
        text = "Host gate\n HostName gate.example.com\n User ops\n Port 2200\n ProxyJump first\n"
        configure(f"Host db\n ProxyJump gate\n{text}Host first\n User one\n")
        way = Route(Login("db", "deploy", known_hosts="/k", identity="/id")).hosts
        assert [str(host) for host in way] == [
            "one@first",
            "ops@gate.example.com:2200",
            "deploy@db",
        ]
        assert {host.known_hosts for host in way} == {("/k",)}
        # the environment's key may be theirs too; for its own host it is the only one
        assert [host.identities[0] for host in way] == ["/id"] * 3
        assert [len(host.identities) > 1 for host in way] == [True, True, False]

    def test_several_jump_hosts_are_the_whole_way(self) -> None:
        configure("Host b\n ProxyJump elsewhere\n")
        way = Route(Login("db", "u", jump="u@a,u@b")).hosts
        assert [str(host) for host in way] == ["u@a", "u@b", "u@db"]

    def test_a_program_on_the_way(self) -> None:
        text = "Host db\n HostName db1\n Port 2222\n ProxyCommand nc -X 5 %h %p 100%%\n"
        assert found(text).proxy_command == "nc -X 5 db1 2222 100%"
        assert found("Host db\n ProxyCommand none\n").proxy_command == ""
        assert found(text, Login("db", jump="gate")).proxy_command == ""


class TestAlgorithms:
    def test_those_of_ssh_are_allowed(self) -> None:
        assert "ssh-ed25519" in found("").algorithms["key_types"]
        assert found("").algorithms.keys() == {"ciphers", "digests", "kex", "key_types"}

    def test_those_of_the_configuration_alone(self) -> None:
        one = found("Ciphers aes256-ctr\nMACs hmac-sha2-512\n").algorithms
        assert (one["ciphers"], one["digests"]) == (("aes256-ctr",), ("hmac-sha2-512",))


class TestUnapplied:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("StrictHostKeyChecking no", ("stricthostkeychecking no", "false")),
            ("CertificateFile ~/.ssh/c.pub", ("certificatefile ~/.ssh/c.pub",)),
            ("ConnectTimeout 3", ("connecttimeout 3",)),
            ("AddressFamily inet6", ("addressfamily inet6",)),
            ("BindAddress 127.0.0.1", ("bindaddress 127.0.0.1",)),
            ("VerifyHostKeyDNS yes", ("verifyhostkeydns true", "verifyhostkeydns yes")),
            ("PubkeyAuthentication no", ("pubkeyauthentication false", "pubkeyauthentication no")),
            ("KnownHostsCommand /bin/true", ("knownhostscommand /bin/true",)),
        ],
    )
    def test_what_has_no_effect_is_said(self, line: str, said: tuple[str, ...]) -> None:
        (only,) = found(f"{line}\n").unapplied
        assert only.endswith(said)

    def test_what_changes_nothing_is_not(self) -> None:
        text = "HashKnownHosts yes\nServerAliveInterval 5\nControlMaster auto\nSendEnv LANG\n"
        assert found(f"{text}StrictHostKeyChecking yes\n").unapplied == ()


class TestWithoutSsh:
    @pytest.fixture(autouse=True)
    def _no_ssh(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_the_library_reads_the_file(self) -> None:
        text = (
            "Host db\n HostName db1\n User ann\n Port 2222\n IdentityFile /k/id\n ProxyJump gate\n"
        )
        one = found(text)
        assert (str(one), one.identities, one.jumps) == ("ann@db1:2222", ("/k/id",), ("gate",))
        assert str(found(text, Login("db", "bob", 22))) == "bob@db1"

    def test_what_it_leaves_out_is_said(self) -> None:
        (said,) = found("Include more\n").unapplied
        assert said == "Include more (there is no ssh program to ask)"

    def test_keys_of_the_usual_names(self) -> None:
        path = configure("x", "id_ed25519")
        configure("x", "id_ed25519.pub")
        assert found("").identities == (str(path),)
