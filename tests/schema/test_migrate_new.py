"""migrate.new from the file to the database, and applications that env.py needs."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from restores import newest
from servers import Cluster
from shops import Shop, two_revisions
from terminal import answer, interrupt

from pgtasks.errors import BadConfiguration
from pgtasks.settings.target import Target

INV = Path(sys.executable).with_name("inv")
MODELS = "from sqlalchemy import Column, Integer, MetaData, Table\nmetadata = MetaData()\n"


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    made = two_revisions(cluster, target, project)
    made.up()
    return made


def add_model(shop: Shop, name: str = "more") -> None:
    env = shop.folder / "env.py"
    added = f'metadata = MetaData()\nTable("{name}", metadata, Column("id", Integer))'
    env.write_text(env.read_text().replace("metadata = MetaData()", added))


def test_new_backs_up_first_and_applies(inv: Any, shop: Shop) -> None:
    add_model(shop)
    done = inv("migrate.new", "-m", "more", "--backup-first", "--up", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [each["message"] for each in document["applied"]] == ["more"]
    assert "more" in shop.tables()
    notes = {
        json.loads(path.read_text())["note"]
        for path in (shop.root / "backups").rglob("manifest.json")
    }
    revision = document["applied"][0]["revision"]
    assert notes == {"before migrate.new: more", f"before migrate.up: two -> {revision}"}
    assert newest(shop.root)
    assert "  autogenerate sees no renames, CHECKs, " in done.stderr


def test_what_may_be_a_rename_is_said(shop: Shop) -> None:
    env = shop.folder / "env.py"
    env.write_text(env.read_text().replace('"text", Text', '"words", Text'))
    written = shop.new("words")
    assert written.remarks[0] == (
        "if a column is renamed, say so by hand: drops notes.text, adds notes.words"
    )
    assert written.remarks[-1].startswith("autogenerate sees no renames, CHECKs, ")


def test_a_terminal_is_guided_from_the_file_to_the_database(shop: Shop) -> None:
    add_model(shop)
    editor = shop.root / "editor.sh"
    editor.write_text('#!/bin/sh\necho "# edited" >> "$1"\n')
    editor.chmod(0o755)
    argv = [INV, "migrate.new", "-m", "more", "--backup-first"]
    answers = [(r"edit it\? \[y/N\] ", "y\n"), (r"apply it to .*\? \[y/N\] ", "y\n")]
    env = {"EDITOR": str(editor), "TERM": "dumb"}
    ended = answer(argv, answers, cwd=shop.root, env=env, columns=200)
    assert ended.code == 0, ended.screen
    assert "op.create_table('more'" in ended.screen
    assert "lint: nothing found in 1 revision, by" in ended.screen
    assert "more" in shop.tables()
    (written,) = (path for path in shop.folder.rglob("*more.py"))
    assert written.read_text().endswith("# edited\n")

    argv = [INV, "migrate.new", "-m", "later", "--empty"]
    answers = [(r"edit it\? \[y/N\] ", "n\n"), (r"apply it to .*\? \[y/N\] ", "n\n")]
    ended = answer(argv, answers, cwd=shop.root, env=env, columns=200)
    assert ended.code == 0, ended.screen
    assert shop.status().word == "behind"


@pytest.mark.parametrize("question", ["edit it", "apply it to"])
def test_a_signal_at_a_question_says_that_the_file_is_written(shop: Shop, question: str) -> None:
    argv = [INV, "migrate.new", "-m", "later", "--empty"]
    answers = [(r"edit it\? \[y/N\] ", "n\n")] * (question != "edit it")
    ended = answer(argv, [*answers, (question, interrupt)], cwd=shop.root, columns=200)
    (written,) = (path for path in shop.folder.rglob("*later.py"))
    said = f"error: interrupted: {written.relative_to(shop.root)} is written"
    assert (ended.code, ended.screen.splitlines()[-1]) == (130, said)


# applications

FACTORY = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()


class Note(db.Model):
    id = db.Column(db.Integer, primary_key=True)


def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)
    Migrate(app, db)
    return app
"""


