"""A host is who its key says it is: real keys, files as ssh and ssh-keygen write them."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from hosts import run_keygen

from pgtasks.errors import BadConfiguration, PgtasksError
from pgtasks.host.ssh import hostkeys
from pgtasks.host.ssh.config import Settings
from pgtasks.host.ssh.hostkeys import HostKeyError, UnknownHostKey


class Key:
    """A host's key, made by ssh-keygen."""

    def __init__(self, folder: Path, kind: str = "ed25519", name: str = "") -> None:
        self.path = folder / (name or kind)
        run_keygen("-t", kind, "-N", "", "-C", "a comment", "-f", str(self.path))
        self.key = paramiko.PKey.from_path(str(self.path))
        self.line = " ".join(self.public.read_text().split()[:2])

    @property
    def public(self) -> Path:
        """Return the file of its public half."""
        return self.path.with_name(f"{self.path.name}.pub")


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Key:
    return Key(tmp_path, name="other")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def host(file: Path, *, port: int = 22, revoked: str = "", shared: Sequence[str] = ()) -> Settings:
    """Return the settings of db1.example.com, whose key is known by a file."""
    name = "db1.example.com" if port == 22 else f"[db1.example.com]:{port}"
    return Settings(
        *("db1.example.com", port, "deploy", name, "db1.example.com"),
        known_hosts=(str(file),),
        shared_hosts=tuple(shared),
        revoked=revoked,
    )


def refusal(settings: Settings, key: Key, environment: str = "prod") -> str:
    """Return why a key is not taken."""
    with pytest.raises(HostKeyError) as caught:
        hostkeys.check(settings, key.key, environment=environment)
    assert "\n" not in caught.value.message
    return caught.value.message


