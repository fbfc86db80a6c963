"""What an application gets from pgtasks: its environment, its settings, its database's URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from conftest import PASSWORD
from layout import lay_out
from servers import Cluster
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

import pgtasks
from pgtasks.errors import BadConfiguration, Refused, Unreachable
from pgtasks.server import embedded
from pgtasks.service import DatabaseService

PUBLIC = [
    "call",
    "current_env",
    "discover",
    "get_config",
    "get_database_url",
    "is_development",
    "is_production",
    "is_testing",
    "namespace",
    "normalize",
    "run",
    "set_environment",
    "task",
]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project, and stand in a folder of its application."""
    root = lay_out(
        tmp_path / "shop",
        {
            "env/dev.yaml": "settings: {security: {minutes: 480, roles: [a]}}\n",
            "env/prod.yaml": "host: db1\nuser: u\ndatabase: shop\nbackup: {keep: 14}\n",
            "env/prod.env": "DATABASE_PASSWORD='p@ss w'\n",
            "env/eu.yaml": "inherits: prod\nhost: eu1\n",
            "env/staging.yaml": "inherits: prod\nhost: st1\nprotected: false\n",
            "env/test.yaml": "inherits: dev\n",
            "env/ci.yaml": "inherits: test\n",
            "env/kiosk.yaml": "inherits: dev\nprotected: true\n",
            "app/views/tasks.py": "import celery\n",
        },
    )
    monkeypatch.chdir(root / "app" / "views")
    monkeypatch.setenv("PGTASKS_ENV", "dev")  # restored after the test, whatever it sets
    monkeypatch.delenv("PGTASKS_ENV")
    return root


def test_the_public_names_are_exact() -> None:
    assert pgtasks.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(pgtasks))
    for name in PUBLIC:
        assert getattr(pgtasks, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'discovr'"):
        pgtasks.discovr  # noqa: B018


def test_the_package_itself_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import pgtasks; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"yaml", "psycopg2", "dotenv", "invoke", "sqlalchemy", "rich"}


def test_an_application_loads_no_tasks_and_no_driver(app: Path) -> None:
    code = (
        "import sys, pgtasks\npgtasks.get_config()\n"
        "print([n for n in ('invoke', 'psycopg2', 'sqlalchemy', 'rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- which environment ---


def test_the_environment_is_discovered(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pgtasks.discover() == "dev"
    lay_out(app, {".env": "PGTASKS_ENV=production\n"})
    assert pgtasks.discover() == "prod"  # for a task, such a choice is refused
    lay_out(app, {".pgtasks/environment": "ci\n"})
    assert pgtasks.discover() == "ci"
    monkeypatch.setenv("PGTASKS_ENV", "Staging")
    assert pgtasks.discover() == pgtasks.current_env == "staging"
    monkeypatch.setenv("PGTASKS_ENV", "prdo")
    with pytest.raises(Refused, match=r"did you mean 'prod'.*\(from PGTASKS_ENV\)"):
        pgtasks.discover()


def test_the_root_may_be_named(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="unknown environment 'eu'"):
        pgtasks.get_config("eu")
    monkeypatch.setenv("PGTASKS_ROOT", str(app))
    assert pgtasks.get_config("eu")["host"] == "eu1"
    monkeypatch.setenv("PGTASKS_ROOT", str(app / "nowhere"))
    with pytest.raises(Refused, match=r"PGTASKS_ROOT '.*/nowhere' is not a folder"):
        pgtasks.discover()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("dev", ["is_development"]),
        ("test", ["is_testing"]),
        ("ci", ["is_testing"]),
        ("prod", ["is_production"]),
        ("Production", ["is_production"]),
        ("eu", ["is_production"]),  # protected
        ("kiosk", ["is_production"]),
        ("staging", []),  # inherits from prod, and is not protected
    ],
)
def test_each_environment_is_of_one_kind(app: Path, name: str, kinds: list[str]) -> None:
    checks = ("is_development", "is_testing", "is_production")
    assert [check for check in checks if getattr(pgtasks, check)(name)] == kinds
    pgtasks.set_environment(name)
    assert [check for check in checks if getattr(pgtasks, check)()] == kinds


def test_the_environment_of_the_process_is_set(app: Path) -> None:
    assert pgtasks.set_environment("Production") == "prod"
    assert os.environ["PGTASKS_ENV"] == "prod"
    assert pgtasks.current_env == "prod"
    assert not (app / ".pgtasks").exists()
    with pytest.raises(Refused, match="unknown environment 'nowhere'"):
        pgtasks.set_environment("nowhere")
    assert pgtasks.discover() == "prod"


def test_the_environment_of_the_checkout_is_set(app: Path) -> None:
    pgtasks.set_environment("ci", remember=True)
    del os.environ["PGTASKS_ENV"]
    assert pgtasks.discover() == "ci"
    entry = json.loads((app / "backups" / "journal.jsonl").read_text())
    assert (entry["task"], entry["environment"]) == ("set_environment", "ci")
    assert entry["details"] == {"from": "dev", "to": "ci", "overruled_by": None}
    with pytest.raises(Refused, match="it cannot be a remembered choice"):
        pgtasks.set_environment("eu", remember=True)
    assert "PGTASKS_ENV" not in os.environ
    assert pgtasks.discover() == "ci"


