"""The SQL of trigger files in revisions, and the library's own triggers in a project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from shops import Shop
from triggers import ON_NOTES, TOUCH
from waiting import PATIENCE, until

from migrations import revision, write_env
from pgtasks.errors import Refused
from pgtasks.schema import migrate, trigger
from pgtasks.schema.freeze import freeze
from pgtasks.schema.trigger import add
from pgtasks.settings.project import load
from pgtasks.settings.target import Target

# what a parameter, a percent sign, an escape and the end of a string look like
ODD = TOUCH.replace(
    "-- ü 🐘",
    "NEW.text := ' :x %s %(y)s 100% \\: \\\\' || '{1,2,3}'::text || ('{1,2}'::int[])[1:2]::text;",
)
TABLE = "CREATE TABLE notes (id int PRIMARY KEY, text text, at timestamptz)"
DEFINITION = "SELECT max(prosrc) FROM pg_proc WHERE proname = 'touch'"


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    made = Shop(cluster, target, project)
    write_env(made.folder)
    revision(made.folder, "one", None, f"op.execute({TABLE!r})")
    made.up()
    return made


def write(root: Path, name: str, text: str) -> None:
    (root / "sql" / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "sql" / name).write_text(text, encoding="utf-8")


def frozen(shop: Shop, message: str, *names: str) -> str:
    files = trigger.read(load(shop.root))
    written = freeze(shop.scripts, files, shop.target, message, names)
    return (shop.root / written.revision.file).read_text(encoding="utf-8")


def body(text: str) -> str:
    return text.split("$$")[1]


def test_a_revision_has_the_exact_text_and_goes_back_to_the_last(shop: Shop) -> None:
    write(shop.root, "functions/touch.sql", ODD)
    write(shop.root, "triggers/touch.sql", ON_NOTES)
    text = frozen(shop, "freeze")
    assert "pgtasks" not in text
    assert ODD.partition("\n")[2].strip().rstrip(";") in text
    assert "DROP TRIGGER IF EXISTS touch ON notes" in text
    shop.up()
    database = shop.target.database
    assert shop.cluster.value(DEFINITION, database) == body(ODD)
    assert not trigger.verify(trigger.read(load(shop.root)), shop.target).faults(orphans=True)

    write(shop.root, "functions/touch.sql", TOUCH + '-- an end: """\n')
    write(
        shop.root,
        "triggers/touch.sql",
        "DROP TRIGGER IF EXISTS late ON notes; CREATE CONSTRAINT TRIGGER late AFTER INSERT ON notes"
        ' FOR EACH ROW EXECUTE FUNCTION touch(\'"""\');' + ON_NOTES.replace("INSERT OR", ""),
    )
    frozen(shop, "again")
    plan = migrate.with_sql(*shop.place, shop.plan("up", "head"))
    sql = "\n".join(plan.lines())
    assert "NEW.at := now(); -- ü 🐘" in sql
    shop.up()
    assert not trigger.verify(trigger.read(load(shop.root)), shop.target).faults(orphans=True)

    shop.down()
    write(shop.root, "functions/touch.sql", ODD)
    write(shop.root, "triggers/touch.sql", ON_NOTES)
    assert not trigger.verify(trigger.read(load(shop.root)), shop.target).faults(orphans=True)
    shop.down()
    assert shop.cluster.value("SELECT count(*) FROM pg_trigger", database) == 0
    assert shop.cluster.value(DEFINITION, database) is None


def test_only_what_is_named_is_frozen(shop: Shop) -> None:
    write(shop.root, "functions/touch.sql", TOUCH)
    write(shop.root, "triggers/touch.sql", ON_NOTES)
    assert "CREATE OR REPLACE TRIGGER" not in frozen(shop, "function", "touch()")
    assert "CREATE OR REPLACE FUNCTION" not in frozen(shop, "trigger", "touch on notes")
    write(shop.root, "functions/touch.sql", TOUCH.replace("touch()", "public.touch()"))
    for name in ("touch()", "public.touch()"):
        assert "CREATE OR REPLACE TRIGGER" not in frozen(shop, "function", name)
    with pytest.raises(Refused, match="no function or trigger 'tuoch' in the files"):
        frozen(shop, "neither", "tuoch")


SHOP = """
CREATE TABLE orders (id int, part int, text text, created_at timestamptz, updated_at timestamptz,
    "made by" text, changed_by text, "Passwd" text, api_key text, PRIMARY KEY (id, part));
CREATE SCHEMA "o'dd"; CREATE TABLE "o'dd"."a b" (id int PRIMARY KEY, created_at timestamptz,
    updated_at timestamptz);
CREATE TABLE bare (id int)
"""


@pytest.fixture
def orders(cluster: Cluster, target: Target, project: Path) -> Path:
    cluster.execute(SHOP, target.database)
    return project


def added(root: Path, target: Target, kind: str, *tables: str, **options: Any) -> add.Added:
    done = add.add(load(root), target, add.Options(kind, tables, **options))
    trigger.apply(trigger.read(load(root)), target)
    assert not trigger.verify(trigger.read(load(root)), target).faults(orphans=True)
    return done


