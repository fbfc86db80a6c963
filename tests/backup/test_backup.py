"""Backups: whole, true to one moment, restorable with stock tools."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paths import SUPPORT
from psycopg2 import sql
from schemas import tool
from servers import Cluster
from waiting import PATIENCE, meanwhile, until

from backups import (
    SHOP,
    below,
    described,
    differences,
    interfering_tools,
    make,
    once,
    restored,
    said,
)
from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.format import manifest
from pgtasks.backup.restore import plan
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import BadConfiguration, Failed, Refused, Unreachable, VersionMismatch
from pgtasks.host.local import HERE
from pgtasks.server import connection, proof, stamp
from pgtasks.server.dump import layout, pack, pg_dump
from pgtasks.server.dump.watch import Watch
from pgtasks.server.identity import system_identifier
from pgtasks.server.proof.entries import schema as schema_of
from pgtasks.server.proof.reader import ProofReader
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

ZOO = (SUPPORT / "zoo.sql").read_text(encoding="utf-8")
ODD_NAMES = ["plain", 'it\'s a "name"', "größe 🐘/x=y %41", "-dash", "é" * 31]
Fresh = Callable[..., str]


@pytest.fixture
def shop(cluster: Cluster, target: Target) -> Target:
    cluster.psql(target.database, SHOP)
    return target


class TestPacked:
    """The files of a folder are compressed here, by default, while pg_dump writes them."""

    def test_stock_tools_read_it(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        target = any_cluster.target(fresh_database(any_cluster))
        any_cluster.psql(target.database, ZOO + SHOP)
        made = make(target, tmp_path)
        if not pack.possible(tmp_path):
            pytest.skip("no isal, no inotify, or a file system without holes: nothing to install")
        names = [name for name in made.manifest.files if name.startswith("dump/")]
        assert made.manifest.compression == "gzip"
        assert {Path(name).suffix for name in names if "blobs" not in name} == {".gz", ".dat"}
        assert [name for name in names if name.endswith(".dat")] == ["dump/toc.dat"]
        sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        subprocess.run(sums, cwd=made.path, check=True)
        assert differences(made, restored(made, any_cluster, fresh_database)) == ()

    def test_pg_dump_compresses_where_that_is_not_possible(
        self, shop: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "isal", None)
        made = make(shop, tmp_path)
        assert made.manifest.compression == "gzip:1"
        assert any(name.endswith(".dat.gz") for name in made.manifest.files)

    def test_a_level_is_pg_dumps_own(self, shop: Target, tmp_path: Path) -> None:
        assert make(shop, tmp_path, compression="gzip:9").manifest.compression == "gzip:9"


class TestRoundTrip:
    @pytest.mark.parametrize("layout", ["directory", "custom"])
    def test_everything_comes_back(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path, layout: str
    ) -> None:
        target = any_cluster.target(fresh_database(any_cluster))
        any_cluster.psql(target.database, ZOO)
        made = make(target, tmp_path, layout=layout, note="ünï 🐘")
        assert differences(made, restored(made, any_cluster, fresh_database)) == ()
        manifest = made.manifest
        assert (manifest.tables, manifest.rows) == (20, 152)
        assert (manifest.environment, manifest.database) == ("dev", target.database)
        assert manifest.note == "ünï 🐘"
        assert manifest.major == manifest.dump_tool[0] == any_cluster.major
        assert manifest.with_proof
        assert manifest.layout == layout
        found = made.proof()
        assert found is not None
        assert len(found.sequences) == 5
        assert manifest.complete
        assert LocalStore(tmp_path).find("dev", target.database) == made

    def test_files_are_the_owner_s_alone_and_summed(self, shop: Target, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            made = make(shop, tmp_path / "backups")
        finally:
            os.umask(before)
        for path in [tmp_path / "backups", *(tmp_path / "backups").rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
        done = subprocess.run(
            ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made.path, capture_output=True
        )
        assert (done.returncode, done.stdout) == (0, b"")
        there = {name for name in below(made.path) if (made.path / name).is_file()}
        assert there == {*made.manifest.files, "manifest.json"}
        summed = (made.path / "SHA256SUMS").read_text().splitlines()
        assert {line.split("  ")[1] for line in summed} == there - {"SHA256SUMS", "manifest.json"}

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_readme_s_commands_run_as_they_stand(
        self, cluster: Cluster, fresh_database: Fresh, tmp_path: Path, name: str
    ) -> None:
        cluster.execute('DROP ROLE IF EXISTS "a \'role"; CREATE ROLE "a \'role"')
        try:
            target = self._dressed(cluster, fresh_database(cluster, name))
            made = make(target, tmp_path)
            cluster.drop(name)
            cluster.execute('DROP ROLE "a \'role"')
            words = (made.path / "README.txt").read_text(encoding="utf-8")
            commands = [line.strip() for line in words.splitlines() if re.match(r" {4}\w+ -", line)]
            assert [command.split()[0] for command in commands] == [
                "sha256sum", "psql", "createdb", "psql", "pg_restore", "vacuumdb", "psql",
            ]  # fmt: skip
            for command in commands:
                self._shell(cluster, command, made.path)
            assert differences(made, target) == ()
            with connection.session(target) as conn:
                facts = connection.rows(
                    conn,
                    "SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text,"
                    " shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
                    (name,),
                )[0]
                assert connection.value(conn, "SHOW work_mem") == "5MB"
                assert connection.value(conn, "SHOW app.greeting") == "it's"
            assert cluster.value("SHOW default_transaction_read_only", name) == "on"
            roles = "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting s JOIN"
            roles += " pg_database d ON d.oid = s.setdatabase WHERE datname = %s AND setrole <> 0"
            own = ('"a \'role"', ["default_transaction_read_only=off"])
            assert cluster.execute(roles, parameters=(name,)) == [own]
            assert facts[:2] == ("a 'role", 7)
            assert "=c/" in facts[2]
            assert facts[3] == "a 'comment'\nof two lines"
        finally:
            cluster.drop(name)
            cluster.execute('DROP ROLE IF EXISTS "a \'role"')

    def _dressed(self, cluster: Cluster, name: str) -> Target:
        target = cluster.target(name)
        cluster.execute(SHOP, name)
        database = sql.Identifier(name)
        for statement in (
            'ALTER DATABASE {} OWNER TO "a \'role"',
            "ALTER DATABASE {} SET work_mem = '5MB'",
            "ALTER DATABASE {} SET app.greeting = 'it''s'",
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            'ALTER ROLE "a \'role" IN DATABASE {} SET default_transaction_read_only = off',
            "ALTER DATABASE {} CONNECTION LIMIT 7",
            "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC",
        ):
            cluster.execute(sql.SQL(statement).format(database))
        with connection.session(target) as conn:
            mark = stamp.Stamp("dev", name, system_identifier(conn))
            text = "a 'comment'\nof two lines"
            connection.execute(conn, stamp.comment_statement(name, text, mark))
        return target

    def _shell(self, cluster: Cluster, command: str, folder: Path) -> None:
        env = {
            "PATH": f"{cluster.bin}:/usr/bin:/bin",
            "PGHOST": cluster.host,
            "PGPORT": str(cluster.port),
            "PGUSER": cluster.superuser,
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)

    def test_what_it_saves_has_no_stamp(self, shop: Target, tmp_path: Path) -> None:
        with connection.session(shop) as conn:
            mark = stamp.Stamp("dev", shop.database, system_identifier(conn))
            connection.execute(conn, stamp.comment_statement(shop.database, "mine", mark))
        made = make(shop, tmp_path)
        assert made.database().comment == "mine"
        for name in ("settings.sql", "database.json", "README.txt", "globals.sql"):
            assert "pgtasks: environment=" not in (made.path / name).read_text(encoding="utf-8")

    def test_sequences_are_those_of_the_dump(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        with busy(cluster, shop.database, "SELECT nextval('orders_id_seq')"):
            made = make(shop, tmp_path)
        found = made.proof()
        assert found is not None
        customers, orders = found.sequences
        assert (str(customers), customers.value, customers.called) == (
            "public.customers_id_seq",
            100,
            True,
        )
        assert orders.value > 1002
        assert proof.take(restored(made, cluster, fresh_database)).sequences == found.sequences


class TestOptions:
    def test_schema_only(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        made = make(shop, tmp_path, schema_only=True)
        target = restored(made, cluster, fresh_database)
        assert differences(made, target) == ()
        assert proof.take(target).rows == 0
        assert (made.manifest.tables, made.manifest.rows) == (2, 0)
        assert not made.manifest.complete
        with pytest.raises(Refused, match="no complete backup"):
            LocalStore(tmp_path).find("dev", shop.database)

    def test_rows_of_some_tables_left_out(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        made = make(shop, tmp_path, exclude_table_data=("ord*",))
        target = restored(made, cluster, fresh_database)
        assert differences(made, target) == ()
        assert [(table.name, table.rows) for table in proof.take(target).tables] == [
            ("customers", 100),
            ("orders", 0),
        ]
        found = made.proof()
        assert found is not None
        assert {item.object for item in found.unproven} == {
            "table public.orders",
            "sequence public.orders_id_seq",
        }
        assert not made.manifest.complete
        assert made.manifest.excluded_data == ("ord*",)

    def test_a_pattern_that_matches_nothing(self, shop: Target, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="'odrers' matches no table"):
            make(shop, tmp_path, exclude_table_data=("odrers",))
        assert below(tmp_path) == []

    def test_no_proof(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        made = make(shop, tmp_path, proof=False)
        assert made.proof() is None
        assert made.manifest.rows is None
        assert made.manifest.tables == 2
        assert proof.take(restored(made, cluster, fresh_database)).rows == 1100

    def test_passwords_only_where_asked(
        self, cluster: Cluster, shop: Target, tmp_path: Path
    ) -> None:
        cluster.execute("DROP ROLE IF EXISTS keyed; CREATE ROLE keyed PASSWORD 'hush'")
        try:
            assert "CREATE ROLE keyed" in make(shop, tmp_path).globals()
            assert "SCRAM-SHA-256" not in make(shop, tmp_path).globals()
            assert "SCRAM-SHA-256" in make(shop, tmp_path, globals_passwords=True).globals()
        finally:
            cluster.execute("DROP ROLE keyed")

    @pytest.mark.parametrize(
        ("compression", "error"),
        [("brotli", BadConfiguration), ("gzip:10", BadConfiguration), ("zstd:1", VersionMismatch)],
    )
    def test_a_compression_that_is_not_there(
        self, shop: Target, tmp_path: Path, compression: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=compression):
            make(shop, tmp_path, compression=compression)
        assert below(tmp_path) == []

    def test_none(self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path) -> None:
        target = any_cluster.target(fresh_database(any_cluster))
        any_cluster.psql(target.database, SHOP)
        made = make(target, tmp_path, compression="none")
        assert not [name for name in made.manifest.files if name.endswith(".gz")]
        assert differences(made, restored(made, any_cluster, fresh_database)) == ()

    def test_the_plan_writes_nothing(self, shop: Target, tmp_path: Path) -> None:
        lines = create.plan(
            Reached(shop),
            store=LocalStore(tmp_path),
            options=DumpOptions(schema_only=True),
        )
        text = "\n".join(lines)
        assert "--schema-only" in text
        assert "pg_dumpall --globals-only" in text
        assert below(tmp_path) == []


class TestRevision:
    @pytest.mark.parametrize(
        ("statements", "expected"),
        [
            ("", ""),
            ("CREATE TABLE alembic_version AS SELECT 'a1'::text AS version_num", "a1"),
            (
                "CREATE SCHEMA s; CREATE TABLE s.alembic_version (version_num text);"
                " INSERT INTO s.alembic_version VALUES ('b2'), ('a1')",
                "a1,b2",
            ),
            ("CREATE TABLE alembic_version (other int)", ""),
            ("CREATE TABLE \"Our Versions\" AS SELECT 'c3'::varchar AS version_num", "c3"),
        ],
    )
    def test_is_alembic_s(
        self, cluster: Cluster, target: Target, tmp_path: Path, statements: str, expected: str
    ) -> None:
        cluster.execute(f"SELECT 1; {statements}", target.database)
        assert make(target, tmp_path, proof=False).manifest.revision == expected


class TestWhoMay:
    @pytest.fixture
    def owner(self, cluster: Cluster, fresh_database: Fresh) -> Target:
        if not cluster.value("SELECT to_regrole('plain') IS NOT NULL"):
            cluster.execute("CREATE ROLE plain LOGIN")
        name = fresh_database(cluster, owner="plain")
        cluster.psql(name, f"SET ROLE plain; CREATE SCHEMA own; SET search_path = own;{SHOP}")
        return replace(cluster.target(name), user="plain")

    def test_a_plain_owner(
        self, cluster: Cluster, owner: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        made = make(owner, tmp_path)
        assert "CREATE ROLE plain" in made.globals()
        assert made.manifest.warnings == ()
        assert differences(made, restored(made, cluster, fresh_database)) == ()

    def test_what_it_cannot_read_is_named_before_anything_is_written(
        self, cluster: Cluster, owner: Target, tmp_path: Path
    ) -> None:
        cluster.execute(
            'CREATE SCHEMA shut; CREATE TABLE shut.t (); CREATE TABLE own."o\'dd t" ();'
            " CREATE SEQUENCE own.s; SELECT lo_create(5)",
            owner.database,
        )
        with pytest.raises(Refused, match=r"role 'plain' cannot read all .* 4 objects") as caught:
            make(owner, tmp_path)
        assert caught.value.hint.splitlines() == [
            'table own."o\'dd t": no SELECT',
            "sequence own.s: no SELECT",
            "table shut.t: no USAGE on schema shut",
            "1 large objects: no SELECT",
        ]
        assert below(tmp_path) == []

    def test_what_it_says_is_unreadable_stops_pg_dump_indeed(
        self, cluster: Cluster, owner: Target
    ) -> None:
        cluster.execute("CREATE TABLE own.x ()", owner.database)
        with pytest.raises(AssertionError, match="permission denied for table x"):
            tool(cluster, "pg_dump", "--exclude-table-data=own.x", owner.database, user="plain")

    def test_passwords_of_roles_it_may_not_see(self, owner: Target, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="pg_dumpall failed") as caught:
            make(owner, tmp_path, globals_passwords=True)
        assert "pg_authid" in caught.value.hint
        assert not list(tmp_path.rglob("*.partial"))

    def test_roles_that_cannot_be_saved_are_said(
        self, cluster: Cluster, shop: Target, tmp_path: Path
    ) -> None:
        tools = interfering_tools(tmp_path / "tools", cluster)
        (tools / "pg_dumpall").unlink()
        (tools / "pg_dumpall").write_text("#!/bin/sh\necho 'pg_dumpall: error: no' >&2\nexit 1\n")
        (tools / "pg_dumpall").chmod(0o755)
        made, lines = said(replace(shop, tools=str(tools)), tmp_path / "backups")
        words = "the roles of the server are not in this backup: pg_dumpall: error: no"
        assert made.manifest.warnings == (words,)
        assert f"warning: {words}" in lines
        assert made.globals() == ""
        assert words in (made.path / "README.txt").read_text()


@contextmanager
def busy(cluster: Cluster, database: str, statements: str, pause: float = 0.0) -> Iterator[Any]:
    """Run statements over and over for the length of a block; yield the number of rounds."""
    rounds = [0]
    with closing(cluster.connect(database)) as conn, conn.cursor() as cursor:

        def work() -> None:
            cursor.execute(statements.format(rounds[0]))
            rounds[0] += 1

        with meanwhile(work, pause=pause):
            until(lambda: rounds[0] > 2)
            yield rounds


class TestOneMoment:
    def test_under_a_writer_that_never_stops(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        target = any_cluster.target(fresh_database(any_cluster))
        any_cluster.psql(target.database, SHOP)
        any_cluster.execute(
            "CREATE TABLE a AS SELECT 500 AS v; CREATE TABLE z AS SELECT 500 AS v", target.database
        )
        work = (
            "BEGIN; UPDATE a SET v = v - 1; UPDATE z SET v = v + 1;"
            " INSERT INTO orders (customer, total) VALUES (1, {0});"
            " DELETE FROM orders WHERE id % 7 = {0} % 7 AND id < 100; COMMIT"
        )
        with busy(any_cluster, target.database, work) as rounds:
            begun = rounds[0]
            made = make(target, tmp_path)
            assert rounds[0] > begun
        copy = restored(made, any_cluster, fresh_database)
        assert differences(made, copy) == ()
        assert differences(made, target)
        total = any_cluster.value("SELECT a.v + z.v FROM a, z", copy.database)
        assert total == 1000

    def test_under_one_that_truncates_and_alters(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        target = any_cluster.target(fresh_database(any_cluster))
        any_cluster.psql(target.database, SHOP)
        any_cluster.execute("CREATE TABLE churn AS SELECT 1 AS id", target.database)
        work = (
            "BEGIN; TRUNCATE churn; INSERT INTO churn SELECT generate_series(1, 50); COMMIT;"
            "ALTER TABLE churn ADD c{0} float DEFAULT random();"
            "ALTER TABLE orders ALTER total TYPE numeric(12, 2);"
            "ALTER TABLE orders ALTER total TYPE numeric;"
            "ALTER TABLE churn DROP c{0}"
        )
        began = time.monotonic()
        make(target, tmp_path / "before")
        # between two rounds a backup can take its locks, however slow the machine is
        with busy(any_cluster, target.database, work, pause=max(1.0, time.monotonic() - began)):
            made = make(target, tmp_path)
        copy = restored(made, any_cluster, fresh_database)
        assert differences(made, copy) == ()
        assert any_cluster.value("SELECT count(*) FROM churn", copy.database) == 50
        assert any_cluster.value("SELECT count(*) FROM orders", copy.database) == 1000


class TestRewritten:
    """A table rewritten between snapshot and lock is dumped as empty, and pg_dump says nothing."""

    def test_the_lie(self, cluster: Cluster, shop: Target, tmp_path: Path) -> None:
        exporter = cluster.connect(shop.database)
        with exporter.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()")
            snapshot = cursor.fetchone()[0]
            cluster.execute("TRUNCATE orders", shop.database)
            dumped = tool(cluster, "pg_dump", f"--snapshot={snapshot}", "-a", shop.database)
        exporter.close()
        assert b"customer 50" in dumped
        assert b"1498.5" not in dumped  # a row of orders that the snapshot holds

    def test_is_found_out_and_tried_again(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        tools = interfering_tools(tmp_path / "tools", cluster, before=once("TRUNCATE orders"))
        made, lines = said(replace(shop, tools=str(tools)), tmp_path / "backups")
        assert lines == ["altered meanwhile: public.orders: once more with a new snapshot"]
        assert made.manifest.rows == 100
        assert differences(made, restored(made, cluster, fresh_database)) == ()
        assert len(LocalStore(tmp_path / "backups").list().backups) == 1

    @pytest.mark.parametrize(
        ("statement", "proof"),
        [
            ("TRUNCATE orders", True),
            ("ALTER TABLE orders ALTER total TYPE numeric(1{0}, {0})", False),
            (
                "CREATE TABLE n AS TABLE orders; DROP TABLE orders; ALTER TABLE n RENAME TO orders",
                True,
            ),
        ],
    )
    def test_again_and_again_names_the_table(
        self, cluster: Cluster, shop: Target, tmp_path: Path, statement: str, proof: bool
    ) -> None:
        tools = interfering_tools(tmp_path / "tools", cluster, before=statement)
        with pytest.raises(Failed, match=r"no consistent backup in 11 attempts: .*public\.orders"):
            make(replace(shop, tools=str(tools)), tmp_path / "backups", proof=proof)
        assert below(tmp_path / "backups") == ["dev", f"dev/{shop.database}"]

    @pytest.mark.parametrize("moment", ["before", "locked"])
    @pytest.mark.parametrize(
        ("change", "name"),
        [
            # renewed: the snapshot sees nothing of the new one
            (
                "ALTER TABLE a RENAME TO old; CREATE TABLE a (id int, x text);"
                " INSERT INTO a TABLE old; DROP TABLE old",
                "public.a",
            ),
            (
                "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b",
                "public.a, public.b",
            ),
            ("ALTER TABLE a RENAME TO c", "public.a"),
            ("ALTER TABLE a SET SCHEMA other", "public.a"),
            ("DROP TABLE a", "public.a"),
            (
                "ALTER SCHEMA one RENAME TO three; ALTER SCHEMA two RENAME TO one;"
                " ALTER SCHEMA three RENAME TO two",
                "one",
            ),
            ("ALTER SCHEMA one RENAME TO three", "one"),
        ],
    )
    def test_what_a_name_leads_to_is_what_the_snapshot_had(
        self,
        cluster: Cluster,
        database: str,
        fresh_database: Fresh,
        tmp_path: Path,
        moment: str,
        change: str,
        name: str,
    ) -> None:
        cluster.execute(
            "CREATE TABLE a AS SELECT g AS id, 'a' AS x FROM generate_series(1, 10) g;"
            " CREATE TABLE b AS SELECT g AS id, 'b' AS x FROM generate_series(1, 20) g;"
            " CREATE SCHEMA one; CREATE TABLE one.t AS SELECT 1 AS id;"
            " CREATE SCHEMA two; CREATE TABLE two.t AS SELECT 2 AS id; CREATE SCHEMA other",
            database,
        )
        tools = interfering_tools(tmp_path / "tools", cluster, **{moment: once(change)})
        target = replace(cluster.target(database), tools=str(tools), jobs=1)
        made, lines = said(target, tmp_path / "backups")
        copy = restored(made, cluster, fresh_database)
        assert len(lines) == 1
        if moment == "before":  # later, a table's lock keeps its name
            assert f"altered meanwhile: {name}" in lines[0] or "schema one" in lines[0]
        assert differences(made, cluster.target(database)) == ()
        assert differences(made, copy) == ()

    @pytest.mark.parametrize(
        ("moment", "change"),
        [
            ("before", "ALTER TABLE orders DROP total"),
            ("before", "ALTER TABLE orders RENAME total TO sum"),
            ("before", "DROP VIEW v"),
            ("before", "DROP INDEX i; CREATE INDEX i ON orders (customer)"),
            (
                "before",
                "CREATE OR REPLACE TRIGGER tr AFTER DELETE ON orders EXECUTE FUNCTION tf()",
            ),
            ("locked", "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'"),
            ("locked", "ALTER FUNCTION f() RENAME TO g"),
            ("locked", "ALTER VIEW v RENAME n TO m"),
            ("locked", "ALTER TYPE mood RENAME TO temper"),
            ("locked", "ALTER SEQUENCE s RENAME TO t"),
            ("locked", "ALTER SEQUENCE s RESTART"),
            ("locked", "DROP SEQUENCE s; CREATE SEQUENCE s"),
        ],
    )
    @pytest.mark.parametrize("with_proof", [True, False])
    def test_what_was_altered_is_read_anew(
        self,
        cluster: Cluster,
        shop: Target,
        fresh_database: Fresh,
        tmp_path: Path,
        moment: str,
        change: str,
        with_proof: bool,
    ) -> None:
        cluster.execute(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE s;"
            " CREATE VIEW v AS SELECT f() AS n; CREATE TYPE mood AS ENUM ('good', 'bad');"
            " CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            " CREATE TRIGGER tr AFTER INSERT ON orders EXECUTE FUNCTION tf();"
            " CREATE INDEX i ON orders (total); SELECT nextval('s'), nextval('s')",
            shop.database,
        )
        tools = interfering_tools(tmp_path / "tools", cluster, **{moment: once(change)})
        alone = replace(shop, tools=str(tools), jobs=1)
        made, lines = said(alone, tmp_path / "backups", proof=with_proof)
        assert len(lines) == 1
        assert lines[0].startswith("altered meanwhile: ")
        copy = restored(made, cluster, fresh_database)
        expected = proof.take(shop)
        assert proof.compare(expected, proof.take(copy)).differences == ()

    def test_again_and_again_has_pg_dump_s_own_words(
        self, cluster: Cluster, shop: Target, tmp_path: Path
    ) -> None:
        for number in range(1, 12):
            cluster.execute(f"CREATE TABLE n{number} ()", shop.database)
        tools = interfering_tools(tmp_path / "tools", cluster, before="DROP TABLE n{0}")
        with pytest.raises(
            Failed, match=r"in 11 attempts: altered meanwhile: public\.n11"
        ) as failed:
            make(replace(shop, tools=str(tools)), tmp_path / "backups")
        assert 'relation "public.n11" does not exist' in failed.value.hint

    def test_one_who_waits_to_alter_does_not_spoil_the_proof(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        tools = interfering_tools(tmp_path / "tools", cluster, locked=once("TRUNCATE orders"))
        made, lines = said(replace(shop, tools=str(tools)), tmp_path / "backups")
        assert len(lines) == 1
        # the second if pg_dump ends, with its locks, before the proof has its own
        assert re.match(
            r"somebody waits to alter a table|altered meanwhile: public.orders", lines[0]
        )
        assert differences(made, restored(made, cluster, fresh_database)) == ()

    @pytest.mark.parametrize(
        "statement",
        [
            "TRUNCATE orders",
            "DROP TABLE orders",
            "ALTER TABLE orders RENAME id TO kept; ALTER TABLE orders RENAME customer TO id;"
            " ALTER TABLE orders RENAME kept TO customer",
        ],
    )
    def test_too_many_tables_to_lock_ahead(
        self,
        cluster: Cluster,
        shop: Target,
        fresh_database: Fresh,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        statement: str,
    ) -> None:
        monkeypatch.setattr("pgtasks.server.dump.attempt._MOST_LOCKED", 0)
        # the workers of several would notice the one who waits; the proof has to
        alone = replace(shop, jobs=1)
        tools = interfering_tools(tmp_path / "tools", cluster, locked=once(statement))
        made, lines = said(replace(alone, tools=str(tools)), tmp_path / "backups")
        # with DROP, what goes with the table may be gone by then too
        assert len(lines) == 1
        assert lines[0].startswith("altered meanwhile: public.orders")
        assert made.manifest.rows == sum(table.rows for table in proof.take(shop).tables)
        assert differences(made, restored(made, cluster, fresh_database)) == ()

    def test_the_proof_locks_tables_after_pg_dump_has_ended(
        self,
        cluster: Cluster,
        shop: Target,
        fresh_database: Fresh,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        read, exchanged = threading.Event(), threading.Event()
        refuse_renamed, lock_tables = Watch.refuse_renamed, ProofReader._lock_tables

        def then_tell(watch: Watch) -> None:
            refuse_renamed(watch)
            read.set()

        def late(reader: ProofReader, conn: Any) -> None:
            assert read.wait(PATIENCE)
            if not exchanged.is_set():
                cluster.execute(
                    "ALTER TABLE orders RENAME id TO kept;"
                    " ALTER TABLE orders RENAME customer TO id;"
                    " ALTER TABLE orders RENAME kept TO customer",
                    shop.database,
                )
                exchanged.set()
            lock_tables(reader, conn)

        monkeypatch.setattr(Watch, "refuse_renamed", then_tell)
        monkeypatch.setattr(ProofReader, "_lock_tables", late)
        made, lines = said(replace(shop, jobs=1), tmp_path / "backups")
        assert [line.partition(":")[2] for line in lines] == [
            " public.orders: once more with a new snapshot"
        ]
        assert differences(made, restored(made, cluster, fresh_database)) == ()

    def test_a_view_replaced_meanwhile_is_no_false_alarm_later(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        cluster.execute("CREATE VIEW v AS SELECT 0 AS n", shop.database)
        change = "CREATE OR REPLACE VIEW v AS SELECT {0} AS n"
        tools = interfering_tools(tmp_path / "tools", cluster, locked=change)
        made = make(replace(shop, tools=str(tools)), tmp_path / "backups")
        copy = restored(made, cluster, fresh_database)
        assert differences(made, copy) == ()
        archive = pg_dump.contents(HERE, made.manifest.layout, made.dump)
        assert schema_of(archive) == schema_of(described(cluster, copy.database))


CONFIGURED = """
DROP EXTENSION plpgsql; CREATE EXTENSION plpgsql; -- anew, as what initdb made is not dumped
CREATE TABLE kept (id int, mine bool); CREATE TABLE made (id int); CREATE SEQUENCE counted;
ALTER EXTENSION plpgsql ADD TABLE kept; ALTER EXTENSION plpgsql ADD TABLE made;
ALTER EXTENSION plpgsql ADD SEQUENCE counted;
UPDATE pg_extension SET extconfig = ARRAY['kept', 'counted']::regclass[]::oid[],
    extcondition = ARRAY['WHERE mine', ''] WHERE extname = 'plpgsql';