# --- settings ---


def test_the_config_holds_settings_and_no_secret(app: Path) -> None:
    config = pgtasks.get_config("prod")
    found = {key: config[key] for key in ("environment", "host", "database", "protected", "jobs")}
    assert found == {
        "environment": "prod",
        "host": "db1",
        "database": "shop",
        "protected": True,
        "jobs": 2,
    }
    assert config["backup"] == {"keep": {"last": 14}}
    assert "p@ss w" not in repr(config)
    assert pgtasks.get_config()["settings"]["security"] == {"minutes": 480, "roles": ("a",)}


def test_the_config_is_read_only(app: Path) -> None:
    config: Any = pgtasks.get_config()
    for mapping in (config, config["settings"], config["settings"]["security"]):
        assert isinstance(mapping, Mapping)
        with pytest.raises(TypeError):
            mapping["new"] = 1


def test_the_config_follows_the_environment_and_its_files(app: Path) -> None:
    assert pgtasks.get_config()["settings"]["security"]["minutes"] == 480
    lay_out(app, {"env/dev.yaml": "settings: {security: {minutes: 5}}\n"})
    assert pgtasks.get_config()["settings"] == {"security": {"minutes": 5}}
    pgtasks.set_environment("eu")
    assert pgtasks.get_config()["host"] == "eu1"


def test_bad_settings_are_said(app: Path) -> None:
    lay_out(app, {"env/dev.yaml": "prt: 1\n"})
    with pytest.raises(BadConfiguration, match=r"^env/dev\.yaml:1: unknown key 'prt'"):
        pgtasks.get_config()


# --- the database's URL ---


@pytest.mark.parametrize(
    ("driver", "scheme"), [("", "postgresql"), ("psycopg2", "postgresql+psycopg2")]
)
def test_the_url_holds_the_password(app: Path, driver: str, scheme: str) -> None:
    expected = f"{scheme}://u:p%40ss%20w@db1:5432/shop"
    assert pgtasks.get_database_url("prod", driver=driver) == expected


def test_the_url_names_a_passfile(app: Path) -> None:
    lay_out(app, {"env/qa.yaml": "host: h\nuser: u\ndatabase: d\npassfile: pass\n", "pass": "x"})
    (app / "pass").chmod(0o600)
    expected = f"postgresql://u@h:5432/d?passfile={app}/pass"
    assert pgtasks.get_database_url("qa") == expected


def test_the_url_of_an_embedded_server_that_never_was(app: Path) -> None:
    with pytest.raises(Unreachable, match="was never started, start it with inv server") as caught:
        pgtasks.get_database_url()
    assert caught.value.message.endswith(f" in {str(app)!r}")


def test_the_log_says_how_an_embedded_server_is_started(
    app: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(app, {"env/dev.yaml": "server: embedded\npool: {patience: 0}\n"})
    try:
        embedded.start(app)
        embedded.stop(app)
        service = DatabaseService("dev")
        for _ in range(2):
            with pytest.raises(OperationalError), service.session() as session:
                session.connection()
    finally:
        embedded.remove(app)
    logged = [each.getMessage() for each in caplog.records if each.name == "pgtasks.service"]
    assert logged == [
        "the embedded server does not answer: inv server.start --env dev starts it",
    ]


def test_the_url_leads_sqlalchemy_in(
    app: Path, password_cluster: Cluster, fresh_database: Any
) -> None:
    name = fresh_database(password_cluster, 'odd "name" ü\'%')
    lay_out(
        app,
        {
            "env/qa.yaml": f"host: {password_cluster.host}\nport: {password_cluster.port}\n"
            "user: postgres\npassword_command: cat word\n"
            'database: |-\n  odd "name" ü\'%\n',
            "word": PASSWORD,
        },
    )
    engine = sqlalchemy.create_engine(
        pgtasks.get_database_url("qa", driver="psycopg2"), poolclass=NullPool
    )
    with engine.connect() as conn:
        assert conn.scalar(sqlalchemy.text("SELECT current_database()")) == name
    psycopg2.connect(pgtasks.get_database_url("qa")).close()


def test_the_embedded_server_is_started_only_on_request(app: Path) -> None:
    try:
        url = pgtasks.get_database_url(start=True)
        place = url.replace("/shop_dev?", "/postgres?")
        psycopg2.connect(place).close()
        assert pgtasks.get_database_url() == url
        embedded.stop(app)
        assert pgtasks.get_database_url() == url  # the one it has while it runs
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(place)
    finally:
        embedded.remove(app)


def test_libpqs_variables_count_as_for_a_task(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(app, {"env/qa.yaml": "user: u\n"})
    monkeypatch.setenv("PGHOST", "pg-host")
    assert pgtasks.get_database_url("qa") == "postgresql://u@pg-host:5432/shop_qa"
    assert pgtasks.get_config("prod")["host"] == "db1"
    assert os.environ["PGHOST"] == "pg-host"  # the application's own, and left alone
