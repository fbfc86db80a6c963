"""`python -m pgtasks init` in projects that the tools' own `init` made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from layout import lay_out
from servers import Cluster
from terminal import answer
from waiting import PATIENCE

import pgtasks

BIN = Path(sys.executable).parent
INIT = [sys.executable, "-m", "pgtasks", "init"]
Inv = Callable[..., "subprocess.CompletedProcess[str]"]

FLASK = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
Migrate(app, SQLAlchemy(app))
"""


def init(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*INIT, *flags], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done


def contents(root: Path) -> dict[str, bytes]:
    """Return all files of a project but those of git and of a virtual environment."""
    others = {".git", "env"} if (root / "env" / "pyvenv.cfg").exists() else {".git"}
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in others
    }


def make(root: Path, *argv: str) -> None:
    subprocess.run([BIN / argv[0], *argv[1:]], cwd=root, check=True, capture_output=True)


@pytest.fixture
def url(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    """Return the URL of an application's database, with content, a password in it, no stamp."""
    name = fresh_database(cluster, "the shop's")
    cluster.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)", name)
    return cluster.target(name).url().replace("postgres@", "postgres:geheim@")


@pytest.fixture
def fast(tmp_path: Path, url: str) -> Path:
    """Return a project as FastAPI's users have them: alembic init, DATABASE_URL in .env."""
    root = lay_out(
        tmp_path / "fast",
        {
            "app/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
            ".env": f'SECRET_KEY=geheim\nDATABASE_URL="{url}"\n',
            ".gitignore": "__pycache__/\n.env\n.venv\n",
        },
    )
    make(root, "alembic", "init", "db/migrations")
    return root


@pytest.fixture
def flask(tmp_path: Path, url: str) -> Path:
    """Return a project of Flask-Migrate, its virtual environment in env/, its tasks Celery's."""
    root = lay_out(
        tmp_path / "flask",
        {
            "app.py": FLASK,
            ".env": f"DATABASE_URL={url}\n",
            ".gitignore": "*.pyc\nenv/\n.env\n",
            "tasks.py": "from celery import shared_task\n",
            "tasks/__init__.py": "raise RuntimeError('not for Invoke')\n",
            "tasks/mail.py": "raise RuntimeError('not for Invoke')\n",
            "env/pyvenv.cfg": "home = /usr/bin\n",
        },
    )
    make(root, "flask", "db", "init")
    return root


def check_adopted(inv: Inv, root: Path, before: dict[str, bytes], *collection: str) -> None:
    """Check that nothing there was changed, nothing secret written, and that the tasks work."""
    after = contents(root)
    assert {name: after[name] for name in before} == before
    made = {name: text for name, text in after.items() if name not in before}
    assert not [name for name, text in made.items() if b"geheim" in text]

    again = init(root, "--write")
    assert (again.returncode, contents(root)) == (0, after)
    assert "nothing to write, all files exist" in again.stdout

    shown = inv(*collection, "env.show", "--json", cwd=root)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["values"]["database"]["value"] == "the shop's"
    backed = inv(*collection, "db.backup", "--json", cwd=root)
    assert backed.returncode == 0, backed.stderr
    manifests = list(root.glob("backups/dev/*/*/manifest.json"))
    assert len(manifests) == 1
    assert json.loads(manifests[0].read_text())["rows"] == 2
    # what was adopted is still safe from a restore: it has content and no stamp
    refused = inv(*collection, "db.restore", cwd=root)
    assert refused.returncode == 2
    assert "counts as protected" in refused.stderr


def test_a_project_of_alembic_is_adopted(inv: Inv, fast: Path) -> None:
    before = contents(fast)
    done = init(fast, "--write")
    assert done.returncode == 0, done.stderr
    assert 'found  DATABASE_URL in .env: database "the shop\'s" on ' in done.stdout
    assert "(is it production? then call it PROD_DATABASE_URL)" in done.stdout
    assert "found  migrations in db/migrations/" in done.stdout
    assert "inv env.stamp --confirm 'the shop'\"'\"'s'" in done.stdout
    assert sorted(set(contents(fast)) - set(before)) == [
        "backups/.gitignore",
        "env/.gitignore",
        "env/dev.yaml",
        "env/prod.example.yaml",
        "invoke.yaml",
        "tasks.py",
    ]
    check_adopted(inv, fast, before)


