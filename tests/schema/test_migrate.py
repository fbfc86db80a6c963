"""Migrations: up, down, status and new, and an env.py that means another database."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from projects import make_project, put_stamp
from servers import Cluster
from shops import Shop, two_revisions
from sqlalchemy import create_engine
from waiting import PATIENCE, until

from migrations import HANDED_OVER, revision, write_env
from pgtasks.errors import BadConfiguration, Failed, PgtasksError, Refused
from pgtasks.schema import migrate
from pgtasks.schema.migrate import source
from pgtasks.schema.migrate.scripts import Scripts, variable
from pgtasks.schema.migrate.stamp import Stamped, stamp
from pgtasks.server.lock import Lock
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

COMPUTED = "whose name its source computes"
FROM_INI = "connection = create_engine(context.config.get_main_option('sqlalchemy.url')).connect()"
FROM_VARIABLE = "import os\nconnection = create_engine(os.environ['DATABASE_URL']).connect()"


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    """A project with two revisions and no alembic.ini."""
    return two_revisions(cluster, target, project)


def document(done: Any) -> dict[str, Any]:
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_up_applies_what_is_pending_and_status_says_so(inv: Any, shop: Shop) -> None:
    before = document(inv("migrate.status", "--json"))
    assert (before["state"], before["current"]) == ("unversioned", [])
    assert [each["id"] for each in before["pending"]] == ["one", "two"]

    done = inv("migrate.up", "--json")

    assert done.returncode == 0, done.stderr
    assert [each["revision"] for each in document(done)["applied"]] == ["one", "two"]
    assert all(each["seconds"] >= 0 for each in document(done)["applied"])
    assert shop.tables() == ["alembic_version", "notes", "tags"]
    assert shop.status().word == "up-to-date"
    again = inv("migrate.up")
    assert again.returncode == 0
    assert again.stdout.startswith("nothing to do: up-to-date: at two")


def test_down_takes_one_back_and_says_first_what_is_dropped(inv: Any, shop: Shop) -> None:
    shop.up()
    shop.cluster.execute("INSERT INTO tags SELECT generate_series(1, 70)", shop.target.database)
    shop.cluster.execute("ANALYZE tags", shop.target.database)

    plan = inv("migrate.down", "--dry")
    assert plan.stdout.splitlines() == [
        "down two revision two (migrations/versions/two.py)",
        "  loses data: drops table tags (about 70 rows)",
        "backup: before the first downgrade",
    ]
    sql = inv("migrate.down", "--dry", "--sql")
    assert "DROP TABLE tags" in sql.stdout
    assert "-- loses data: drops table tags (about 70 rows)" in sql.stdout
    assert "without --dry it would be refused: this cannot be undone" in plan.stderr
    assert shop.tables() == ["alembic_version", "notes", "tags"]

    asked = inv("migrate.down")
    assert asked.returncode == 2
    assert "this cannot be undone and there is no terminal to ask on, add --yes" in asked.stderr
    assert shop.tables() == ["alembic_version", "notes", "tags"]

    done = inv("migrate.down", "--yes")
    assert done.returncode == 0, done.stderr
    assert "loses data: drops table tags (about 70 rows)" in done.stderr
    assert shop.tables() == ["alembic_version", "notes"]
    assert (shop.status().word, len(shop.status().pending)) == ("behind", 1)


def test_up_and_down_by_name_and_by_steps(shop: Shop) -> None:
    shop.up("one")
    assert shop.tables() == ["alembic_version", "notes"]
    shop.up("+1")
    shop.down("-2")
    assert shop.tables() == ["alembic_version"]
    shop.up("heads")
    shop.down("base")
    assert shop.tables() == ["alembic_version"]


@pytest.mark.parametrize(
    ("to", "steps", "meant"), [(None, None, "-1"), (None, "3", "-3"), ("base", None, "base")]
)
def test_how_far_down(to: str | None, steps: str | None, meant: str) -> None:
    assert migrate.downward(to, steps) == meant


@pytest.mark.parametrize(
    ("to", "steps", "words"),
    [(None, "x", "expected a number"), (None, "0", "expected a number"), ("base", "1", "keep one")],
)
def test_how_far_down_cannot_be_meant(to: str | None, steps: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        migrate.downward(to, steps)


def test_ways_that_do_not_exist(shop: Shop) -> None:
    with pytest.raises(Refused, match="no way up to 'nine'"):
        shop.up("nine")
    with pytest.raises(Refused, match="no way down to '-5': no revision is applied"):
        shop.down("-5")
    assert shop.tables() == []
    shop.up("one")
    with pytest.raises(Refused, match="no way down to '-5': fewer revisions than that are applied"):
        shop.down("-5")
    with pytest.raises(
        Refused, match=r"no way up to '[+]5': fewer revisions than that are pending"
    ):
        shop.up("+5")


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        ("pass", ["its downgrade does nothing"]),
        ("'nothing to take back'", ["its downgrade does nothing"]),
        ("raise NotImplementedError('one way')", ["it raises NotImplementedError"]),
        ("op.drop_table('a', schema='Sales Data')", ['drops table "Sales Data".a']),
        ("op.drop_column('a', column_name='b')", ["drops column a.b"]),
        ("op.drop_constraint('c', 'a', schema='s')", ["drops constraint s.a.c"]),
        ("op.drop_index(name(), table_name='a')", [f"drops an index {COMPUTED}"]),
        ("op.drop_index('by_text', table_name='a')", ["drops index by_text"]),
        ("op.drop_index(op.f('by_text'), 'a')", ["drops index by_text"]),
        ("with op.batch_alter_table('a') as b:\n    b.drop_column('c')", ["drops column a.c"]),
        ("for t in ('a', 'b'):\n    op.drop_table(t)", ["drops table a", "drops table b"]),
        ("for t in TABLES:\n    op.execute(f'TRUNCATE {t}')", ["empties table x"]),
        ("op.drop_table(name())", [f"drops a table {COMPUTED}"]),
        ("op.execute('DROP VIEW ' + VIEW)", ["drops view v"]),
        ("op.execute(sa.text('DELETE FROM b'))", ["deletes from table b"]),
        ("op.execute(open('x.sql').read())", ["runs SQL that its source computes"]),
        ("if op.get_bind():\n    helper()", ["drops table of_helper"]),
        ("op.create_table('a')", []),
    ],
)
def test_what_a_downgrade_takes_away_is_read_from_its_source(
    tmp_path: Path, body: str, lost: list[str]
) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "raise SystemExit('no line of this file is run')\n"
        "VIEW = 'v'\nTABLES = ['x']\n"
        "def helper():\n    op.drop_table('of_helper')\n    helper()\n"
        f"def downgrade():\n{textwrap.indent(body, '    ')}\n"
    )
    assert [str(loss) for loss in source.read(file, "downgrade")] == lost


TOUCHES = "from pathlib import Path; Path(__file__ + '.ran').touch()"


@pytest.mark.parametrize(
    "words",
    [
        ("migrate.up", "--dry"),
        ("migrate.down", "--dry"),
        ("migrate.up",),
        ("migrate.down",),
        ("migrate.up", "--dry", "--sql"),
    ],
)
def test_before_the_guards_yes_no_code_of_the_project_runs(
    inv: Any, shop: Shop, words: tuple[str, ...]
) -> None:
    shop.up("one")
    (shop.root / "env" / "live.yaml").write_text(
        (shop.root / "env" / "dev.yaml").read_text() + "protected: true\n"
    )
    put_stamp(replace(shop.target, environment="live"))
    revision(shop.folder, "one", None, TOUCHES, TOUCHES)
    revision(shop.folder, "two", "one", TOUCHES, TOUCHES)
    (shop.folder / "env.py").write_text(TOUCHES + "\n" + (shop.folder / "env.py").read_text())

    done = inv(*words, "--env", "live")

    assert done.returncode == (0 if words[1:] == ("--dry",) else 2), done.stderr
    assert list(shop.folder.rglob("*.ran")) == []


def test_a_downgrade_runs_once(inv: Any, shop: Shop) -> None:
    counts = "with open(__file__ + '.count', 'a') as file:\n    file.write('x')"
    revision(shop.folder, "three", "two", counts, counts)
    # the linter runs an upgrade in Alembic's --sql mode
    assert inv("migrate.up", "--no-lint").returncode == 0
    assert inv("migrate.down").returncode == 0
    assert (shop.folder / "versions" / "three.py.count").read_text() == "xx"


@pytest.mark.parametrize(
    "options",
    ["version_table='Our Versions'", "version_table='history', version_table_schema='meta'"],
)
def test_a_version_table_is_known_by_its_shape(shop: Shop, options: str) -> None:
    shop.cluster.execute("CREATE SCHEMA meta", shop.target.database)
    configure(shop, options)
    shop.up("one")
    plan = shop.plan("up", "head")
    assert [step.revision.id for step in plan.steps] == ["two"]
    assert plan.certain


def configure(shop: Shop, options: str) -> None:
    text = (shop.folder / "env.py").read_text()
    changed = text.replace("target_metadata=metadata)", f"target_metadata=metadata, {options})")
    (shop.folder / "env.py").write_text(changed)


def test_of_two_version_tables_env_py_says_which_one_counts(inv: Any, shop: Shop) -> None:
    shop.up("one")
    other = "CREATE TABLE other_version (version_num varchar(32) PRIMARY KEY);"
    shop.cluster.execute(other + "INSERT INTO other_version VALUES ('two')", shop.target.database)
    assert not shop.plan("up", "head").certain
    assert shop.plan("up", "head").state.current == ("one",)
    configure(shop, "version_table='other_version'")
    done = inv("migrate.up")
    assert done.returncode == 0, done.stderr
    assert shop.tables() == ["alembic_version", "notes", "other_version"]
    assert shop.status().current == ("two",)


def test_a_plan_shows_the_sql_and_what_cannot_be_shown(shop: Shop) -> None:
    revision(shop.folder, "three", "two", "op.get_bind().execute(sa.text('SELECT 1')).scalar_one()")
    text = (shop.folder / "versions" / "three.py").read_text()
    (shop.folder / "versions" / "three.py").write_text("import sqlalchemy as sa\n" + text)

    plan = migrate.with_sql(*shop.place, shop.plan("up", "head"))

    assert ["CREATE TABLE notes" in (step.sql or "") for step in plan.steps] == [True, False, False]
    assert plan.steps[2].sql is None
    assert shop.tables() == []
    assert len(shop.up().applied) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("migrate.new",), "the message is empty"),
        (("migrate.new", "--empty", "-m", 'a """ b'), "would break the docstring"),
        (("migrate.up", "--confirm", "other"), "'other' is not the database's name"),
        (("migrate.down", "--steps", "x"), "'x', expected a number"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    inv: Any, shop: Shop, arguments: tuple[str, ...], words: str
) -> None:
    done = inv(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert shop.tables() == []


def test_a_project_without_migrations(inv: Any) -> None:
    done = inv("migrate.up")
    assert done.returncode == 2
    assert "no migrations here" in done.stderr


# where env.py connects to


@pytest.mark.parametrize("connect", [HANDED_OVER, FROM_INI, FROM_VARIABLE])
@pytest.mark.parametrize("ini", ["none", "root", "folder"])
def test_env_py_finds_the_target_in_each_usual_way(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, connect: str, ini: str
) -> None:
    write_env(shop.folder, connect)
    text = (
        "[alembic]\nscript_location = migrations\nsqlalchemy.url = driver://user:pass@host/name\n"
    )
    if ini == "root":
        (shop.root / "alembic.ini").write_text(text)
    elif ini == "folder":  # Flask-Migrate's: the folder is where the file lies
        (shop.folder / "alembic.ini").write_text("[alembic]\n")
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg2://x@y/z")

    shop.up()

    assert shop.tables() == ["alembic_version", "notes", "tags"]
    assert Path.cwd() == shop.folder
    assert os.environ["DATABASE_URL"] == "postgresql+psycopg2://x@y/z"


@pytest.mark.parametrize(
    ("own", "driver"),
    [
        ("", ""),
        ("postgres://u@h/d", ""),
        ("postgresql+psycopg2://u@h/d", "+psycopg2"),
        ("postgresql+asyncpg://u@h/d", "+asyncpg"),
    ],
)
def test_the_url_keeps_the_driver_that_the_application_expects(
    tmp_path: Path, own: str, driver: str
) -> None:
    target = Target("dev", "db1", 5432, "a b", "me", parameters={"sslmode": "require"})
    url = variable(Scripts(tmp_path, tmp_path, url=own), target)
    if own:
        assert url.split("://")[0] == f"postgresql{driver}"
    assert url.endswith("ssl=require" if driver == "+asyncpg" else "sslmode=require")
    if driver == "+psycopg2":
        assert "://me@db1:5432/?dbname=a%20b&" in url
    else:
        assert "://me@db1:5432/a%20b" in url


@pytest.mark.parametrize(
    ("driver", "password", "there"),
    [
        ("", "simple", False),
        ("psycopg2", "a:b", False),
        ("psycopg", "a:b", False),
        ("asyncpg", "simple", False),
        ("asyncpg", "a:b", True),  # asyncpg does not undo the escapes of a password file
        ("pg8000", "simple", True),  # pg8000 reads no password file
    ],
)
def test_the_password_is_in_the_url_only_for_who_reads_no_file(
    tmp_path: Path, driver: str, password: str, there: bool
) -> None:
    target = Target("dev", "db1", 5432, "a", "me", password=Secret(password))
    own = f"postgresql+{driver}://u@h/d" if driver else "postgresql://u@h/d"
    url = variable(Scripts(tmp_path, tmp_path, url=own), target)
    assert (f":{quote(password)}@" in url) is there


@pytest.mark.parametrize(
    "before",
    [
        "",
        "connection.exec_driver_sql('CREATE TABLE early ()')\nconnection.commit()",
        "try:\n    connection.connection\nexcept Exception:\n    pass",
    ],
    ids=["plain", "writes-first", "opens-first"],
)
def test_an_env_py_that_means_another_database_changes_neither(
    shop: Shop, fresh_database: Callable[..., str], before: str
) -> None:
    other = fresh_database(shop.cluster)
    url = shop.cluster.target(other).url(driver="psycopg2")
    write_env(shop.folder, f"connection = create_engine({url!r}).connect()\n{before}")

    down = partial(shop.plan, "down", "-1", exact=True)
    for work in (shop.up, shop.status, down, lambda: shop.new("x")):
        with pytest.raises(Refused) as caught:
            work()
        assert repr(other) in caught.value.message
        assert shop.target.database in caught.value.message
    assert shop.tables() == []
    assert shop.tables(other) == []


def test_that_refusal_is_exit_2(inv: Any, shop: Shop, fresh_database: Callable[..., str]) -> None:
    other = fresh_database(shop.cluster)
    url = shop.cluster.target(other).url(driver="psycopg2")
    write_env(shop.folder, f"connection = create_engine({url!r}).connect()")
    done = inv("migrate.up")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: env.py connects to {other!r}")
    assert shop.tables() == shop.tables(other) == []


def test_the_same_name_on_another_server_is_another_database(
    shop: Shop, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    fresh_database(cluster18, shop.target.database)
    url = cluster18.target(shop.target.database).url(driver="psycopg2")
    write_env(shop.folder, f"connection = create_engine({url!r}).connect()")
    with pytest.raises(Refused, match="on server"):
        shop.up()
    assert cluster18.value("SELECT count(*) FROM pg_class WHERE relname = 'notes'") == 0


def test_an_env_py_that_swallows_the_refusal_changes_nothing(
    shop: Shop, fresh_database: Callable[..., str]
) -> None:
    other = fresh_database(shop.cluster)
    url = shop.cluster.target(other).url(driver="psycopg2")
    write_env(shop.folder, f"connection = create_engine({url!r}).connect()")
    text = (shop.folder / "env.py").read_text()
    swallowing = "try:\n" + textwrap.indent(text, "    ") + "\nexcept Exception:\n    pass\n"
    (shop.folder / "env.py").write_text(swallowing)

    with pytest.raises(Refused, match=other):
        shop.up()
    assert shop.tables(other) == shop.tables() == []


def test_a_connection_from_before_is_asked_when_alembic_gets_it(
    shop: Shop, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fresh_database(shop.cluster)
    engine = create_engine(shop.cluster.target(other).url(driver="psycopg2"))
    with engine.connect() as opened:
        module = types.ModuleType("opened_before")
        module.connection = opened  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "opened_before", module)
        write_env(shop.folder, "from opened_before import connection")
        with pytest.raises(Refused, match=other):
            shop.up()
    engine.dispose()
    assert shop.tables(other) == shop.tables() == []


def test_an_env_py_for_another_kind_of_database(shop: Shop) -> None:
    write_env(shop.folder, "connection = create_engine('sqlite://').connect()")
    with pytest.raises(Refused, match="sqlite"):
        shop.up()


def test_an_env_py_that_connects_as_somebody_else_is_warned_of(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    role = f"other_{os.getpid()}"
    shop.cluster.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
    try:
        url = replace(shop.target, user=role).url(driver="psycopg2")
        write_env(shop.folder, f"connection = create_engine({url!r}).connect()")
        shop.up()
        shop.down("base")
    finally:
        shop.cluster.execute(f"DROP OWNED BY {role}", shop.target.database)
        shop.cluster.execute(f"DROP ROLE {role}")
    assert f"env.py connects as '{role}'" in capsys.readouterr().err


def test_an_env_py_that_runs_nothing(shop: Shop) -> None:
    (shop.folder / "env.py").write_text("")
    with pytest.raises(Failed, match="ended without running migrations"):
        shop.up()


def test_status_and_plans_write_nothing_even_where_env_py_would(shop: Shop) -> None:
    early = "connection.exec_driver_sql('CREATE TABLE early ()')\nconnection.commit()"
    write_env(shop.folder, f"{FROM_INI}\n{early}")
    with pytest.raises(Failed, match="read-only"):
        shop.status()
    assert shop.tables() == []


def test_new_without_models_names_the_ways(inv: Any, shop: Shop) -> None:
    shop.up()
    text = (shop.folder / "env.py").read_text().replace(", target_metadata=metadata", "")
    (shop.folder / "env.py").write_text(text)
    done = inv("migrate.new", "-m", "x")
    assert done.returncode == 2
    assert "autogenerate" not in done.stderr
    assert "below pgtasks, or target_metadata there" in done.stderr
    assert "inv migrate.new --empty" in done.stderr


def test_new_on_a_database_that_is_behind_says_the_way(inv: Any, shop: Shop) -> None:
    assert "inv migrate.up first" in inv("migrate.new", "-m", "x").stderr


def test_a_project_of_djangos_is_not_told_to_begin_with_alembic(inv: Any, project: Path) -> None:
    (project / "manage.py").write_text("")
    done = inv("migrate.up")
    assert done.returncode == 2
    assert "python manage.py migrate" in done.stderr
    assert "alembic init" not in done.stderr


# what goes wrong


def test_a_revision_that_fails_is_named_with_what_is_left(inv: Any, shop: Shop) -> None:
    revision(shop.folder, "three", "two", "op.execute('CREATE TABLE notes ()')")

    done = inv("migrate.up")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "revision three failed" in last
    assert "three.py:6" in last
    assert 'relation "notes" already exists' in last
    assert last.endswith(
        "; its transaction was rolled back, the database is at no revision as before"
    )
    assert shop.tables() == []


def test_what_was_committed_before_a_failure_is_said(shop: Shop) -> None:
    text = (shop.folder / "env.py").read_text()
    one_by_one = text.replace(
        "target_metadata=metadata)", "target_metadata=metadata, transaction_per_migration=True)"
    )
    (shop.folder / "env.py").write_text(one_by_one)
    revision(shop.folder, "three", "two", "op.execute('SELECT 1/0')")

    with pytest.raises(Failed, match=r"division by zero; the database is at two$"):
        shop.up()
    assert shop.tables() == ["alembic_version", "notes", "tags"]


def test_a_database_newer_than_the_files_is_ahead(shop: Shop) -> None:
    shop.up()
    (shop.folder / "versions" / "two.py").unlink()
    assert (shop.status().word, shop.status().unknown) == ("ahead", ("two",))
    with pytest.raises(Refused, match="the database is at two, which no file here has"):
        shop.up()


def test_several_heads_are_diverged_and_need_a_name(shop: Shop) -> None:
    shop.up()
    for name in ("east", "west"):
        revision(shop.folder, name, "two", f"op.execute('CREATE TABLE {name} ()')")
    assert (shop.status().word, shop.status().heads) == ("diverged", ("east", "west"))
    with pytest.raises(Refused, match=r"(?i)heads"):
        shop.up()
    shop.up("heads")
    assert shop.status().word == "up-to-date"
    assert shop.status().current == ("east", "west")


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("import no_such_module", BadConfiguration, "migrations/env.py:1: ModuleNotFoundError"),
        ("raise SystemExit('no')", BadConfiguration, "migrations/env.py:1: SystemExit: no"),
        ("raise GeneratorExit('no')", Failed, "migrations/env.py:1: GeneratorExit: no"),
        ("raise BaseException('no')", Failed, "migrations/env.py:1: BaseException: no"),
        ("1 / 0", Failed, "migrations/env.py:1: ZeroDivisionError"),
        ("(", Failed, "migrations/env.py:1: SyntaxError"),
    ],
)
def test_an_env_py_that_is_broken(
    shop: Shop, line: str, kind: type[PgtasksError], words: str
) -> None:
    text = (shop.folder / "env.py").read_text()
    (shop.folder / "env.py").write_text(line + "\n" + text)
    with pytest.raises(kind) as caught:
        shop.up()
    assert caught.value.message.startswith(words)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("raised", ["SystemExit(0)", "GeneratorExit()", "BaseException('x')"])
def test_a_revision_that_raises_no_exception_is_a_failure(
    inv: Any, shop: Shop, raised: str
) -> None:
    revision(shop.folder, "three", "two", f"print('to stdout'); raise {raised}")
    failed = inv("migrate.up", "--json")
    assert failed.returncode in (1, 3), failed.stderr
    assert json.loads(failed.stdout)["exit_code"] == failed.returncode
    name = raised.partition("(")[0]
    last = failed.stderr.splitlines()[-1]
    assert "revision three failed: migrations/versions/three.py:" in last
    assert f": {name}: " in last
    assert "Traceback" not in failed.stderr
    assert shop.tables() == []


def test_a_protected_target_wants_its_name(inv: Any, shop: Shop) -> None:
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    assert inv("migrate.status").returncode == 0
    refused = inv("migrate.up")
    assert refused.returncode == 2
    assert f"--confirm {shop.target.database}" in refused.stderr
    assert shop.tables() == []
    assert inv("migrate.up", "--confirm", shop.target.database).returncode == 0


def test_a_database_that_is_not_there(inv: Any, shop: Shop) -> None:
    shop.cluster.drop(shop.target.database)
    done = inv("migrate.up")
    assert done.returncode == 4
    assert "inv db.create" in done.stderr


@pytest.mark.usefixtures("shop")
def test_another_run_holds_the_target(inv: Any, target: Target) -> None:
    with Lock(target, "a test"):
        done = inv("migrate.up")
    assert done.returncode == 6


def test_a_database_that_moved_since_the_plan_was_made(shop: Shop) -> None:
    plan = shop.plan("up", "head")
    shop.up("one")
    with pytest.raises(Refused, match="another run moved the database meanwhile, it is at one"):
        migrate.perform(shop.scripts, shop.target, shop.identity, plan)


def test_a_statement_that_waits_for_a_lock_gives_up(shop: Shop) -> None:
    shop.up()
    revision(shop.folder, "three", "two", "op.execute('ALTER TABLE notes ADD more int')")
    holder = shop.cluster.connect(shop.target.database)
    holder.autocommit = False
    try:
        holder.cursor().execute("LOCK TABLE notes")
        with pytest.raises(Failed, match="lock timeout; its transaction was rolled back"):
            shop.up()
    finally:
        holder.close()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_long_statement_ends_it_at_once(
    start_inv: Any, shop: Shop, sign: signal.Signals
) -> None:
    revision(shop.folder, "three", "two", "op.execute('SELECT pg_sleep(600)')")
    process = start_inv("migrate.up")
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
    until(lambda: shop.cluster.value(running))

    os.killpg(process.pid, sign)
    _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        "error: interrupted: its transaction was rolled back, the database is at no revision as "
        "before; steps that are done: lint"
    )
    assert shop.tables() == []
    assert shop.cluster.value(running + " AND state = 'active'") == 0


