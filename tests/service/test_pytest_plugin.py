"""The pytest plugin, in runs of pytest of their own on a project of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from halting import Inv
from roles import plain  # noqa: F401
from servers import Cluster
from setups import make_shop

from pgtasks.database import side
from pgtasks.errors import Refused
from pgtasks.server import embedded
from pgtasks.service.testing import database, fileset, server, template
from pgtasks.service.testing.server import TestServer
from pgtasks.settings.project import load

Pytest = Callable[..., "subprocess.CompletedProcess[str]"]
CONFTEST = """
import pytest
from sqlalchemy import text

@pytest.fixture
def notes(pgtasks_engine):
    def count():
        with pgtasks_engine.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM notes")).scalar()
    return count
"""


@pytest.fixture(scope="module")
def project_folder(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a migration, triggers and seeds, and with no environment for tests."""
    folder = tmp_path_factory.mktemp("plugin") / "shop"
    root = make_shop(cluster, lambda cluster, name: name, folder)
    (root / "conftest.py").write_text(CONFTEST)
    yield root
    server.remove(load(root))


@pytest.fixture
def shop(project_folder: Path) -> Iterator[Path]:
    """The same project, whose files are afterwards as they were."""
    before = {path: path.read_bytes() for path in project_folder.rglob("*") if path.is_file()}
    yield project_folder
    for path in [path for path in project_folder.rglob("*") if path.is_file()]:
        if path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture
def run(shop: Path) -> Pytest:
    """Return what runs pytest on the text of a test file."""

    def run(text: str, *args: str) -> subprocess.CompletedProcess[str]:
        (shop / "test_it.py").write_text(text, encoding="utf-8")
        argv = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([*argv, *args], cwd=shop, env=env, capture_output=True, text=True)

    return run


