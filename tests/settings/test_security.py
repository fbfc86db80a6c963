"""The security of an application: its settings, and the keys that it signs with."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from layout import lay_out, settings
from waiting import PATIENCE

import pgtasks.service
from pgtasks.errors import BadConfiguration
from pgtasks.health.settings import audit
from pgtasks.service import Security, get_config, get_security_settings, get_signing_keys
from pgtasks.settings import project

KEY = "0123456789abcdef" * 2 + "0"
OTHER = "fedcba9876543210" * 2


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = lay_out(
        tmp_path / "shop", {"env/dev.yaml": "", "env/prod.yaml": "host: h\ndatabase: d\n"}
    )
    monkeypatch.chdir(root)
    return root


# --- settings ---


def test_the_defaults_are_secure_where_the_environment_is_protected(app: Path) -> None:
    dev, prod = get_security_settings("dev"), get_security_settings("prod")
    assert prod == Security()
    assert (prod.cookie_secure, prod.hsts) == (True, 31536000)
    assert (dev.cookie_secure, dev.hsts) == (False, 0)
    assert (prod.session_idle, prod.access_token, prod.remember_lifetime) == (1800, 600, 1209600)


def test_what_is_said_counts_and_the_config_has_it(app: Path) -> None:
    lay_out(app, {"env/dev.yaml": "security: {session_idle: 5min, cookie_secure: true, hsts: 60}"})
    found = get_config()["security"]
    assert (found["session_idle"], found["cookie_secure"], found["hsts"]) == (300, True, 60)
    assert found["login_attempts"] == 5


def test_it_is_looked_up_at_each_access(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pgtasks.service.SECURITY_SETTINGS.session_idle == 1800
    lay_out(app, {"env/dev.yaml": "security: {session_idle: 60}"})
    assert pgtasks.service.SECURITY_SETTINGS.session_idle == 60
    monkeypatch.setenv("PGTASKS_ENV", "prod")
    assert pgtasks.service.SECURITY_SETTINGS.cookie_secure


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cookie_secure: false", "cookie_secure: false, expected true"),
        ("password_min: 7", "password_min: 7, expected 8 or more"),
        ("password_common: no", "password_common: false, expected true"),
        ("session_idle: 25h", "session_idle: 90000, expected 1d at most"),
        ("session_lifetime: 31d", "session_lifetime: 2678400, expected 30d at most"),
        ("remember_lifetime: 52w", "remember_lifetime: 31449600, expected 90d at most"),
        ("access_token: 61min", "access_token: 3660, expected 1h at most"),
        ("refresh_token: 91d", "refresh_token: 7862400, expected 90d at most"),
        ("login_attempts: 21", "login_attempts: 21, expected 20 at most"),
        ("login_delay: 0", "login_delay: 0, expected 1min or more"),
        ("login_rate: 601", "login_rate: 601, expected 600 at most"),
        ("argon2_memory: 4096", "argon2_memory: 4096, expected 7168 or more"),
        ("argon2_time: 1", "argon2_time: 1, expected argon2_time [*] argon2_memory of 35840"),
    ],
)
def test_what_is_not_secure_is_refused_where_protected(
    app: Path, setting: str, message: str
) -> None:
    lay_out(app, {"env/dev.yaml": f"security: {{{setting}}}"})
    get_security_settings("dev")
    lay_out(app, {"env/prod.yaml": f"security:\n  {setting}\n"})
    expected = rf"^env/prod\.yaml:2: security\.{message}.* in 'prod', which is protected$"
    for asked in (get_security_settings, get_config):
        with pytest.raises(BadConfiguration, match=expected):
            asked("prod")
    assert settings(app, "prod").settings.protected  # a task goes on
    findings = audit(project.load(app), "prod").findings
    faults = [each for each in findings if each.check == "security"]
    assert {each.level for each in faults} == {"fault"}
    assert re.search(expected, faults[0].message)


def test_the_check_names_all_faults_at_once_each_with_its_layer(app: Path) -> None:
    weak = "security:\n  cookie_secure: false\n  login_rate: 601\n  password_min: 7\n"
    lay_out(
        app,
        {
            "env/prod.yaml": f"host: h\ndatabase: d\n{weak}",
            "env/prod.env": "SECURITY_KEYS=short\n",
        },
    )
    findings = audit(project.load(app), "prod").findings
    assert [each.message.partition(",")[0] for each in findings if each.check == "security"] == [
        "env/prod.yaml:4: security.cookie_secure: false",
        "env/prod.yaml:6: security.password_min: 7",
        "env/prod.yaml:5: security.login_rate: 601",
        "environment 'prod': a signing key has fewer than 32 bytes",
    ]


def test_the_check_notes_a_missing_key_where_the_application_has_logins(app: Path) -> None:
    def notes() -> list[tuple[str, str]]:
        findings = audit(project.load(app)).findings
        return [(each.environment, each.message) for each in findings if "key" in each.check]

    assert notes() == []  # no sign of an application with logins
    lay_out(app, {"env/dev.yaml": "pool: {role: shop_app}\n"})
    assert notes() == []
    lay_out(app, {"env/dev.yaml": "security: {login_rate: 5}\n"})
    assert notes() == [
        (
            "prod",
            "no signing key, and the project's application has logins (env/dev.yaml:1 sets "
            "security.login_rate): put SECURITY_KEYS=... into env/prod.env, or set "
            "security.keys_command; `openssl rand -hex 32` prints one",
        )
    ]
    lay_out(app, {"env/prod.env": f"SECURITY_KEYS={KEY}\n"})
    assert notes() == []
    lay_out(app, {"env/prod.env": "", "invoke.yaml": "pgtasks:\n  environments:\n    prod:\n"
                  "      security: {keys_command: pass show keys}\n"})  # fmt: skip
    assert notes() == []


def test_no_variable_makes_it_insecure(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "INVOKE_PGTASKS_ENVIRONMENTS_PROD_SECURITY_COOKIE_SECURE"
    monkeypatch.setenv(name, "false")
    with pytest.raises(BadConfiguration, match=f"^{name}: security.cookie_secure: false"):
        get_security_settings("prod")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("password_min: 65, password_max: 64", "password_min: 65, expected 64 at most"),
        ("argon2_parallelism: 255, argon2_memory: 2000", "8 KiB or more for each lane"),
        ("cookie_samesite: None", "known: Lax, Strict"),
        ("session_idle: 0", "expected 1 to 31536000"),
        ("sesion_idle: 1", "unknown key 'security.sesion_idle', did you mean 'session_idle'"),
        ("keys: [a, b]", "a key does not belong in this file, use SECURITY_KEYS"),
        ("password: x", "a password does not belong"),
    ],
)
def test_what_cannot_be_is_refused_everywhere(app: Path, setting: str, message: str) -> None:
    lay_out(app, {"env/dev.yaml": f"security: {{{setting}}}"})
    with pytest.raises(BadConfiguration, match=message):
        get_security_settings("dev")


# --- keys ---


def test_the_keys_of_the_dotenv_file_in_their_order(app: Path) -> None:
    lay_out(app, {"env/prod.env": f"SECURITY_KEYS='{OTHER} {KEY}  {OTHER}'\n"})
    keys = get_signing_keys("prod")
    assert [key.reveal() for key in keys] == [OTHER, KEY]
    assert repr(keys) == "(***, ***)"
    assert not (app / ".pgtasks").exists()
    assert KEY not in repr(get_config("prod"))


def test_the_keys_of_the_process_and_of_a_command(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(app, {"env/prod.yaml": "security: {keys_command: cat keys}\n", "keys": f"{KEY}\n"})
    assert [key.reveal() for key in get_signing_keys("prod")] == [KEY]
    monkeypatch.setenv("PROD_SECURITY_KEYS", OTHER)
    assert [key.reveal() for key in get_signing_keys("prod")] == [OTHER]
    lay_out(app, {"env/prod.yaml": "security: {keys_command: env}\n"})
    monkeypatch.delenv("PROD_SECURITY_KEYS")
    monkeypatch.setenv("DEV_SECURITY_KEYS", OTHER)
    with pytest.raises(BadConfiguration, match="'env': expected one line with the keys") as caught:
        get_signing_keys("prod")
    assert OTHER not in str(caught.value)


@pytest.mark.parametrize("key", ["short", "a" * 64, "ü" * 15, f"{KEY} short"])
def test_a_key_that_can_be_guessed_is_refused_without_its_text(app: Path, key: str) -> None:
    lay_out(app, {"env/prod.env": f"SECURITY_KEYS='{key}'\n"})
    with pytest.raises(BadConfiguration, match="environment 'prod': a signing key") as caught:
        get_signing_keys("prod")
    assert key.split()[-1] not in str(caught.value)
    assert any(each.check == "security" for each in audit(project.load(app), "prod").findings)


def test_a_protected_environment_must_have_one(app: Path) -> None:
    with pytest.raises(
        BadConfiguration,
        match=r"'prod' is protected, and has no signing key: put SECURITY_KEYS=... into env/prod",
    ):
        get_signing_keys("prod")
    assert not (app / ".pgtasks").exists()


def test_an_heir_does_not_sign_with_the_keys_of_production(app: Path) -> None:
    lay_out(
        app,
        {
            "env/prod.env": f"SECURITY_KEYS='{KEY}'\n",
            "env/staging.yaml": "inherits: prod\nprotected: false\n",
        },
    )
    assert get_signing_keys("staging")[0].reveal() != KEY


def test_other_environments_make_one_that_stays(app: Path) -> None:
    os.umask(umask := os.umask(0))
    os.umask(0)
    try:
        (key,) = get_signing_keys("dev")
    finally:
        os.umask(umask)
    file = app / ".pgtasks" / "dev.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(key.reveal()) == 64
    assert get_signing_keys("dev") == (key,)
    assert get_signing_keys("test") != (key,)
    file.write_bytes(b"cut sho")  # by a crash
    (new,) = get_signing_keys("dev")
    assert new != key
    assert file.read_text() == f"{new.reveal()}\n"


def test_processes_that_begin_together_have_one_key(app: Path) -> None:
    code = (
        "import sys, pgtasks.service as s; s.get_signing_keys; print('ready', flush=True);"
        "sys.stdin.readline(); print(s.get_signing_keys('dev')[0].reveal())"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=PATIENCE)[0] for process in processes}
    assert len(keys) == 1
    assert len(keys.pop()) == 65


def test_a_key_that_others_can_read_or_replace_is_refused(app: Path, tmp_path: Path) -> None:
    get_signing_keys("dev")
    file = app / ".pgtasks" / "dev.key"
    file.chmod(0o640)
    with pytest.raises(BadConfiguration, match=r"\.pgtasks/dev\.key can be read by others"):
        get_signing_keys("dev")
    if os.geteuid() == 0:
        file.chmod(0o600)
        os.chown(file, 12345, 12345)
        with pytest.raises(BadConfiguration, match=r"\.pgtasks/dev\.key can be read by others"):
            get_signing_keys("dev")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadConfiguration, match=r"SECURITY_KEYS=\.\.\. into env/dev.env"):
        get_signing_keys("dev")
    assert not (tmp_path / "elsewhere").exists()