def test_an_env_py_of_flask_migrate_with_the_factory_named(
    inv: Any, cluster: Cluster, target: Target, project: Path
) -> None:
    (project / "pack").mkdir()
    (project / "pack" / "web.py").write_text(FACTORY)
    (project / ".env").write_text("DATABASE_URL=postgresql+psycopg2://nobody@localhost/none\n")
    argv = [sys.executable, "-m", "flask", "--app", "pack.web:create_app", "db", "init"]
    env = {"DATABASE_URL": "postgresql+psycopg2://nobody@localhost/none", "PATH": "/usr/bin:/bin"}
    subprocess.run(argv, cwd=project, env=env, check=True, capture_output=True)
    lacking = inv("migrate.status")
    assert lacking.returncode == 3
    assert "set FLASK_APP, or --app" in lacking.stderr

    done = inv("migrate.new", "-m", "notes", "--up", "--app", "pack.web:create_app")

    assert done.returncode == 0, done.stderr
    made = Shop(cluster, target, project)
    assert made.tables() == ["alembic_version", "note"]
    with (project / "invoke.yaml").open("w") as file:
        file.write("pgtasks:\n  app: pack.web:create_app\n")
    assert inv("migrate.status", "--check").returncode == 0
    assert inv("migrate.down", "--yes", "--no-backup").returncode == 0


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("web", "app 'web', expected MODULE:NAME"),
        ("web:", "app 'web:', expected MODULE:NAME"),
        ("nowhere.web:app", "app 'nowhere.web:app': there is no module 'nowhere'"),
        ("shopweb:nothing", "app 'shopweb:nothing': shopweb has no 'nothing'"),
        ("shopweb:broken", "shopweb.py:2: ModuleNotFoundError: No module named 'no_such'"),
    ],
)
def test_an_application_that_cannot_be_made(shop: Shop, app: str, words: str) -> None:
    from dataclasses import replace

    from pgtasks.schema import migrate

    (shop.root / "shopweb.py").write_text("def broken():\n    import no_such\n")
    scripts = replace(shop.scripts, app=app)
    try:
        with pytest.raises(BadConfiguration) as caught:
            migrate.status(scripts, shop.target, shop.identity)
        assert words in caught.value.message
    finally:
        sys.modules.pop("shopweb", None)


def test_models_of_a_setting_for_an_env_py_that_names_none(inv: Any, shop: Shop) -> None:
    env = shop.folder / "env.py"
    env.write_text(env.read_text().replace(", target_metadata=metadata", ""))
    (shop.root / "shopmodels.py").write_text(
        MODELS + 'Table("more", metadata, Column("id", Integer, primary_key=True))\n'
    )
    (shop.root / "invoke.yaml").write_text("pgtasks:\n  models: shopmodels:metadata\n")
    found = json.loads(inv("migrate.check", "--json").stdout)["models"]
    assert "add table: more" in found


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("asyncpg", "greenlet")),
    reason="asyncpg and greenlet are not installed, which an asynchronous engine needs",
)
def test_alembics_own_template_for_asynchronous_engines(
    inv: Any, cluster: Cluster, target: Target, project: Path
) -> None:
    argv = [sys.executable, "-m", "alembic", "init", "-t", "async", "migrations"]
    subprocess.run(argv, cwd=project, check=True, capture_output=True)
    ini = project / "alembic.ini"
    text = ini.read_text().replace("driver://user", "postgresql+asyncpg://user")
    assert "+asyncpg" in text
    ini.write_text(text)
    written = json.loads(inv("migrate.new", "-m", "notes", "--empty", "--json").stdout)
    file = project / written["file"]
    work = "    op.execute('CREATE TABLE notes ()')"
    file.write_text(file.read_text().replace("    pass", work, 1))
    done = inv("migrate.up", "--json")
    assert done.returncode == 0, done.stderr
    assert Shop(cluster, target, project).tables() == ["alembic_version", "notes"]
    assert inv("migrate.status", "--check").returncode == 0


def test_a_folder_that_takes_no_file_is_named(inv: Any, shop: Shop) -> None:
    shop.up("head")
    versions = shop.folder / "versions"
    versions.rename(versions.with_name("away"))
    versions.symlink_to("/proc")  # where nobody makes a file
    failed = inv("migrate.new", "--empty", "-m", "x")
    assert failed.returncode == 1
    assert re.fullmatch(
        r"error: migrations/versions/\w+_x\.py: no such file or directory",
        failed.stderr.splitlines()[-1],
    ), failed.stderr