def test_triggers_of_the_library_for_any_table_and_key(
    cluster: Cluster, target: Target, orders: Path
) -> None:
    first = added(orders, target, "timestamps", "orders", '"o\'dd"."a b"')
    assert first.written == ("sql/functions/set_timestamps.sql", "sql/triggers/set_timestamps.sql")
    again = added(orders, target, "timestamps", "public.orders")
    assert (again.written, len(again.unchanged)) == ((), 2)
    names = ("made by", "changed_by")
    added(orders, target, "track-user", "orders", columns=names, setting="shop.who")
    added(orders, target, "audit", "orders", '"o\'dd"."a b"', clock="wall")
    added(orders, target, "password", "orders", columns=("Passwd",))
    assert (orders / "sql" / "functions" / "protect_passwd.sql").exists()

    session = cluster.connect(target.database)
    session.autocommit = False
    with session.cursor() as cursor:
        cursor.execute("SELECT set_config('shop.who', 'ann', true)")
        cursor.execute("INSERT INTO orders (id, part, text, api_key) VALUES (1, 2, 'a', 'x')")
        cursor.execute("UPDATE orders SET text = 'b', created_at = NULL")
        cursor.execute(
            'SELECT created_at = now() AND updated_at = now(), "made by", changed_by FROM orders'
        )
        assert cursor.fetchone() == (True, "ann", "ann")
        cursor.execute(
            "SELECT table_name, row_key, action, changed, new_row ->> 'text',"
            " new_row ? 'api_key' OR new_row ? 'Passwd', logged_at > now()"
            " FROM audit_log ORDER BY id"
        )
        key = {"id": 1, "part": 2}
        assert cursor.fetchall() == [
            ("public.orders", key, "INSERT", None, "a", False, True),
            ("public.orders", key, "UPDATE", ["text"], "b", False, True),
        ]
        cursor.execute('INSERT INTO "o\'dd"."a b" VALUES (7); SELECT row_key FROM audit_log')
        assert cursor.fetchall()[-1] == ({"id": 7},)
        with pytest.raises(Exception, match="password hash of an unknown format refused"):
            cursor.execute("UPDATE orders SET \"Passwd\" = '$1$md5$'")
    session.close()


@pytest.mark.parametrize(
    ("kind", "tables", "options", "words"),
    [
        ("stamps", ("orders",), {}, "unknown trigger 'stamps', known: timestamps, track-user"),
        ("timestamps", (), {}, "which tables"),
        ("timestamps", ("orders",), {"clock": "moon"}, "unknown clock 'moon', known: transaction"),
        ("timestamps", ("orders",), {"columns": ("a",)}, "--columns: 1 names, timestamps has 2"),
        ("timestamps", ("nowhere",), {}, "no table 'nowhere'"),
        ("timestamps", ("bare",), {}, "public.bare has no column 'created_at'"),
        ("audit", ("bare",), {}, "public.bare has no primary key"),
        ("track-user", ("orders",), {"setting": "a'; DROP"}, "expected a name with a dot"),
    ],
)
def test_what_cannot_be_added(
    orders: Path, target: Target, kind: str, tables: tuple[str, ...], options: Any, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        add.add(load(orders), target, add.Options(kind, tables, **options))
    assert not (orders / "sql").exists()


def test_a_function_that_was_edited_is_not_overwritten(orders: Path, target: Target) -> None:
    added(orders, target, "timestamps", "orders")
    file = orders / "sql" / "functions" / "set_timestamps.sql"
    file.write_text(file.read_text() + "-- mine\n")
    with pytest.raises(
        Refused, match=r"sql/functions/set_timestamps\.sql has another text: edit it"
    ):
        added(orders, target, "timestamps", "orders")


def test_watch_applies_what_is_saved(
    cluster: Cluster, shop: Shop, project: Path, database: str
) -> None:
    """An error is said, and the next save is tried again. Ctrl-C ends it."""
    write(project, "functions/touch.sql", TOUCH)
    inv = Path(sys.executable).parent / "inv"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [inv, "trigger.watch"], cwd=project, env=env, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr is not None
        until(lambda: cluster.value(DEFINITION, database) == body(TOUCH))
        write(project, "triggers/touch.sql", "CREATE TRIGGER x BEFOR")
        for line in watching.stderr:
            if line.startswith("error: sql/triggers/touch.sql:1: syntax error"):
                break
        later = TOUCH.replace("now()", "clock_timestamp()")
        write(project, "triggers/touch.sql", ON_NOTES)
        write(project, "functions/touch.sql", later)
        until(lambda: cluster.value(DEFINITION, database) == body(later))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE) == 130
        assert "Traceback" not in watching.stderr.read()


def test_watch_refuses_a_protected_environment(inv: Any, shop: Shop, project: Path) -> None:
    write(project, "functions/touch.sql", TOUCH)
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    done = inv("trigger.watch")
    assert done.returncode == 2
    assert "nothing is applied there without being asked for" in done.stderr