INSERT INTO kept VALUES (1, false);
"""


class TestExtensions:
    def test_rows_that_they_ask_for_are_saved_and_proven(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        """An extension's script cannot be laid beside the server's: one is given what it has."""
        source, copy = (any_cluster.target(fresh_database(any_cluster)) for _ in range(2))
        for target in (source, copy):
            any_cluster.psql(target.database, CONFIGURED)
        any_cluster.execute(
            "INSERT INTO kept SELECT g, true FROM generate_series(2, 5) g;"
            " INSERT INTO made VALUES (1); SELECT setval('counted', 7)",
            source.database,
        )
        made = make(source, tmp_path)
        found = made.proof()
        assert found is not None
        assert [(str(table), table.rows) for table in found.tables] == [("public.kept", 4)]
        assert [item.object for item in found.unproven] == ["table public.made"]
        assert len(differences(made, copy)) == 2
        with connection.session(copy) as conn:  # `made` is made anew, one row of `kept` too
            assert plan.losses(conn, made) == (plan.Loss("public.kept", 0, 4),)
        tool(any_cluster, "pg_restore", "-ea", "-d", copy.database, made.dump)
        assert differences(made, copy) == ()
        any_cluster.execute("UPDATE kept SET id = 9 WHERE id = 2", copy.database)
        assert len(differences(made, copy)) == 1
        any_cluster.execute("UPDATE pg_extension SET extversion = '2'", copy.database)
        assert differences(made, copy) == ()

    def test_what_was_not_counted_is_no_loss(
        self, cluster: Cluster, shop: Target, tmp_path: Path
    ) -> None:
        cluster.execute(
            "CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';"
            " CREATE FUNCTION key(t text) RETURNS text LANGUAGE sql IMMUTABLE"
            " AS 'SELECT plain(t)'; CREATE INDEX ON customers (key(name))",
            shop.database,
        )
        made = make(shop, tmp_path, exclude_table_data=("orders",))
        with connection.session(shop) as conn:
            assert plan.losses(conn, made) == (
                plan.Loss("public.customers", 100, None, estimated=True, unproven=True),
                plan.Loss("public.orders", 1000, None),
            )


class TestSettings:
    def test_of_the_database_do_not_stop_it(
        self, cluster: Cluster, shop: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        expected = proof.take(shop)
        for setting in (
            "statement_timeout = 20", "idle_in_transaction_session_timeout = 20",
            "lock_timeout = 20", "default_transaction_read_only = on", "DateStyle = 'German'",
            "TimeZone = 'Asia/Kathmandu'", "search_path = nowhere", "row_security = off",
            "client_min_messages = debug5", "quote_all_identifiers = on",
        ):  # fmt: skip
            cluster.execute(f'ALTER DATABASE "{shop.database}" SET {setting}')
        made = make(shop, tmp_path)
        found = made.proof()
        assert found is not None
        assert found.tables == expected.tables
        copy = restored(made, cluster, fresh_database)
        assert differences(made, copy) == ()

    def test_of_another_encoding(
        self, cluster: Cluster, tmp_path: Path, fresh_database: Fresh
    ) -> None:
        for encoding, value in (("LATIN1", "'gr\u00fc\u00df'"), ("SQL_ASCII", "E'\\xff\\xfe'")):
            name = f"encoded_{encoding.lower()}"
            create_database = (
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding}"
                " LC_COLLATE 'C' LC_CTYPE 'C'"
            )
            cluster.execute(create_database)
            try:
                cluster.execute(f"CREATE TABLE t AS SELECT {value}::text AS x", name)
                made = make(cluster.target(name), tmp_path)
                assert made.database().encoding == encoding
                before = proof.take(cluster.target(name))
                cluster.execute(f"DROP DATABASE {name}")
                cluster.execute(create_database)
                tool(cluster, "pg_restore", "-e", "-d", name, made.dump)
                assert proof.take(cluster.target(name)) == before
                assert differences(made, cluster.target(name)) == ()
            finally:
                cluster.execute(f"DROP DATABASE IF EXISTS {name}")


class TestNames:
    def test_of_databases_become_folders(
        self, cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        names = ["a/b", "a", "..", ".hidden", "sp ace", "%2F", "é🐘", "x" * 63]
        for name in names:
            target = cluster.target(fresh_database(cluster, name))
            cluster.execute("CREATE TABLE t ()", name)
            made = make(target, tmp_path, proof=False)
            assert made.path.parent.parent == tmp_path / "dev"
            assert LocalStore(tmp_path).find("dev", name) == made
        assert {backup.manifest.database for backup in LocalStore(tmp_path).list().backups} == set(
            names
        )


class TestManyTables:
    """The server's lock table has room for some thousands, and pg_dump's workers lock twice."""

    @pytest.fixture
    def crowded(self, cluster: Cluster, target: Target) -> Target:
        with connection.session(target) as conn:
            for _ in range(5):
                connection.execute(
                    conn,
                    "".join(
                        f"CREATE TABLE public.t{n}_{_} AS SELECT {n} AS id;" for n in range(80)
                    ),
                )
        return target

    def test_one_process_dumps_where_several_find_no_room(
        self,
        cluster: Cluster,
        crowded: Target,
        fresh_database: Fresh,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("pgtasks.server.catalog.lock_room", lambda conn: 400)
        made, lines = said(crowded, tmp_path)
        assert lines == [
            "400 tables, and the server has room for 400 locks: one process dumps, not 2 "
            "(see max_locks_per_transaction)"
        ]
        assert made.manifest.layout == "custom"
        assert differences(made, restored(made, cluster, fresh_database)) == ()

    def test_also_where_it_shows_only_then(
        self, cluster: Cluster, crowded: Target, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        tools = interfering_tools(tmp_path / "tools", cluster)
        script = tools / "pg_dump"
        real = script.read_text()
        script.write_text(
            real.replace(
                'if "--version"',
                'if "--jobs=2" in sys.argv:\n'
                '    sys.exit("pg_dump: error: query failed: ERROR:  out of shared memory")\n'
                'if "--version"',
            )
        )
        made, lines = said(replace(crowded, tools=str(tools)), tmp_path / "backups")
        assert len(lines) == 1
        assert "lock table is too small" in lines[0]
        assert made.manifest.layout == "custom"
        assert differences(made, restored(made, cluster, fresh_database)) == ()


def test_more_files_than_a_manifest_lists_are_one(
    shop: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MOST_FILES", 2)
    made, lines = said(replace(shop, jobs=2), tmp_path)
    assert made.manifest.layout == "custom"
    assert lines == [
        "2 tables and large objects or more: one process dumps into one file, not 2 into a folder"
    ]
    monkeypatch.setattr(manifest, "LIMIT", 100)
    with pytest.raises(Failed, match="too many for a manifest: take --jobs 1"):
        make(shop, tmp_path / "other")
    assert LocalStore(tmp_path / "other").list().backups == []


class TestThatFails:
    def test_a_database_that_is_not_there(self, cluster: Cluster, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match='database "nowhere" does not exist'):
            make(cluster.target("nowhere"), tmp_path)
        assert below(tmp_path) == []

    def test_a_folder_that_cannot_be_made(self, shop: Target, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(Failed, match="cannot write below"):
            make(shop, tmp_path / "file")

    def test_pg_dump_s_own_words_without_its_talk(
        self, cluster: Cluster, shop: Target, tmp_path: Path
    ) -> None:
        tools = interfering_tools(
            tmp_path / "tools",
            cluster,
            locked="SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'pgtasks tools%'",
        )
        with pytest.raises(Failed, match="pg_dump failed") as caught:
            make(replace(shop, tools=str(tools)), tmp_path / "backups")
        # libpq may meet the closed socket before it reads the server's last words
        assert re.search("terminating connection|server closed the connection", caught.value.hint)
        assert "reading user-defined" not in caught.value.hint
        assert below(tmp_path / "backups") == ["dev", f"dev/{shop.database}"]

    @pytest.mark.parametrize("purpose", ["db.backup", "db.backup proof"])
    def test_a_backend_of_ours_that_is_ended(
        self, cluster: Cluster, shop: Target, tmp_path: Path, purpose: str
    ) -> None:
        tools = interfering_tools(
            tmp_path / "tools",
            cluster,
            locked="SET ROLE postgres; LOCK TABLE orders IN ROW EXCLUSIVE MODE;"
            if purpose.endswith("proof")
            else "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name LIKE 'pgtasks {purpose} %' AND datname = current_database()",
        )
        target = replace(shop, tools=str(tools))
        if purpose.endswith("proof"):
            # long enough for its sessions to be met
            cluster.execute(
                "CREATE TABLE large AS SELECT md5(n::text) AS x FROM generate_series(1, 400000) n",
                shop.database,
            )
            end = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE application_name LIKE 'pgtasks {purpose} %'"
            )
            with (
                meanwhile(lambda: cluster.execute(end)),
                pytest.raises(Unreachable, match="ended the"),
            ):
                make(target, tmp_path / "backups")
        else:
            with pytest.raises(Unreachable, match="ended the connection"):
                make(target, tmp_path / "backups")
        assert below(tmp_path / "backups") == ["dev", f"dev/{shop.database}"]


def test_real_databases_come_back(
    any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path, sample: tuple[str, str]
) -> None:
    name, script = sample
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.psql(target.database, script)
    # what a server prints of some expressions changes with the first restore, and then no more
    settled = restored(make(target, tmp_path / "first"), any_cluster, fresh_database)
    made = make(settled, tmp_path / "second")
    copy = restored(made, any_cluster, fresh_database)
    assert differences(made, copy) == ()
    assert dump_text(any_cluster, copy) == dump_text(any_cluster, settled)
    first = LocalStore(tmp_path / "first").find("dev", target.database)
    assert differences(first, copy) == ()
    assert made.manifest.rows == {"pagila": 46273, "chinook": 15607}[name]


def dump_text(cluster: Cluster, target: Target) -> str:
    text = tool(cluster, "pg_dump", target.database).decode()
    # random keys, since the minor releases of August 2025
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


@pytest.fixture(params=["pagila", "chinook"])
def sample(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return a sample database's name and script, where the folder with them is at hand."""
    path = Path(os.environ.get("SAMPLE_DATA", "")) / f"{request.param}.sql.gz"
    if not path.exists():
        pytest.skip(f"no sample database {request.param}: SAMPLE_DATA names the folder of them")
    text = subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout.decode()
    # pagila creates what every database has
    return request.param, text.replace("CREATE PROCEDURAL LANGUAGE plpgsql;", "")


