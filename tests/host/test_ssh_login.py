"""The `ssh` setting: its text, its block, its variables, and the one line for a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.settings import fields, ssh
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target, from_environment


def target(root: Path, text: str, *, name: str = "prod") -> Target:
    """Return the target of an environment whose file says `text`."""
    (root / "env").mkdir(exist_ok=True)
    (root / "tasks.py").touch()
    (root / "env" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return from_environment(resolve(load(root), name))


def refused(root: Path, text: str) -> str:
    """Return the line for a file that is not taken, without its folder."""
    with pytest.raises(BadConfiguration) as caught:
        target(root, text)
    assert "\n" not in caught.value.message
    return caught.value.message


class TestText:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("db1", ("db1", "", None)),
            ("deploy@db1", ("db1", "deploy", None)),
            ("deploy@db1:2222", ("db1", "deploy", 2222)),
            ("ssh://deploy@db1.example.com:22/", ("db1.example.com", "deploy", 22)),
            ("deploy@[2001:db8::1]:2222", ("2001:db8::1", "deploy", 2222)),
            ("de.ploy-1@10.0.0.1", ("10.0.0.1", "de.ploy-1", None)),
        ],
    )
    def test_it_may_be_one_line(
        self, tmp_path: Path, text: str, said: tuple[str, str, int | None]
    ) -> None:
        found = target(tmp_path, f"ssh: {text!r}\n").ssh
        assert found is not None
        assert (found.host, found.user, found.port) == said

    @pytest.mark.parametrize(
        "text",
        ["deploy@", "db1:port", "a b", "db1:", "db1:999999", "-oProxyCommand=x", "-l@db1", "a@b@c"],
    )
    def test_another_line_is_refused(self, tmp_path: Path, text: str) -> None:
        said = refused(tmp_path, f"ssh: {text!r}\n")
        assert said.startswith("env/prod.yaml:1: ssh: ")
        assert repr(text) in said

    def test_a_port_out_of_range_names_its_place(self, tmp_path: Path) -> None:
        said = refused(tmp_path, "ssh: db1:70000\n")
        assert "ssh.port: 70000, expected 1 to 65535" in said

    def test_it_reads_as_it_is_written(self) -> None:
        texts = ["db1", "deploy@db1", "deploy@db1:2222", "deploy@[2001:db8::1]:2222"]
        for text in texts:
            said: dict[str, Any] = ssh.parse(text, "ssh")
            assert str(ssh.checked(fields.build(Login, said), "ssh")) == text


class TestBlock:
    def test_everything_that_it_may_say(self, tmp_path: Path) -> None:
        text = """\
ssh:
  host: db1
  user: deploy
  port: 2222
  identity: keys/id
  jump: ops@bastion:2200, other
  known_hosts: keys/known_hosts
  connect_timeout: 1
  banner_timeout: 2
  auth_timeout: 3
  channel_timeout: 4
  silence: 5
  bin: /opt/pg/bin
  backups: /srv/backups
  sudo_user: postgres
"""
        # paths of this machine start at the project, those of that one stay as they are
        assert target(tmp_path, text).ssh == Login(
            host="db1",
            user="deploy",
            port=2222,
            identity=str(tmp_path / "keys/id"),
            jump="ops@bastion:2200, other",
            known_hosts=str(tmp_path / "keys/known_hosts"),
            connect_timeout=1,
            banner_timeout=2,
            auth_timeout=3,
            channel_timeout=4,
            silence=5,
            bin="/opt/pg/bin",
            backups="/srv/backups",
            sudo_user="postgres",
        )

    def test_an_identity_at_home(self, tmp_path: Path) -> None:
        found = target(tmp_path, "ssh: {host: db1, identity: ~/.ssh/prod}\n").ssh
        assert found is not None
        assert found.identity == str(Path("~/.ssh/prod").expanduser())

    def test_its_host_may_be_a_line(self, tmp_path: Path) -> None:
        found = target(tmp_path, "ssh: {host: 'ann@db1:2222', user: deploy}\n").ssh
        assert found == Login("db1", "deploy", 2222)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("ssh: {user: deploy}", "ssh: no host"),
            ("ssh:\n  hots: db1", "env/prod.yaml:2: unknown key 'ssh.hots', did you mean 'host'"),
            ("ssh: {host: db1, port: ssh}", "ssh.port: 'ssh', expected a number"),
            ("ssh: {host: db1, connect_timeout: 0}", "ssh.connect_timeout: 0, expected 1 to 3600"),
            ("ssh: {host: db1, silence: 1}", "ssh.silence: 1, expected 5 to 3600"),
            ("ssh: {host: [db1]}", "ssh.host: a list, expected text"),
            ("ssh: [db1]", "ssh: a list, expected a block of keys"),
            ("ssh: {host: db1, jump: 'a b'}", "ssh.jump: 'a b', expected user@host"),
            ("ssh: {host: db1, jump: '-oX=y'}", "ssh.jump: '-oX=y', expected user@host"),
            ("ssh: {host: db1, sudo_user: 'a; rm'}", "ssh.sudo_user: 'a; rm', expected an account"),
            ("ssh: db1\nserver: embedded", "keep one"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        assert said in refused(tmp_path, f"{text}\n")

    @pytest.mark.parametrize("key", ["password", "passphrase"])
    def test_there_is_no_password_in_it(self, tmp_path: Path, key: str) -> None:
        said = refused(tmp_path, f"ssh:\n  host: db1\n  {key}: s3cret\n")
        assert f"env/prod.yaml:3: ssh.{key}: the login needs keys" in said
        assert "s3cret" not in said


class TestVariable:
    def test_a_line_replaces_the_block_of_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_PROD_SSH", "ann@db9:2222")
        found = target(tmp_path, "ssh: {host: db1, user: deploy, identity: id}\n").ssh
        assert found == Login("db9", "ann", 2222)

    def test_one_setting_changes_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_PROD_SSH_PORT", "2222")
        monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_PROD_SSH_IDENTITY", "keys/other")
        found = target(tmp_path, "ssh: {host: db1, user: deploy}\n").ssh
        assert found == Login("db1", "deploy", 2222, identity=str(tmp_path / "keys/other"))

    def test_a_wrong_one_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_PROD_SSH", "ann@")
        said = refused(tmp_path, "ssh: db1\n")
        assert said.startswith("INVOKE_PGTASKS_ENVIRONMENTS_PROD_SSH: 'ann@', expected user@host")


def test_an_environment_without_a_host_has_no_login() -> None:
    assert ssh.checked(None, "env/dev.yaml") is None
    with pytest.raises(Refused, match="environment 'dev' has no ssh"):
        ssh.required(None, "dev")
