"""Fixtures for tests of applications: what they switch, what they put back, where they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from layout import lay_out

FORMS = """
from flask import Flask
from flask_wtf import CSRFProtect

app = Flask("forms")
app.secret_key = "x"
CSRFProtect(app)


@app.post("/")
def send():
    return "sent"
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs pytest on a test file, in a project with a protected environment."""
    root = lay_out(
        tmp_path / "shop",
        {
            "env/qa.yaml": "host: h\ndatabase: d\n",
            "env/prod.yaml": "host: p\ndatabase: d\n",
            "forms.py": FORMS,
        },
    )

    def run(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (root / "test_it.py").write_text(text, encoding="utf-8")
        argv = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
        return subprocess.run([*argv, "-q"], cwd=root, env=env, capture_output=True, text=True)

    return run


ENVIRONMENT = """
import os
import pgtasks
import pgtasks.service as service
import pytest
from pgtasks.errors import Refused

def test_it_is_chosen_for_the_service_too(pgtasks_environment):
    before = service.initialize_database(env="test")
    assert pgtasks_environment("QA") == pgtasks.current_env == service.get_active_env() == "qa"
    assert pgtasks_environment("dev") == service.get_active_env() == "dev"
    pgtasks.set_environment("qa")

def test_it_was_put_back():
    assert os.environ.get("PGTASKS_ENV") == os.environ.get("EXPECTED")
    assert service.get_active_env() == (os.environ.get("EXPECTED") or "dev")

def test_a_protected_one_is_refused(pgtasks_environment):
    with pytest.raises(Refused, match="'prod' is protected: a test cannot work there"):
        pgtasks_environment("prod")
    with pytest.raises(Refused, match="unknown environment"):
        pgtasks_environment("nowhere")
    assert pgtasks.current_env != "prod"
"""


@pytest.mark.parametrize("variables", [{}, {"PGTASKS_ENV": "qa", "EXPECTED": "qa"}])
def test_an_environment_is_set_and_put_back(run: Run, variables: dict[str, str]) -> None:
    done = run(ENVIRONMENT, **variables)
    assert "3 passed" in done.stdout, done.stdout


CSRF = """
from forms import app

def test_without(pgtasks_without_csrf):
    assert app.test_client().post("/").status_code == 400
    assert pgtasks_without_csrf(app) is app
    assert app.test_client().post("/").text == "sent"

def test_again():
    assert app.test_client().post("/").status_code == 400
    assert app.config["WTF_CSRF_ENABLED"] is True
"""


def test_forms_come_without_a_token_in_one_test(run: Run) -> None:
    done = run(CSRF)
    assert "2 passed" in done.stdout, done.stdout


PROTECTED = """
import pytest
from forms import app
from pgtasks.errors import Refused
from pgtasks.service import DatabaseService, initialize_database

def test_the_environment_of_the_process(pgtasks_without_csrf, monkeypatch):
    monkeypatch.setenv("PGTASKS_ENV", "prod")
    with pytest.raises(Refused, match="'prod' is protected: its forms keep their CSRF tokens"):
        pgtasks_without_csrf(app)
    assert app.test_client().post("/").status_code == 400

def test_the_service_of_the_process(pgtasks_without_csrf):
    initialize_database(env="prod")
    with pytest.raises(Refused, match="'prod' is protected"):
        pgtasks_without_csrf(app)
    initialize_database(env="qa")

def test_the_service_of_the_application(pgtasks_without_csrf):
    app.extensions["pgtasks"] = DatabaseService("prod")
    with pytest.raises(Refused, match="'prod' is protected"):
        pgtasks_without_csrf(app)
    assert app.config["WTF_CSRF_ENABLED"] is True
"""


def test_forms_of_a_protected_environment_keep_their_tokens(run: Run) -> None:
    done = run(PROTECTED)
    assert "3 passed" in done.stdout, done.stdout


FLAG = """
import pytest
from pgtasks.errors import Refused
from pgtasks.service import is_integration_test

def test_on(pgtasks_integration):
    assert is_integration_test()

def test_off(monkeypatch):
    for name in ("PGTASKS_INTEGRATION", "INTEGRATION_TEST", "TESTING"):
        monkeypatch.setenv(name, "1")
    assert not is_integration_test()

def test_protected_meanwhile(pgtasks_integration, monkeypatch):
    monkeypatch.setenv("PGTASKS_ENV", "prod")
    with pytest.raises(Refused, match="'prod' is protected: it has no integration tests"):
        is_integration_test()
"""


def test_a_flag_of_integration_tests(run: Run) -> None:
    done = run(FLAG)
    assert "3 passed" in done.stdout, done.stdout


def test_the_flag_is_refused_where_protected(run: Run) -> None:
    done = run("def test_on(pgtasks_integration):\n    assert 0\n", PGTASKS_ENV="prod")
    assert done.returncode == 1
    assert "environment 'prod' is protected: it has no integration tests" in done.stdout
    assert "Traceback" not in done.stdout
    assert "1 error" in done.stdout


NO_FIXTURE = """
import pytest
from pgtasks.errors import Refused
from pgtasks.service import get_db_session, initialize_database

def test_it_is_not_connected_to():
    initialize_database(env="prod")
    with pytest.raises(Refused, match="a test asks for the database of environment 'prod'"):
        with get_db_session() as session:
            session.connection()
"""


def test_a_test_without_a_database_reaches_no_protected_one(run: Run) -> None:
    done = run(NO_FIXTURE)
    assert done.returncode == 0, done.stdout