def test_a_project_of_flask_is_adopted(inv: Inv, flask: Path) -> None:
    before = contents(flask)
    done = init(flask, "--write")
    assert done.returncode == 0, done.stderr
    assert "found  migrations in migrations/" in done.stdout
    assert "found  env/ is a virtual environment: environments go to environments/" in done.stdout
    assert "inv -c dbtasks db.backup" in done.stdout
    assert sorted(set(contents(flask)) - set(before)) == [
        "backups/.gitignore",
        "dbtasks.py",
        "environments/.gitignore",
        "environments/dev.yaml",
        "environments/prod.example.yaml",
        "invoke.yaml",
    ]
    check_adopted(inv, flask, before, "-c", "dbtasks")
    own = lay_out(flask, {"dbtasks/hello.py": HELLO})
    assert inv("-c", "dbtasks", "hello", cwd=own).stdout == "hello\n"


HELLO = "from invoke import task\n\n\n@task\ndef hello(c):\n    print('hello')\n"


def test_what_would_be_written_is_shown_first(fast: Path) -> None:
    before = contents(fast)
    done = init(fast)
    assert done.returncode == 2
    assert done.stderr == "error: nothing was written: no terminal to ask on, add --write\n"
    assert "write  env/dev.yaml\n" in done.stdout
    assert "    url: $DATABASE_URL\n" in done.stdout
    assert "geheim" not in done.stdout
    assert contents(fast) == before


def test_a_reader_that_leaves_is_no_traceback(fast: Path) -> None:
    before = contents(fast)
    for flags, code in (((), 1), (("--write",), 0)):
        reader, writer = os.pipe()
        os.close(reader)  # nobody reads from the first line on
        done = subprocess.run(
            [*INIT, *flags],
            cwd=fast,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        os.close(writer)
        said = done.stderr
        assert done.returncode == code
        if code:
            assert said == "error: nothing was written: the plan was not read to its end\n"
            assert contents(fast) == before
    assert said == "wrote 6 files, and changed none\n"
    assert (fast / "tasks.py").exists()


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        (".", "error: 'tasks.py': Permission denied; nothing was written\n"),
        (
            "env",
            "error: 'env/dev.yaml': Permission denied; written before: tasks.py, invoke.yaml\n",
        ),
    ],
)
def test_a_folder_without_rights_is_one_line(tmp_path: Path, closed: str, words: str) -> None:
    root = lay_out(tmp_path / "shop", {".env": "A=b\n"})
    (root / "env").mkdir()
    (root / closed).chmod(0o555)
    # root may write everywhere, unless the right to is taken
    bare = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*bare, *INIT, "--write"],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    (root / closed).chmod(0o755)
    assert (done.returncode, done.stderr) == (1, words)


@pytest.mark.parametrize(("typed", "written"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_terminal_is_asked(fast: Path, typed: str, written: bool) -> None:
    ended = answer(INIT, [(r"write these files\? \[y/N\] ", typed)], cwd=fast)
    assert ended.code == 0
    assert (fast / "tasks.py").exists() == written
    assert ("nothing was written" in ended.screen) == (not written)


def test_the_url_of_alembics_own_file_is_used_without_its_password(
    inv: Inv, tmp_path: Path, cluster: Cluster, url: str
) -> None:
    make(lay_out(tmp_path / "plain", {}), "alembic", "init", "alembic")
    root = tmp_path / "plain"
    ini = root / "alembic.ini"
    text = ini.read_text().replace("driver://user:pass@localhost/dbname", url.replace("%", "%%"))
    ini.write_text(text)
    done = init(root, "--write")
    assert done.returncode == 0, done.stderr
    assert "by hand  the password of alembic.ini goes into env/dev.env:" in done.stdout
    assert "geheim" not in "".join(path.read_text() for path in (root / "env").iterdir())
    shown = inv("env.show", "--url", cwd=root)
    assert shown.stdout == url.replace(":geheim@", "@") + "\n"
    assert inv("db.backup", cwd=root).returncode == 0


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", ""),
        ("DATABASE_URL=sqlite:///geheim.db\n", "a sqlite:// URL, expected postgresql://: not used"),
        ("DATABASE_URL=\n", ""),
    ],
)
def test_without_a_postgresql_url_dev_gets_a_server_of_its_own(
    inv: Inv, tmp_path: Path, text: str, note: str
) -> None:
    root = lay_out(tmp_path / "new", {".env": text})
    done = init(root, "--write")
    assert done.returncode == 0
    assert note in done.stdout
    assert "geheim" not in done.stdout
    shown = inv("env.show", "--json", cwd=root)
    assert json.loads(shown.stdout)["values"]["server"]["value"] == "embedded"


