"""Whoever may create objects where a role looks first runs nothing as that role.

What our queries name is shadowed, all of it: names are taken from the library's text, whatever a
query there may come to name. A namesake that is called or read says so in the server's log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Inv
from paths import SUPPORT
from projects import make_project, put_stamp
from servers import Cluster, running, wheel_bin

import pgtasks

LIBRARY = Path(pgtasks.__file__).resolve().parent
HOSTILE = (SUPPORT / "hostile.sql").read_text()
CONTENT = """
SET search_path = pg_catalog;
CREATE TABLE public.orders (id serial PRIMARY KEY, note text NOT NULL);
INSERT INTO public.orders (note) SELECT 'n' || n FROM generate_series(1, 10) n;
CREATE VIEW public.totals AS SELECT count(*) AS number FROM public.orders;
"""


def words() -> str:
    """Return every word of the library's text that may be a name in a catalog."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in LIBRARY.rglob("*.py"))
    return " ".join(sorted(set(re.findall(r"[a-z_][a-z0-9_]+", text))))


def shadow(cluster: Cluster, database: str, schema: str) -> None:
    with closing(cluster.connect(database)) as conn, conn.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        cursor.execute("SELECT set_config('hostile.schema', %s, false)", (schema,))
        cursor.execute("SELECT set_config('hostile.names', %s, false)", (words(),))
        cursor.execute(HOSTILE)


def called(cluster: Cluster) -> list[str]:
    """Return what the namesakes have said, and forget it."""
    log = cluster.folder / "log"
    said = re.findall(r"WARNING:  (hostile .*)", log.read_text(encoding="utf-8", errors="replace"))
    log.write_text("")
    return sorted(set(said))


@pytest.fixture(scope="module")
def hostile() -> Iterator[Cluster]:
    """A server whose roles look into a hostile schema first, in `shop` and where locks are held."""
    with running(wheel_bin(16)) as cluster:
        cluster.execute("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader")
        shadow(cluster, cluster.create("hall"), "evil")
        for who in ("DATABASE hall", "ROLE reader", "ROLE postgres"):
            cluster.execute(f"ALTER {who} SET search_path = evil, public, pg_catalog")
        yield cluster


FUNCTION = """
CREATE OR REPLACE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN new; END $$;
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON public.orders
  FOR EACH ROW EXECUTE FUNCTION public.touch();
"""


@pytest.fixture
def shop(hostile: Cluster, tmp_path: Path) -> Iterator[Path]:
    root = make_project(tmp_path / "shop", hostile.url("shop"))
    settings = root / "env" / "dev.yaml"
    settings.write_text(settings.read_text() + "maintenance: hall\n")
    hostile.execute("CREATE DATABASE shop TEMPLATE hall")
    hostile.execute(CONTENT, "shop")
    put_stamp(hostile.target("shop"))
    files = {"sql/seeds/none.sql": "-- nothing", "none.sql": "-- nothing"}
    for name, text in (files | {"sql/triggers/touch.sql": FUNCTION}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    called(hostile)
    yield root
    hostile.drop("shop")


def test_the_namesakes_are_there_and_speak(hostile: Cluster) -> None:
    """Else none of them being called would prove nothing."""
    for statement in (
        "SELECT shobj_description(1::oid, 'pg_database'::name)", "SELECT 1::oid = 2::oid",
        "SELECT 'a'::text ~ 'b'::text", "SELECT 'a'::text", "SELECT FROM pg_class LIMIT 1",
        "SELECT current_setting('port'::text)", "SELECT FROM pg_database LIMIT 1",
    ):  # fmt: skip
        called(hostile)
        hostile.execute(statement, "hall")
        assert called(hostile), statement


# Each line is one process: tasks in the order of a day, so that each has something to do.
TASKS = """
trigger.apply db.check env.check env.status seed.list trigger.verify
db.backup backup.verify backup.list backup.show latest
env.stamp db.create db.run --file none.sql seed.load --set none setup
db.restore db.undo db.recover db.forget --yes
db.drop --yes
"""
AS_READER = """
db.check env.check env.status
db.backup backup.verify backup.show latest
"""


def ran(hostile: Cluster, shop: Path, inv: Inv, line: str) -> None:
    done = inv(*line.split(), cwd=shop)
    assert called(hostile) == [], (line, done.stdout, done.stderr)
    assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_no_task_of_a_reader_calls_one(hostile: Cluster, shop: Path, inv: Inv) -> None:
    settings = shop / "env" / "dev.yaml"
    settings.write_text(settings.read_text().replace("postgres@", "reader@"))
    for line in AS_READER.strip().splitlines():
        ran(hostile, shop, inv, line)
    [proof] = (shop / "backups").glob("*/*/*/proof.json")
    assert ["public", "orders", 10] in [row[:3] for row in json.loads(proof.read_text())["tables"]]


def test_no_task_of_a_superuser_calls_one(hostile: Cluster, shop: Path, inv: Inv) -> None:
    for line in TASKS.strip().splitlines():
        ran(hostile, shop, inv, line)
