"""The planner's statistics: carried over by the dump since 18, gathered where it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Inv
from projects import make_project, put_stamp
from restores import save
from servers import Cluster

from backups import local_backup
from pgtasks.backup.restore.plan import script_argv
from pgtasks.backup.restore.rolemap import RoleMap
from pgtasks.host.tools import Toolset
from pgtasks.server.dump import pg_dump
from pgtasks.server.proof import toc

TABLES = """
CREATE TABLE plain (id int PRIMARY KEY, word text) WITH (autovacuum_enabled = off);
INSERT INTO plain SELECT i, 'word ' || i % 5 FROM generate_series(1, 2000) i;
CREATE INDEX ON plain ((id % 7));
CREATE TABLE "late "" one" (id int);
CREATE TABLE extended (a int, b int);
INSERT INTO extended SELECT i % 10, i % 10 FROM generate_series(1, 1000) i;
CREATE STATISTICS "a and b" (dependencies) ON a, b FROM extended;
CREATE MATERIALIZED VIEW words AS SELECT word, count(*) FROM plain GROUP BY 1;
ANALYZE;
INSERT INTO "late "" one" SELECT generate_series(1, 300);
-- what no ANALYZE would find: it was carried over
UPDATE plain SET word = 'other';
"""
COMMON = (
    "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'plain' AND attname = 'word'"
)
KNOWN = "SELECT count(*) FROM pg_stats WHERE tablename = %s"


@pytest.fixture
def shop(cluster18: Cluster, fresh_database: Callable[..., str], tmp_path: Path) -> Path:
    """Return a project whose database is of 18, with statistics of some tables."""
    name = fresh_database(cluster18)
    cluster18.execute(TABLES, name)
    put_stamp(cluster18.target(name))
    return make_project(tmp_path / "shop", cluster18.url(name))


def name_of(shop: Path) -> str:
    text = (shop / "env" / "dev.yaml").read_text()
    return text.partition("/t")[2].partition("?")[0].join(("t", ""))


def test_they_come_with_the_dump_or_are_gathered(cluster18: Cluster, shop: Path, inv: Inv) -> None:
    name = name_of(shop)
    save(shop)
    before = cluster18.value(COMMON, name)
    assert "word 1" in before
    done = inv("db.restore", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert cluster18.value(COMMON, name) == before  # no ANALYZE saw the rows
    for table in ('late " one', "extended", "words"):
        assert cluster18.value(KNOWN, name, (table,)), table
    assert cluster18.value("SELECT count(*) FROM pg_stats_ext", name) == 1
    query = "SELECT count(*) FROM pg_stats WHERE tablename LIKE 'plain_%%idx' AND attname = 'expr'"
    assert cluster18.value(query, name) == 1
    again = inv("backup.diff", "latest", cwd=shop)
    assert again.returncode == 0, again.stderr


def test_those_of_the_system_catalogs_are_not_gathered_again(
    cluster: Cluster, project: Path, database: str, inv: Inv
) -> None:
    cluster.execute("CREATE TABLE plain AS SELECT generate_series(1, 300) AS id", database)
    save(project)
    done = inv("db.restore", cwd=project)
    assert done.returncode == 0, done.stderr
    query = (
        "SELECT s.relname FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid"
        " WHERE last_analyze IS NOT NULL AND NOT relisshared"
    )
    assert cluster.execute(query, database) == [("plain",)]


def test_parts_of_a_database_have_none(cluster18: Cluster, shop: Path, inv: Inv) -> None:
    """They hold values of all tables, also of those whose rows are left out."""
    for flags in (("--exclude-table-data", "plain"), ("--schema-only",)):
        path = save(shop, *flags)
        raw = next(Path(path).glob("dump*"))
        raw = raw / "toc.dat" if raw.is_dir() else raw
        assert b"word 1" not in raw.read_bytes()
        assert not any(e.desc == toc.STATISTICS for e in entries(path))


def entries(path: str) -> list[toc.Entry]:
    backup = local_backup(Path(path))
    return pg_dump.contents(backup.host, backup.manifest.layout, backup.dump)


def test_an_older_server_is_not_asked_to_take_them() -> None:
    def flags(major: int, tools: int) -> tuple[str, ...]:
        toolset = Toolset("/bin", (tools, 0), "system")
        plan = SimpleNamespace(
            tools=toolset,
            major=major,
            no_tablespaces=False,
            no_owner=False,
            no_acl=False,
            role_map=RoleMap(),
            dump="dump",
        )
        return script_argv(plan, use_list="list")  # type: ignore[arg-type]

    assert "--no-statistics" in flags(17, 18)
    assert "--no-statistics" not in flags(18, 18)
    assert "--no-statistics" not in flags(16, 16)  # which does not know the flag