def test_another_name_of_the_url_is_found(inv: Inv, tmp_path: Path) -> None:
    text = "REDIS_URL=redis://x\nSHOP_DB=postgresql://u:geheim@h/shop\n"
    root = lay_out(tmp_path / "new", {".env": text})
    assert "found  SHOP_DB in .env: database 'shop'" in init(root, "--write").stdout
    assert inv("env.show", "--url", cwd=root).stdout == "postgresql://u:***@h:5432/shop\n"


CHINOOK = "postgresql://u:geheim@db1.example.com/chinook"
SCRATCH = "postgresql://u:geheim@127.0.0.1/scratch"


@pytest.mark.parametrize(
    ("text", "others", "dev"),
    [
        (f"PROD_DATABASE_URL={CHINOOK}\n", {"prod": True}, "embedded"),
        (f"PRODUCTION_DATABASE_URL={CHINOOK}\n", {"prod": True}, "embedded"),
        (f"LIVE_DB_URL={CHINOOK}\n", {"prod": True}, "embedded"),
        (f"DATABASE_URL_PROD={CHINOOK}\n", {"prod": True}, "embedded"),
        (f"PROD_SHOP_DATABASE_URL={CHINOOK}\n", {"prod_shop": True}, "embedded"),
        (f"STAGING_DATABASE_URL={CHINOOK}\n", {"staging": False}, "embedded"),
        (f"QA_PG={CHINOOK}\n", {"qa": False}, "embedded"),
        (
            f"PROD_DATABASE_URL={CHINOOK}\nPRODUCTION_DATABASE_URL={SCRATCH}\n",
            {"prod": True},
            "embedded",
        ),
        (f"PROD_DATABASE_URL={CHINOOK}\nDEV_DATABASE_URL={SCRATCH}\n", {"prod": True}, "scratch"),
        (f"PROD_DATABASE_URL={CHINOOK}\nDATABASE_URL={SCRATCH}\n", {"prod": True}, "scratch"),
        (f"DATABASE_URL={CHINOOK}\nDEV_DATABASE_URL={SCRATCH}\n", {}, "scratch"),
        # two names of one database: it is production's
        (f"DATABASE_URL={CHINOOK}\nPROD_DATABASE_URL={CHINOOK}\n", {"prod": True}, "embedded"),
    ],
)
def test_a_variable_that_is_named_for_an_environment_is_that_ones(
    inv: Inv, tmp_path: Path, text: str, others: dict[str, bool], dev: str
) -> None:
    root = lay_out(tmp_path / "shop", {".env": text})
    done = init(root, "--write")
    assert done.returncode == 0, done.stderr
    assert "geheim" not in done.stdout
    for name, protected in others.items():
        shown = json.loads(inv("env.show", "--env", name, "--json", cwd=root).stdout)["values"]
        assert shown["database"]["value"] == "chinook"
        assert bool(shown.get("protected", {}).get("value")) == protected
        assert ("is prod, protected" in done.stdout) == (name == "prod")
        assert f"inv db.backup --env {name}" in done.stdout
        # nothing leads dev there
        assert "chinook" not in (root / "env" / "dev.yaml").read_text()
        assert "env.stamp --confirm chinook" not in done.stdout
    values = json.loads(inv("env.show", "--json", cwd=root).stdout)["values"]
    assert dev in (values.get("server", {}).get("value"), values["database"]["value"], "")
    assert (root / "env" / "prod.example.yaml").exists() == (
        not any(name.startswith("prod") for name in others)
    )
    assert init(root, "--write").stdout.count("\nwrite ") == 0