def test_a_revision_may_leave_the_transaction(shop: Shop) -> None:
    work = (
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE INDEX CONCURRENTLY by_text ON notes (text)')"
    )
    revision(shop.folder, "three", "two", work)
    with Lock(shop.target, "migrate.up"):
        assert len(shop.up().applied) == 3
    assert shop.status().word == "up-to-date"


def test_what_a_revision_committed_before_it_failed_is_named(inv: Any, shop: Shop) -> None:
    shop.up()
    work = (
        "op.execute('ALTER TABLE notes ADD COLUMN more text')\n"
        "with op.get_context().autocommit_block():\n"
        "    op.execute('DELETE FROM tags')\n"
        "    op.execute('CREATE INDEX CONCURRENTLY by_text ON notes (text)')\n"
        "op.execute('SELECT 1/0')"
    )
    revision(shop.folder, "three", "two", work)

    done = inv("migrate.up")

    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1].endswith(
        "division by zero; 3 statements of it had been committed and stay, the database is at two"
    )
    assert [line.strip() for line in lines if "stays:" in line] == [
        "stays: ALTER TABLE notes ADD COLUMN more text",
        "stays: DELETE FROM tags",
        "stays: CREATE INDEX CONCURRENTLY by_text ON notes (text)",
    ]


def test_an_index_is_built_concurrently_however_long_others_take(shop: Shop) -> None:
    shop.up()
    work = (
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE INDEX CONCURRENTLY by_text ON notes (text)')\n"
        "    op.execute(\"CREATE TABLE waits AS SELECT current_setting('lock_timeout') AS value\")"
    )
    revision(shop.folder, "three", "two", work)
    reader = shop.cluster.connect(shop.target.database)
    reader.autocommit = False
    reader.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")

    # an index that waits longer than other statements may
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%'"
        " AND wait_event_type = 'Lock' AND query_start < now() - interval '6 s'"
    )

    def let_go() -> None:
        try:
            until(lambda: shop.cluster.value(waiting))
        finally:
            reader.rollback()

    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(let_go)
        assert len(shop.up().applied) == 1
        waited.result()

    reader.close()
    assert shop.status().invalid_indexes == ()
    # what comes after it has the limit again
    assert shop.cluster.value("SELECT value FROM waits", shop.target.database) == "5s"