class TestKnown:
    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    def test_by_its_name(self, tmp_path: Path, file: Path, kind: str) -> None:
        key = Key(tmp_path, kind)
        file.write_text(f"# a comment\n\nDB1.Example.com,10.0.0.1 {key.line} a comment\n")
        line = hostkeys.check(host(file), key.key)
        assert (line.file, line.number) == (str(file), 3)
        assert hostkeys.known_types(host(file)) == [key.key.get_name()]

    @pytest.mark.parametrize("port", [22, 2222])
    def test_by_a_hash_of_it(self, key: Key, file: Path, port: int) -> None:
        settings = host(file, port=port)
        file.write_text(f"{settings.name} {key.line}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
        assert file.read_text().startswith("|1|")
        assert hostkeys.check(settings, key.key).number == 1
        assert "unknown" in refusal(replace(settings, name="db2", plain="db2"), key)

    @pytest.mark.parametrize(
        ("names", "known"),
        [
            ("*.example.com", True),
            ("db?.example.com", True),
            ("*.example.com,!db1.example.com", False),
            ("[db1.example.com]:2222", False),
            ("db1.example.org", False),
            ("db1", False),
            ("db[1].example.com", False),  # brackets are no pattern to ssh
        ],
    )
    def test_by_a_pattern(self, key: Key, file: Path, names: str, known: bool) -> None:
        file.write_text(f"{names} {key.line}\n")
        if known:
            assert hostkeys.check(host(file), key.key).names == names
        else:
            assert "is unknown" in refusal(host(file), key)

    def test_by_its_name_without_the_port(self, key: Key, other: Key, file: Path) -> None:
        file.write_text(f"db1.example.com {key.line}\n")
        assert hostkeys.check(host(file, port=2222), key.key).number == 1
        file.write_text(f"[db1.example.com]:2222 {other.line}\ndb1.example.com {key.line}\n")
        assert "is not the one in" in refusal(host(file, port=2222), key)

    def test_by_the_machines_own_file(self, key: Key, file: Path, tmp_path: Path) -> None:
        shared = tmp_path / "shared"
        shared.write_text(f"db1.example.com {key.line}\n")
        assert hostkeys.check(host(file, shared=[str(shared)]), key.key).file == str(shared)

    def test_one_of_several(self, key: Key, other: Key, file: Path) -> None:
        file.write_text(f"db1.example.com {other.line}\ndb1.example.com {key.line}\n")
        assert hostkeys.check(host(file), key.key).number == 2

    def test_the_fingerprint_is_that_of_ssh_keygen(self, key: Key) -> None:
        shown = subprocess.run(["ssh-keygen", "-l", "-f", key.public], capture_output=True)
        assert hostkeys.fingerprint(key.key) == shown.stdout.split()[1].decode()


class TestRefused:
    def test_an_unknown_key(self, key: Key, file: Path) -> None:
        assert refusal(host(file), key) == (
            f"db1.example.com: its ssh-ed25519 key {hostkeys.fingerprint(key.key)} is unknown: "
            "inv remote.trust --env prod trusts it"
        )
        with pytest.raises(UnknownHostKey):
            hostkeys.check(host(file), key.key)

    def test_a_changed_key(self, key: Key, other: Key, file: Path) -> None:
        file.write_text(f"db1.example.com {other.line}\n")
        said = refusal(host(file), key)
        assert f"is not the one in {file}:1 (ssh-ed25519): somebody may sit in between" in said
        assert f"ssh-keygen -R db1.example.com -f {file}" in said
        with pytest.raises(HostKeyError) as caught:
            hostkeys.check(host(file), key.key)
        assert not isinstance(caught.value, UnknownHostKey)

    def test_the_way_out_of_a_changed_key_works(self, key: Key, other: Key, file: Path) -> None:
        settings = host(file, port=2222)
        file.write_text(f"{settings.name} {other.line}\n")
        command = refusal(settings, key).partition("when you are sure, ")[2].partition(" and ")[0]
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
        assert "is unknown" in refusal(settings, key)

    def test_a_key_of_another_type_than_the_known_one(self, key: Key, file: Path) -> None:
        rsa = Key(file.parent, "rsa")
        file.write_text(f"db1.example.com {rsa.line}\n")
        assert f"is not the one in {file}:1 (ssh-rsa)" in refusal(host(file), key)

    def test_a_revoked_key(self, key: Key, other: Key, file: Path) -> None:
        file.write_text(f"db1.example.com {key.line}\n@revoked * {key.line}\n")
        assert refusal(host(file), key).endswith(f"is revoked by {file}:2")
        file.write_text(f"db1.example.com {key.line}\n@revoked * {other.line}\n")
        assert hostkeys.check(host(file), key.key).number == 1

    def test_a_key_in_the_file_of_revoked_ones(self, key: Key, other: Key, file: Path) -> None:
        revoked = file.with_name("revoked")
        file.write_text(f"db1.example.com {key.line}\n")
        settings = host(file, revoked=str(revoked))
        revoked.write_text(f"{other.line}\n")
        assert hostkeys.check(settings, key.key).number == 1
        revoked.write_text(f"{other.line}\n{key.line}\n")
        assert refusal(settings, key).endswith(f"is revoked by {revoked}")

    def test_a_key_in_a_revocation_list_of_ssh_keygen(
        self, key: Key, other: Key, file: Path
    ) -> None:
        revoked = file.with_name("krl")
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", revoked, other.public], check=True)
        file.write_text(f"db1.example.com {key.line}\n")
        settings = host(file, revoked=str(revoked))
        assert hostkeys.check(settings, key.key).number == 1
        subprocess.run(["ssh-keygen", "-q", "-k", "-u", "-f", revoked, key.public], check=True)
        assert refusal(settings, key).endswith(f"is revoked by {revoked}")
        revoked.write_bytes(revoked.read_bytes()[:20])
        assert f"RevokedHostKeys {revoked}: " in refusal(settings, key)

    def test_a_list_of_revoked_keys_that_is_not_there(self, key: Key, file: Path) -> None:
        file.write_text(f"db1.example.com {key.line}\n")
        said = refusal(host(file, revoked="/nowhere/revoked"), key)
        assert said == "RevokedHostKeys /nowhere/revoked: No such file or directory"

    def test_a_certificate_authority_is_said(self, key: Key, other: Key, file: Path) -> None:
        file.write_text(f"@cert-authority *.example.com {other.line}\n")
        assert f"({file}:1 trusts certificates, which are not read here)" in refusal(
            host(file), key
        )
        assert hostkeys.known_types(host(file)) == []
        file.write_text(f"@cert-authority *.example.com {key.line}\n")
        assert "is unknown" in refusal(host(file), key)

    def test_lines_that_are_none(self, key: Key, file: Path) -> None:
        broken = [b"db1.example.com", b"db1.example.com ssh-ed25519", b"|1|x ssh-ed25519 AAAA"]
        file.write_bytes(b"\n".join([*broken, b"|1|!|! ssh-ed25519 AAAA", b"\xff\xfe \x00 x"]))
        assert "is unknown" in refusal(host(file), key)

    def test_a_file_that_cannot_be_read(self, key: Key, tmp_path: Path) -> None:
        assert refusal(host(tmp_path), key) == f"known hosts {tmp_path}: Is a directory"


class TestTrust:
    def test_a_key_is_appended(self, key: Key, other: Key, file: Path) -> None:
        before = f"other {other.line}"
        file.write_text(before)  # its last line has no end
        assert hostkeys.trust(host(file, port=2222), key.key) == file
        assert file.read_text() == f"{before}\n[db1.example.com]:2222 {key.line}\n"
        assert hostkeys.check(host(file, port=2222), key.key).number == 2

    @pytest.mark.parametrize("hashed", [False, True])
    def test_ssh_finds_it(self, key: Key, file: Path, hashed: bool) -> None:
        hostkeys.trust(replace(host(file, port=2222), hashed=hashed), key.key)
        assert file.read_text().startswith("|1|") == hashed
        argv = ["ssh-keygen", "-F", "[db1.example.com]:2222", "-f", str(file)]
        found = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert key.line in found.stdout

    def test_a_file_is_made_for_this_user_alone(self, key: Key, tmp_path: Path) -> None:
        file = tmp_path / "new" / "known_hosts"
        hostkeys.trust(host(file), key.key)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)]
        assert modes == [0o700, 0o600]

    def test_a_file_that_cannot_be_written(self, key: Key, tmp_path: Path) -> None:
        with pytest.raises(PgtasksError, match=r"^cannot write '.*': Is a directory$"):
            hostkeys.trust(host(tmp_path), key.key)

    def test_no_file(self, key: Key, file: Path) -> None:
        with pytest.raises(BadConfiguration, match="there is no file for its key"):
            hostkeys.trust(replace(host(file), known_hosts=()), key.key)