def test_the_url_of_alembics_own_file_is_not_devs_where_it_is_productions(tmp_path: Path) -> None:
    make(
        lay_out(tmp_path / "shop", {".env": f"PROD_DATABASE_URL={CHINOOK}\n"}),
        "alembic",
        "init",
        "m",
    )
    root = tmp_path / "shop"
    text = (root / "alembic.ini").read_text()
    (root / "alembic.ini").write_text(text.replace("driver://user:pass@localhost/dbname", CHINOOK))
    done = init(root, "--write")
    words = "sqlalchemy.url in alembic.ini leads to the same database as PROD_DATABASE_URL"
    assert words in done.stdout
    assert "server: embedded" in (root / "env" / "dev.yaml").read_text()


def test_nothing_that_is_written_is_without_effect(inv: Inv, tmp_path: Path) -> None:
    root = lay_out(tmp_path / "shop", {})
    assert init(root, "--write").returncode == 0
    (root / "env" / "prod.example.yaml").rename(root / "env" / "prod.yaml")
    checked = inv("env.check", cwd=root)
    assert "no effect" not in checked.stdout + checked.stderr


def test_an_invoke_yaml_that_is_there_stays(inv: Inv, flask: Path) -> None:
    lay_out(flask, {"invoke.yaml": "run:\n  echo: false\n"})
    done = init(flask, "--write")
    by_hand = [line for line in done.stdout.splitlines() if line.startswith("by hand")]
    assert by_hand == [
        "by hand  add to invoke.yaml:  pgtasks: {folders: {env: environments, tasks: dbtasks}}",
        "by hand  add to invoke.yaml:  tasks: {executor_class: pgtasks.cli.executor.TaskExecutor}",
    ]
    assert (flask / "invoke.yaml").read_text() == "run:\n  echo: false\n"
    text = "pgtasks: {folders: {env: environments, tasks: dbtasks}}\n"
    text += "tasks: {executor_class: pgtasks.cli.executor.TaskExecutor}\n"
    lay_out(flask, {"invoke.yaml": text})
    assert "by hand" not in init(flask, "--write").stdout
    assert inv("-c", "dbtasks", "env.show", cwd=flask).returncode == 0


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_file_that_belongs_into_git_is_hidden_and_no_other_seen(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "new", {".gitignore": "ENV/\nenv*/\n"})
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    assert "git ignores env/ (.gitignore:2:env*/): environments go to dbenv/" in (
        init(root, "--write").stdout
    )
    lay_out(root, {"dbenv/prod.env": "geheim", "backups/dev/d/1/dump": "data"})
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    assert listed.stdout.split() == [
        ".gitignore",
        "backups/.gitignore",
        "dbenv/.gitignore",
        "dbenv/dev.yaml",
        "dbenv/prod.example.yaml",
        "invoke.yaml",
        "tasks.py",
    ]


@pytest.mark.parametrize(
    ("ignored", "folder"),
    [("*.pyc\nenv/\n", "environments"), ("/env\n", "environments"), ("envs/\n", "env")],
)
def test_without_git_its_file_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: str, folder: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    root = lay_out(tmp_path / "new", {".gitignore": ignored})
    assert init(root, "--write").returncode == 0
    assert (root / folder / "dev.yaml").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"invoke.yaml": "a: [\n"}, "invoke.yaml:2: did not find expected node content"),
        ({".env": "A 'b\n"}, ".env:1: expected NAME=value"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    root = lay_out(tmp_path / "bad", files)
    done = init(root, "--write")
    assert (done.returncode, done.stderr) == (3, f"error: {words}\n")
    assert sorted(contents(root)) == sorted(files)


def test_the_command_line_explains_itself() -> None:
    done = subprocess.run([*INIT[:3], "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "add the missing files to a project" in done.stdout
    done = subprocess.run([*INIT[:3], "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == pgtasks.__version__
    done = subprocess.run(INIT[:3], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "add the missing files to a project" in done.stderr


def test_a_mistyped_flag_is_one_line(tmp_path: Path) -> None:
    done = init(tmp_path, "--wrte")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: '--wrte' is no argument of init, did you mean '--write', known: --write, --help\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_it_writes_is_said_and_fits_a_terminal(tmp_path: Path) -> None:
    done = init(tmp_path, "--write")
    assert done.stderr == "wrote 6 files, and changed none\n"
    files = contents(tmp_path)
    assert len(files) == 6
    assert max(len(line) for text in files.values() for line in text.splitlines()) < 76