class TestTasks:
    def test_backup_list_show_verify(
        self, cluster: Cluster, project: Path, database: str, inv: Callable[..., Any]
    ) -> None:
        cluster.psql(database, SHOP)
        done = inv("db.backup", "--note", "first 'one'", "--json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert (made["rows"], made["tables"], made["note"]) == (1100, 2, "first 'one'")
        listed = json.loads(inv("backup.list", "--json").stdout)
        assert [one["id"] for one in listed["backups"]] == [made["id"]]
        assert listed["backups"][0]["intact"] is None
        checked = json.loads(inv("backup.verify", "--json").stdout)
        assert checked["intact"] is True
        assert checked["backup"] == made["id"]
        shown = json.loads(inv("backup.show", made["id"][:17], "--json").stdout)
        assert shown["intact"] == checked["when"]
        assert shown["files"]["proof.json"]["size"] > 100
        text = inv("backup.list").stdout
        assert made["id"] in text
        assert "first 'one'" in text
        assert checked["when"] in text
        entries = (project / "backups" / "journal.jsonl").read_text().splitlines()
        journal = [json.loads(line) for line in entries]
        assert [(entry["task"], entry["result"]) for entry in journal] == [
            ("db.backup", "done"),
            ("backup.verify", "done"),
        ]

    def test_dry(self, project: Path, inv: Callable[..., Any]) -> None:
        for argv in (("db.backup", "--dry"), ("--dry", "db.backup")):
            done = inv(*argv)
            assert done.returncode == 0, done.stderr
            assert "pg_dump --format=directory" in done.stdout
        assert not (project / "backups").exists()

    def test_exit_codes(self, cluster: Cluster, project: Path, inv: Callable[..., Any]) -> None:
        assert inv("backup.show", "nope").returncode == 2
        assert inv("backup.verify").returncode == 2
        assert "make one with inv db.backup" in inv("backup.verify").stderr
        assert inv("db.backup", "--jobs", "abc").returncode in (2, 3)
        made = json.loads(inv("db.backup", "--json").stdout)
        (Path(made["path"]) / "globals.sql").write_text("x")
        done = inv("backup.verify", "--json")
        assert done.returncode == 5
        assert json.loads(done.stdout)["exit_code"] == 5
        assert "globals.sql" in json.loads(done.stdout)["error"]
        assert "DAMAGED" in inv("backup.list").stdout
        shutil.rmtree(made["path"])
        assert "no backups" in inv("backup.list").stdout

    def test_a_foreign_stamp_is_refused(
        self, cluster: Cluster, database: str, project: Path, inv: Callable[..., Any]
    ) -> None:
        mark = stamp.Stamp("dev", "elsewhere", "123")
        cluster.execute(stamp.comment_statement(database, "", mark))
        done = inv("db.backup")
        assert done.returncode == 2
        assert "elsewhere" in done.stderr
        assert LocalStore(project / "backups").list().backups == []

    def test_one_at_a_time(
        self, cluster: Cluster, target: Target, project: Path, inv: Callable[..., Any]
    ) -> None:
        from pgtasks.server.lock import Lock

        with Lock(target, "a restore"):
            done = inv("db.backup")
        assert done.returncode == 6
        assert "a restore" in done.stderr
