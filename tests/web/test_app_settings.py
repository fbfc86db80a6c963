"""What the application refuses before it serves anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from layout import lay_out

from clinic.web import create_app
from pgtasks.errors import BadConfiguration

KEYS = f"SECURITY_KEYS={'0123456789abcdef' * 2}\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = "host: h\ndatabase: d\npool: {role: clinic_app}\n"
    root = lay_out(tmp_path, {"env/prod.yaml": lines, "env/qa.yaml": lines, "env/prod.env": KEYS})
    monkeypatch.chdir(root)
    return root


def test_it_is_made_from_the_settings_and_connects_to_nothing() -> None:
    app = create_app("prod")
    assert app.config["SESSION_COOKIE_SECURE"] is True
    assert app.config["SESSION_COOKIE_NAME"] == "__Host-clinic"
    assert create_app("qa").config["SESSION_COOKIE_SECURE"] is False


@pytest.mark.parametrize(
    "security", [{"cookie_secure": False}, {"password_min": 4}, {"session_idle": 10**6}]
)
def test_no_argument_makes_a_protected_environment_insecure(security: dict[str, Any]) -> None:
    create_app("qa", security=security)
    (setting,) = security
    with pytest.raises(BadConfiguration, match=rf"^create_app\(security=...\): security.{setting}"):
        create_app("prod", security=security)


def test_a_protected_environment_needs_a_key_of_its_own(project: Path) -> None:
    (project / "env" / "prod.env").unlink()
    with pytest.raises(BadConfiguration, match="'prod' is protected, and has no signing key"):
        create_app("prod")