def test_an_invalid_index_is_named_by_status(inv: Any, shop: Shop) -> None:
    shop.up()
    shop.cluster.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'a')", shop.target.database)
    work = (
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE UNIQUE INDEX CONCURRENTLY \"By Text\" ON notes (text)')"
    )
    revision(shop.folder, "three", "two", work)

    done = inv("migrate.up")

    assert done.returncode == 1
    assert 'invalid index public."By Text": REINDEX INDEX CONCURRENTLY' in done.stderr
    assert 'invalid index public."By Text"' in inv("migrate.status").stdout
    assert document(inv("migrate.status", "--json"))["invalid_indexes"] == ['public."By Text"']


# new revision files


def test_new_writes_what_the_models_have_and_the_database_has_not(shop: Shop) -> None:
    shop.up()
    with pytest.raises(Refused, match="models and database agree"):
        shop.new("nothing")

    text = (shop.folder / "env.py").read_text()
    more = text.replace("metadata = MetaData()", 'metadata = MetaData()\nTable("ä 🐘", metadata)')
    (shop.folder / "env.py").write_text(more, encoding="utf-8")
    written = shop.new("add the 'ä' table").revision

    assert written.message == "add the 'ä' table"
    assert "ä 🐘" in (shop.root / written.file).read_text()
    with pytest.raises(Refused, match="not at the head"):
        shop.new("too early")
    shop.up()
    assert "ä 🐘" in shop.tables()


