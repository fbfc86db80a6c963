"""The planner's statistics: carried over by the dump since 18, gathered where it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from pgtasks.server import connection, statistics
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


PARTITIONED = """
CREATE TABLE "the ""whole" (id int) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF "the ""whole" FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (50);
CREATE TABLE high PARTITION OF "the ""whole" FOR VALUES FROM (100) TO (1000);
INSERT INTO "the ""whole" SELECT generate_series(0, 40);
INSERT INTO "the ""whole" SELECT generate_series(100, 400);
CREATE TABLE alone AS SELECT generate_series(1, 10) AS id;
"""
OF_PARTITIONED = "SELECT tablename, inherited FROM pg_stats WHERE attname = 'id' ORDER BY 1, 2"
ALL = [
    *(("alone", False), ("high", False), ("low", True), ("lowest", False)),
    ('the "whole', True),
]


@pytest.mark.parametrize("analyzed", ["", "lowest, high, alone"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_partitioned_table_has_those_of_all_its_partitions(
    any_cluster: Cluster,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    inv: Inv,
    in_place: bool,
    analyzed: str,
) -> None:
    if not any_cluster.value("SELECT count(*) FROM pg_roles WHERE rolname = 'without_createdb'"):
        any_cluster.execute("CREATE ROLE without_createdb LOGIN")
    name = fresh_database(any_cluster, owner="without_createdb")
    any_cluster.execute("GRANT ALL ON SCHEMA public TO without_createdb", name)
    text = f"SET ROLE without_createdb; {PARTITIONED}{f'ANALYZE {analyzed}' if analyzed else ''}"
    any_cluster.execute(text, name)
    put_stamp(any_cluster.target(name))
    user = "without_createdb" if in_place else any_cluster.superuser
    shop = make_project(tmp_path / "shop", replace(any_cluster.target(name), user=user).url())
    save(shop)
    flags = ("--in-place", "--yes") if in_place else ()
    done = inv("db.restore", *flags, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert any_cluster.execute(OF_PARTITIONED, name) == ALL


def test_more_partitioned_tables_than_one_names(
    any_cluster: Cluster, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MOST", 1)
    name = fresh_database(any_cluster)
    any_cluster.execute(PARTITIONED, name)
    target = any_cluster.target(name)
    with connection.session(target, read_only=True) as conn:
        found = statistics.missing(conn)
    assert statistics.flags(found.tables) == ()  # for all that are no partitioned ones
    assert sorted(found.tables) == [
        f'"public".{each}' for each in ('"alone"', '"high"', '"lowest"')
    ]
    statistics.gather_parents(target, found.parents, purpose="test")
    assert {("low", True), ('the "whole', True)} <= set(any_cluster.execute(OF_PARTITIONED, name))


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