def databases(shop: Path) -> list[str]:
    """Return the databases of the project's server in memory, which is started for that."""
    folder = server.folder_of(load(shop))
    running = embedded.start(folder)
    done = subprocess.run(
        [
            *running.psql().split(),
            "-AXtc",
            "SELECT datname FROM pg_database ORDER BY 1",
            "postgres",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    embedded.stop(folder)
    return [name for name in done.stdout.split() if name.startswith("shop_")]


EACH = """
import pgtasks
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("number", range(4))
def test_each_has_its_own(pgtasks_database, notes, number):
    assert notes() == 0
    with pgtasks_database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes (id) VALUES (1) RETURNING at IS NOT NULL")
        assert cursor.fetchone() == (True,), "triggers are installed"
    connection.close()
    assert notes() == 1
    assert pgtasks.get_database_url() == pgtasks_database.url()
    assert pgtasks.discover() == "test"

@pytest.mark.parametrize("number", range(2))
def test_a_session_is_rolled_back(pgtasks_session, number):
    assert pgtasks_session.execute(text("SELECT count(*) FROM notes")).scalar() == 0
    pgtasks_session.execute(text("INSERT INTO notes (id) VALUES (1)"))
    pgtasks_session.commit()
    assert pgtasks_session.execute(text("SELECT count(*) FROM notes")).scalar() == 1

@pytest.mark.pgtasks(seeds=["core"])
def test_seeds(pgtasks_engine):
    with pgtasks_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM roles")).scalar() > 0
"""


def test_each_test_has_its_own_database(shop: Path, run: Pytest) -> None:
    done = run(EACH)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout
    assert not embedded.status(server.folder_of(load(shop))).pid, "the last one stops the server"
    templates = databases(shop)
    assert len(templates) >= 2
    assert all(name.startswith("shop_tpl_") for name in templates)
    parallel = run(EACH, "-n", "2")
    assert parallel.returncode == 0, parallel.stdout
    assert databases(shop) == templates, "templates are shared between runs"


APPLICATION = """
from flask import Flask
from sqlalchemy import text

from pgtasks.service import get_db_session, initialize_database
from pgtasks.service.flask import health

app = Flask(__name__)
initialize_database(app, env="dev")
app.register_blueprint(health())


@app.post("/notes")
def note():
    with get_db_session() as session:
        session.execute(text("INSERT INTO notes (id) VALUES (2)"))
    return "", 204
"""


def test_an_application_that_was_imported_before_uses_the_database_of_the_test(
    shop: Path, run: Pytest
) -> None:
    (shop / "web.py").write_text(APPLICATION)
    done = run(
        """
import pytest
from web import app

@pytest.mark.parametrize("number", range(2))
def test_each_begins_without_the_notes_of_the_other(pgtasks_database, notes, number):
    before = notes()
    assert app.test_client().post("/notes").status_code == 204
    assert (before, notes()) == (0, 1)
    assert app.test_client().get("/health/ready").status_code == 200

def test_outside_it_has_the_one_that_it_chose():
    from pgtasks.service import get_active_env
    assert get_active_env() == "dev"
""",
        "-p",
        "no:xdist",
    )
    assert done.returncode == 0, done.stdout


def test_an_application_acts_as_its_role_with_the_privileges_of_the_files(
    shop: Path, run: Pytest
) -> None:
    (shop / "env" / "test.yaml").write_text("server: embedded\npool: {role: shop_app}\n")
    (shop / "sql" / "roles").mkdir()
    (shop / "sql" / "roles" / "app.sql").write_text("GRANT SELECT ON notes TO shop_app;")
    done = run(
        """
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from pgtasks.service import get_db_session

def test_it_reads_and_does_not_write(pgtasks_database):
    with get_db_session() as session:
        assert session.execute(text("SELECT current_user::text")).scalar() == "shop_app"
        assert session.execute(text("SELECT count(*) FROM notes")).scalar() == 0
    with pytest.raises(ProgrammingError, match="permission denied"), get_db_session() as session:
        session.execute(text("INSERT INTO notes (id) VALUES (1)"))
"""
    )
    assert done.returncode == 0, done.stdout


def test_other_files_make_another_template(shop: Path, run: Pytest) -> None:
    text = "def test_one(notes):\n    assert notes() == 0\n"
    assert run(text).returncode == 0
    before = databases(shop)
    seed = shop / "sql" / "functions" / "touch.sql"
    seed.write_text(f"-- changed\n{seed.read_text()}")
    assert run(text).returncode == 0
    assert set(before) < set(databases(shop))
    fresh = run(text, "--pgtasks-fresh")
    assert fresh.returncode == 0, fresh.stdout
    assert len(databases(shop)) == 1


def test_the_database_of_a_test_that_failed_is_kept(shop: Path, run: Pytest) -> None:
    failing = "def test_one(pgtasks_database):\n    assert 0\n\ndef test_two(notes):\n    notes()\n"
    done = run(failing)
    assert done.returncode == 1
    url = re.search(r"kept until the next run: (postgresql://\S+)", done.stdout)
    assert url, done.stdout
    running = embedded.status(server.folder_of(load(shop)))
    assert running
    query = ["-AXtc", "SELECT count(*) FROM notes", url[1]]
    psql = subprocess.run([running.bin / "psql", *query], capture_output=True, text=True)
    assert psql.stdout == "0\n", psql.stderr
    assert run("def test_one(notes):\n    assert notes() == 0\n").returncode == 0
    assert not [name for name in databases(shop) if "_test_" in name]


def test_a_killed_run_leaves_nothing_to_the_next(shop: Path, run: Pytest) -> None:
    (shop / "test_it.py").write_text(
        "import os, signal\ndef test_one(notes):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    killed = subprocess.run(argv, cwd=shop, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    done = run("def test_one(notes):\n    assert notes() == 0\n")
    assert done.returncode == 0, done.stdout
    assert not [name for name in databases(shop) if "_test_" in name]


def test_the_server_of_a_project_that_is_gone_is_removed(
    shop: Path, run: Pytest, tmp_path: Path
) -> None:
    text = "def test_one(notes):\n    assert notes() == 0\n"
    assert run(text).returncode == 0
    other = tmp_path / "other"
    shutil.copytree(shop, other)
    gone = server.folder_of(load(other))
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    assert subprocess.run(argv, cwd=other, capture_output=True).returncode == 0
    assert gone.exists()
    shutil.rmtree(other)
    assert run(text).returncode == 0
    assert not gone.exists()
    assert server.folder_of(load(shop)).exists()


def test_a_task_forgets_the_server_unless_tests_use_it(shop: Path, run: Pytest, inv: Inv) -> None:
    folder = server.folder_of(load(shop))
    text = (
        "import subprocess, sys\n"
        "def test_one(notes):\n"
        "    words = [sys.executable, '-m', 'invoke', 'server.stop', '--forget-tests']\n"
        "    done = subprocess.run(words, capture_output=True, text=True)\n"
        "    assert done.returncode == 6, done.stderr\n"
        "    assert 'another run of the tests uses the server' in done.stderr\n"
        "    assert notes() == 0\n"
    )
    done = run(text)
    assert done.returncode == 0, done.stdout
    assert folder.exists()
    planned = inv("server.stop", "--forget-tests", "--dry", cwd=shop)
    assert planned.stdout.splitlines()[-1] == f"the tests' server: {str(folder)!r} would be deleted"
    assert inv("server.stop", cwd=shop).returncode == 0
    assert folder.exists()
    forgot = inv("server.stop", "--forget-tests", cwd=shop)
    assert forgot.stdout.splitlines()[-1] == f"the tests' server: {str(folder)!r} deleted"
    assert not folder.exists()
    assert inv("server.stop", "--forget-tests", cwd=shop).stdout == "no server is running\n"


def test_a_template_that_cannot_be_built_is_one_line(shop: Path, run: Pytest) -> None:
    (shop / "migrations" / "versions" / "one.py").write_text(
        "revision = 'one'\ndown_revision = None\ndef upgrade():\n    raise ValueError('no')\n"
    )
    done = run("def test_one(notes):\n    pass\n")
    assert done.returncode == 1
    assert "revision one failed: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "service/testing" not in done.stdout


@pytest.fixture
def shared(cluster: Cluster, shop: Path) -> Iterator[TestServer]:
    """The server of the environment of the tests, and no databases of theirs afterwards."""
    (shop / "env" / "test.yaml").write_text(f"url: '{cluster.url('shop')}'\n")
    with server.serving(load(shop), "test") as running:
        yield running
    query = "SELECT datname FROM pg_database WHERE datname ~ '^shop_(tpl|test)_'"
    for (name,) in cluster.execute(query):
        cluster.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
        cluster.drop(name)


def test_a_template_of_another_role_is_refused(
    cluster: Cluster,
    plain: Callable[..., str],  # noqa: F811  it drops the role after `shared` drops the database
    shop: Path,
    shared: TestServer,
) -> None:
    """Whoever makes a template decides which code the tests run."""
    version = cluster.value("SHOW server_version_num")
    digest = fileset.digest(load(shop), (), version, shared.target.user, "small")
    name = f"shop_tpl_{digest}"
    stranger = cluster.connect(user=plain("CREATEDB"))
    for statement in (
        f"CREATE DATABASE {name}",
        f"COMMENT ON DATABASE {name} IS 'used 1700000000'",
        f"ALTER DATABASE {name} IS_TEMPLATE true ALLOW_CONNECTIONS false",
    ):
        stranger.cursor().execute(statement)
    stranger.close()
    with pytest.raises(Refused, match=f"database '{name}' of .* was not made by them"):
        template.ready(shared, load(shop), seeds=(), scale="small")


def test_databases_that_tests_did_not_make_stay(
    cluster: Cluster, shop: Path, shared: TestServer
) -> None:
    other = cluster.create("shop_test_2024010_1")
    with database.serving(shared, load(shop)):
        assert other in cluster.databases()
    cluster.execute(f"ALTER DATABASE {other} CONNECTION LIMIT {side.BEGUN}")  # a killed run's
    with database.serving(shared, load(shop)):
        assert other not in cluster.databases()


def test_the_server_of_an_environment(cluster: Cluster, shop: Path, run: Pytest) -> None:
    """With fsync, as a shared server has it, and without."""
    (shop / "env" / "test.yaml").write_text(f"url: '{cluster.url('shop')}'\n")
    before = cluster.databases()
    done = run(EACH)
    assert done.returncode == 0, done.stdout
    try:
        assert cluster.databases() == before
        protected = f"url: '{cluster.url('shop')}'\nprotected: true\n"
        (shop / "env" / "test.yaml").write_text(protected)
        refused = run("def test_one(notes):\n    pass\n")
        assert "environment 'test' is protected: tests make and drop databases" in refused.stdout
    finally:
        for (name,) in cluster.execute("SELECT datname FROM pg_database WHERE datistemplate"):
            if name.startswith("shop_tpl_"):
                cluster.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
                cluster.drop(name)