def test_new_empty_reaches_no_server(inv: Any, shop: Shop) -> None:
    (shop.root / "env" / "dev.yaml").write_text("url: postgresql://nobody@127.0.0.1:1/no\n")
    done = inv("migrate.new", "-m", "by hand", "--empty", "--json")
    assert done.returncode == 0, done.stderr
    assert (shop.root / document(done)["file"]).is_file()


def test_what_env_py_prints_stays_out_of_the_document(inv: Any, shop: Shop) -> None:
    text = (shop.folder / "env.py").read_text()
    (shop.folder / "env.py").write_text("print('hello from env.py')\n" + text)
    done = inv("migrate.up", "--json")
    assert document(done)["state"] == "up-to-date"
    assert "hello from env.py" in done.stderr


# names and secrets


def test_names_with_quotes_spaces_and_emoji(
    inv: Any, cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    name = fresh_database(cluster, 'it\'s a "db" 100% 🐘')
    target = cluster.target(name)
    put_stamp(target)
    made = Shop(cluster, target, make_project(tmp_path / "it's 100% 🐘", target.url()))
    write_env(made.folder, FROM_INI)
    revision(made.folder, "one", None, "op.execute('CREATE TABLE notes ()')")

    done = inv("migrate.up", cwd=made.root)

    assert done.returncode == 0, done.stderr
    assert made.tables() == ["alembic_version", "notes"]


def test_the_password_is_in_no_variable_and_no_url(
    inv: Any, password_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    target = password_cluster.target(fresh_database(password_cluster))
    put_stamp(target)
    made = Shop(password_cluster, target, make_project(tmp_path / "shop", "$SHOP"))
    (made.root / "env" / "dev.env").write_text(f"SHOP={target.url(reveal=True)}\n")
    seen = tmp_path / "seen"
    write_env(
        made.folder,
        f"{FROM_VARIABLE}\nimport subprocess\n"
        f"open({str(seen)!r}, 'w').write(subprocess.check_output(['env'], text=True)"
        " + context.config.get_main_option('sqlalchemy.url'))",
    )
    revision(made.folder, "one", None, "op.execute('CREATE TABLE notes ()')")

    done = inv("migrate.up", cwd=made.root)

    assert done.returncode == 0, done.stderr
    assert made.tables() == ["alembic_version", "notes"]
    assert "DATABASE_URL=postgresql" in seen.read_text()
    assert "s3cret" in password_cluster.password
    assert "s3cret" not in seen.read_text() + done.stdout + done.stderr


# Flask-Migrate

APP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {uri}
db = SQLAlchemy(app)
Migrate(app, db)


class Note(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.Text)
"""


def flask_project(root: Path, uri: str) -> None:
    """Make what `flask db init` makes, for an application that takes its URL from `uri`."""
    (root / "app.py").write_text(APP.format(uri=uri))
    subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "db", "init"],
        cwd=root,
        env={**os.environ, "DATABASE_URL": "postgresql+psycopg2://nobody@localhost/none"},
        check=True,
        capture_output=True,
    )


def test_a_project_of_flask_migrate(
    inv: Any, cluster: Cluster, target: Target, project: Path
) -> None:
    flask_project(project, "os.environ['DATABASE_URL']")
    made = Shop(cluster, target, project)
    (project / ".env").write_text("DATABASE_URL=postgresql+psycopg2://nobody@localhost/none\n")

    written = inv("migrate.new", "-m", "add notes")
    assert written.returncode == 0, written.stderr
    done = inv("migrate.up", "--json")

    assert done.returncode == 0, done.stderr
    assert made.tables() == ["alembic_version", "note"]
    assert "nobody" not in done.stderr
    assert inv("migrate.down").returncode == 0
    assert made.tables() == ["alembic_version"]


def test_a_flask_application_that_means_another_database(
    inv: Any,
    cluster: Cluster,
    target: Target,
    project: Path,
    fresh_database: Callable[..., str],
) -> None:
    other = fresh_database(cluster)
    flask_project(project, repr(cluster.target(other).url(driver="psycopg2")))
    made = Shop(cluster, target, project)

    done = inv("migrate.status")

    assert done.returncode == 2, done.stderr
    assert repr(other) in done.stderr.splitlines()[-1]
    assert made.tables() == made.tables(other) == []


VERSIONS = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
RUNS = """
CREATE SEQUENCE ran;
CREATE FUNCTION runs() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM nextval(''public.ran''); RETURN NEW; END';
CREATE FUNCTION runs(text) RETURNS bool IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN PERFORM nextval(''public.ran''); RETURN true; END';
CREATE FUNCTION runs(varchar, varchar) RETURNS bool LANGUAGE plpgsql
    AS 'BEGIN PERFORM nextval(''public.ran''); RETURN $1::text = $2::text; END';
"""
ON_THE_VERSION_TABLE = {
    "trigger runs": f"{VERSIONS}; CREATE TRIGGER runs BEFORE INSERT OR UPDATE ON alembic_version"
    " FOR EACH ROW EXECUTE FUNCTION runs()",
    "rule runs": f"{VERSIONS}; CREATE RULE runs AS ON INSERT TO alembic_version"
    " DO ALSO SELECT runs('x')",
    "default of extra": f"{VERSIONS}; ALTER TABLE alembic_version ADD extra bool,"
    " ALTER extra SET DEFAULT runs('x')",
    "check runs": f"{VERSIONS}; ALTER TABLE alembic_version ADD CONSTRAINT runs"
    " CHECK (runs(version_num::text))",
    "index runs": f"{VERSIONS}; CREATE INDEX runs ON alembic_version (runs(version_num::text))",
    "policy runs": f"{VERSIONS}; CREATE POLICY runs ON alembic_version USING (runs('x'))",
    "rule _RETURN": "CREATE VIEW alembic_version AS SELECT 'x'::varchar AS version_num"
    " WHERE runs('x')",
    "type of version_num": "CREATE DOMAIN runs AS varchar CHECK (runs(VALUE::text));"
    " CREATE TABLE alembic_version (version_num runs)",
    "trigger below": f"{VERSIONS}; CREATE TABLE below () INHERITS (alembic_version);"
    " CREATE TRIGGER below BEFORE UPDATE ON below FOR EACH ROW EXECUTE FUNCTION runs()",
    "operator =": f"{VERSIONS}; CREATE OPERATOR public.= (FUNCTION = runs, LEFTARG = varchar,"
    " RIGHTARG = varchar)",
}


@pytest.mark.parametrize("code", ON_THE_VERSION_TABLE)
def test_the_version_table_runs_no_code_of_a_plain_role(
    plain: Callable[..., str], shop: Shop, code: str
) -> None:
    """With the rights of a superuser; its owner may migrate."""
    role, database = plain(), shop.target.database
    shop.cluster.execute(f"GRANT CREATE ON SCHEMA public TO {role}", database)
    shop.cluster.execute(f"SET ROLE {role}; {RUNS}; {ON_THE_VERSION_TABLE[code]}", database)
    words = f"would run {code!r} of {role!r}, who is no superuser"
    with pytest.raises(Refused, match=re.escape(words)):
        shop.up()
    if "trigger" in code:
        with pytest.raises(Refused, match=re.escape(words)):
            stamp(*shop.place, "head", Stamped((), ("two",)))
    assert shop.cluster.value("SELECT is_called FROM ran", database) is False
    if code == "trigger runs":
        shop.target = replace(shop.target, user=role)
        shop.up("one")
        assert shop.cluster.value("SELECT is_called FROM ran", database) is True


def test_a_superuser_writes_the_version_table_of_a_plain_role(
    plain: Callable[..., str], shop: Shop
) -> None:
    """If it has no code, or a superuser's."""
    role, database = plain(), shop.target.database
    shop.cluster.execute(f"{VERSIONS}; ALTER TABLE alembic_version OWNER TO {role}", database)
    shop.up("one")
    shop.cluster.execute(f"ALTER TABLE alembic_version OWNER TO CURRENT_USER; {RUNS}", database)
    shop.cluster.execute(ON_THE_VERSION_TABLE["trigger runs"].partition(";")[2], database)
    shop.up()
    shop.cluster.execute(f"ALTER FUNCTION runs() OWNER TO {role}", database)
    with pytest.raises(Refused, match="would run 'trigger runs'"):
        shop.down()
