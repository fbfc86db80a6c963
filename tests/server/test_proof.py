"""The proof: equal for equal content, and it names whatever differs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from paths import SUPPORT
from psycopg2 import sql
from servers import Cluster, threads
from waiting import PATIENCE, until

from pgtasks.errors import Failed, NotProven
from pgtasks.report import Progress
from pgtasks.server import catalog, connection, proof
from pgtasks.server.dump.pg_dump import DumpLog
from pgtasks.server.dump.watch import Retry, Watch
from pgtasks.server.proof import fingerprint
from pgtasks.server.proof.fingerprint import BATCH_BYTES
from pgtasks.server.proof.model import Proof, SequenceProof, TableProof, Unproven, parse, text
from pgtasks.server.proof.reader import ProofReader, TableLocked
from pgtasks.server.proof.scope import content
from pgtasks.server.proof.take import show
from pgtasks.settings.target import Target

ZOO = (SUPPORT / "zoo.sql").read_text(encoding="utf-8")
Fresh = Callable[..., str]


def tool(cluster: Cluster, name: str, *args: str) -> str:
    place = ["-h", cluster.host, "-p", str(cluster.port), "-U", cluster.superuser]
    done = subprocess.run([cluster.bin / name, *place, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def restored(source: Cluster, database: str, target: Cluster, fresh: Fresh, folder: Path) -> str:
    """Dump and restore by hand, with the tools that fit; return the new database's name."""
    dump = folder / f"{database}-{target.major}"
    tool(source, "pg_dump", "-Fd", "-j2", "-f", str(dump), database)
    reader = source if target.major < 17 else target
    name = fresh(target)
    place = ["-h", target.host, "-p", str(target.port), "-U", target.superuser, "-d", name]
    done = subprocess.run(
        [reader.bin / "pg_restore", "-e", *place, str(dump)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture
def zoo(cluster: Cluster, database: str) -> Target:
    cluster.psql(database, ZOO)
    return cluster.target(database)


class TestRoundTrip:
    def test_everything_comes_back_equal(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        name = fresh_database(any_cluster)
        any_cluster.psql(name, ZOO)
        expected = proof.take(any_cluster.target(name))
        other = restored(any_cluster, name, any_cluster, fresh_database, tmp_path)
        found = proof.compare(expected, proof.take(any_cluster.target(other)))
        assert found.differences == ()
        assert found.skipped == ()
        assert str(found) == "20 of 20 tables identical, 152 rows"
        assert expected.large_objects is not None
        assert expected.large_objects.rows == 2
        assert [str(sequence) for sequence in expected.sequences][-2:] == [
            "zoo.made_c_seq",
            "zoo.untouched",
        ]
        assert {item.object for item in expected.unproven} == {
            "materialized view zoo.summed",
            "foreign table zoo.elsewhere",
        }

    @pytest.mark.parametrize(
        ("before", "after"), [("system_cluster", "cluster"), ("cluster", "cluster18")]
    )
    def test_and_across_majors(
        self,
        before: str,
        after: str,
        fresh_database: Fresh,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        source, target = request.getfixturevalue(before), request.getfixturevalue(after)
        if source.major >= target.major:
            pytest.skip(f"the system's PostgreSQL {source.major} is not older than the wheel's")
        name = fresh_database(source)
        source.psql(name, ZOO)
        other = restored(source, name, target, fresh_database, tmp_path)
        found = proof.compare(proof.take(source.target(name)), proof.take(target.target(other)))
        assert found.differences == ()
        assert found.identical_tables == 20
        assert found.skipped == ()

    def test_of_an_empty_database(self, target: Target) -> None:
        found = proof.take(target)
        assert found.tables == ()
        assert str(proof.compare(found, found)) == "0 of 0 tables identical, 0 rows"

    def test_json(self, zoo: Target) -> None:
        taken = proof.take(zoo)
        again = parse(text(taken).encode())
        assert again == taken
        assert taken.as_json()["rows"] == 152

    @pytest.mark.parametrize(
        "content", ["{}", '{"format": 99}', '{"format": 1, "tables": 5}', '{"format": 0}']
    )
    def test_json_of_something_else(self, content: str) -> None:
        with pytest.raises(NotProven, match="the proof"):
            parse(content.encode())


DATA_CHANGES = [
    ('UPDATE t SET "a""b" = 33 WHERE t = \'t\'', "zoo.t: 3 rows as expected, but their"),
    ('UPDATE t SET "row" = "a""b", "a""b" = "row" WHERE t = \'t\'', "zoo.t: 3 rows as"),
    ("DELETE FROM t WHERE t IS NULL", "zoo.t: 3 rows expected, 2 found"),
    ("INSERT INTO t SELECT * FROM t LIMIT 1", "zoo.t: 2 rows expected, 3 found"),
    ("INSERT INTO nothing DEFAULT VALUES", "zoo.nothing: 2 rows expected, 3 found"),
    ("UPDATE types SET f8 = 0 WHERE id = 1", "zoo.types: 3 rows as"),  # -0 before
    ("UPDATE types SET n2 = NULL WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET n = 1.0 WHERE n = 'NaN'", "zoo.types"),
    ('UPDATE types SET js = \'{"b": 1, "a": [null]}\' WHERE id = 1', "zoo.types"),
    ("UPDATE types SET tz = tz + '1 us' WHERE id = 1", "zoo.types"),
    ("UPDATE types SET v = '' WHERE v IS NULL", "zoo.types"),
    ("UPDATE types SET n = 1.00 WHERE n = 1.0", "zoo.types: 3 rows as"),
    ('UPDATE types SET jb = \'{"b": 1.0, "a": [null]}\' WHERE id = 1', "zoo.types: 3 rows as"),
    ("UPDATE types SET b = '\\x00fe' WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET b = '' WHERE b IS NULL", "zoo.types: 3 rows as"),
    ("UPDATE types SET bo = NOT bo WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET d = d + 1 WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET ts = 'infinity' WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET ti = '00:00' WHERE id = 1", "zoo.types: 3 rows as"),  # 24:00 before
    ("UPDATE types SET i2 = 32767 WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET i8 = i8 - 4294967296 WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET o = 0 WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12' WHERE id = 1", "zoo.types"),
    ("UPDATE types SET mo = 'sad' WHERE id = 1", "zoo.types: 3 rows as"),
    ("UPDATE types SET iv = '1 year -3 days 27:04:05.6' WHERE id = 1", "zoo.types"),
    ("UPDATE types SET n2 = NULL, c = 'ab' WHERE id = 2", "zoo.types: 3 rows as"),
    ("UPDATE wide SET b = ''", "zoo.wide: 20 rows as"),
    ("UPDATE ONLY parent SET late = 'x'", "zoo.parent: 1 row as"),
    ("UPDATE child SET name = 'x'", "zoo.child: 1 row as"),
    ("UPDATE event SET id = id + 100 WHERE at > '2026-01-01'", "zoo.event_rest"),
    ("UPDATE guarded SET owner = 'c' WHERE id = 2", "zoo.guarded: 2 rows as"),
    ("UPDATE fleeting SET id = 6 WHERE id = 5", "zoo.fleeting: 5 rows as"),
    ("SELECT nextval('untouched')", "zoo.untouched: 1 (not yet handed out) expected, 1 (handed"),
    ("SELECT setval('counted_up', 50)", "sequence zoo.counted_up: 15 (handed out)"),
    ("SELECT lo_put(4711, 0, 'A')", "large objects: 2 rows as"),
    ("SELECT lo_unlink(4712)", "large objects: 2 rows expected, 1 found"),
    ("DROP TABLE empty", "table zoo.empty is missing"),
    ("CREATE TABLE empty2 ()", "table zoo.empty2 should not be there"),
]


class TestWhatDiffers:
    def test_each_change_of_content_is_named(self, cluster: Cluster, zoo: Target) -> None:
        expected = proof.take(zoo)
        for statement, words in DATA_CHANGES:
            cluster.execute(f"SET search_path = zoo; {statement}", zoo.database)
            actual = proof.take(zoo)
            differences = [str(each) for each in proof.compare(expected, actual).differences]
            assert any(words in line for line in differences), (statement, differences)
            assert len(differences) <= 2, (statement, differences)
            expected = actual

    def test_two_tables_with_their_content_exchanged(
        self, cluster: Cluster, target: Target
    ) -> None:
        cluster.execute(
            "CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 2 AS x", target.database
        )
        expected = proof.take(target)
        cluster.execute(
            "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b",
            target.database,
        )
        assert len(proof.compare(expected, proof.take(target)).differences) == 2

    def test_columns_with_their_values_exchanged(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE a AS SELECT 1 AS x, 2 AS y", target.database)
        expected = proof.take(target)
        cluster.execute("UPDATE a SET x = y, y = x", target.database)
        assert proof.compare(expected, proof.take(target)).differences


class TestExtensions:
    def test_extensions(self) -> None:
        with_it = Proof(160000, extensions={"hstore": "1.8", "plpgsql": "1.0"})
        newer = replace(with_it, extensions={"hstore": "1.9", "plpgsql": "1.0"})
        assert proof.compare(with_it, newer).differences == ()
        assert proof.compare(with_it, newer).skipped == (
            "extension hstore: version 1.8 expected, 1.9 found",
        )


class TestUnproven:
    def test_what_it_says_nothing_about(self) -> None:
        table = TableProof("a", "b", 1, "5")
        expected = Proof(160000, tables=(), unproven=(Unproven("table a.b", "why"),))
        assert proof.compare(expected, Proof(160000, tables=(table,))).differences == ()
        partly = replace(expected, tables=(replace(table, name="c"),))
        found = proof.compare(partly, Proof(160000, tables=(table, replace(table, name="c"))))
        assert found.differences == ()

    def test_what_was_expected_and_cannot_be_read(self) -> None:
        table = TableProof("a", "b", 1, "5")
        actual = Proof(160000, unproven=(Unproven("table a.b", "why"),))
        found = proof.compare(Proof(160000, tables=(table,)), actual)
        assert tuple(map(str, found.differences)) == ("table a.b could not be read: why",)

    def test_hidden_rows_are_never_counted_in_silence(
        self, cluster: Cluster, fresh_database: Fresh
    ) -> None:
        cluster.execute("DROP ROLE IF EXISTS rls_owner; CREATE ROLE rls_owner LOGIN")
        name = fresh_database(cluster, owner="rls_owner")
        owner = replace(cluster.target(name), user="rls_owner")
        cluster.execute(
            "SET ROLE rls_owner; CREATE SCHEMA own; CREATE TABLE own.open AS SELECT 1 AS id;"
            " CREATE TABLE own.shut AS SELECT generate_series(1, 100) AS id;"
            " ALTER TABLE own.shut ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            " CREATE POLICY half ON own.shut USING (id <= 50)",
            name,
        )
        try:
            found = proof.take(owner)
            assert [(str(table), table.rows) for table in found.tables] == [("own.open", 1)]
            assert [item.object for item in found.unproven] == ["table own.shut"]
            assert "row-level security" in found.unproven[0].reason
            with connection.session(owner) as conn:
                assert catalog.unreadable(conn) == [
                    "table own.shut: row level security hides rows of it from this role"
                ]
        finally:
            cluster.drop(name)
            cluster.execute("DROP ROLE rls_owner")

    def test_a_cast_of_somebody_s_own_does_not_run(self, cluster: Cluster, target: Target) -> None:
        cluster.execute(
            "CREATE TYPE trap AS (x int);"
            " CREATE FUNCTION spring(trap) RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'sprung'; END $$;"
            " CREATE CAST (trap AS text) WITH FUNCTION spring(trap);"
            " CREATE TABLE t (id int, x trap); INSERT INTO t VALUES (1, ROW(1))",
            target.database,
        )
        found = proof.take(target)
        assert [table.rows for table in found.tables] == [1]
        assert found.unproven == ()

    def test_tables_whose_data_is_left_out(self, zoo: Target) -> None:
        found = proof.take(zoo, exclude_data=("zoo.event_*", 'zoo."T"', "zoo.T"))
        out = [item.object for item in found.unproven if item.reason == "its data is left out"]
        assert out == [
            "table zoo.event_2024",
            "table zoo.event_2025_a",
            "table zoo.event_2025_z",
            "table zoo.event_rest",
            "table zoo.t",
        ]
        assert not any(str(table).startswith("zoo.event_") for table in found.tables)


class TestFormats:
    def test_an_older_one_is_compared_by_its_own_rule(self, zoo: Target) -> None:
        taken = proof.take(zoo, format=1)
        older = parse(text(taken).encode())
        assert older == taken
        assert older.format == 1
        assert proof.compare(older, proof.take(zoo, format=older.format)).differences == ()
        newer = {str(table): table for table in proof.take(zoo).tables}
        assert all(
            table.fingerprint != newer[str(table)].fingerprint
            for table in older.tables
            if table.rows
        )

    @pytest.mark.parametrize(
        ("server", "fold"),
        [
            ("cluster15", "provider = icu, locale = 'und-u-ks-level2', deterministic = false"),
            ("cluster18", "locale = 'C'"),  # without ICU
        ],
    )
    def test_what_is_cheaper_is_the_same(
        self, server: str, fold: str, fresh_database: Fresh, request: pytest.FixtureRequest
    ) -> None:
        """Columns of character(n) and of other than built-in types, as their text is hashed."""
        cluster = request.getfixturevalue(server)
        target = cluster.target(fresh_database(cluster))
        cluster.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE TYPE pair AS (a char(3), m mood);"
            f" CREATE COLLATION fold ({fold});"
            " CREATE TABLE t (a char(8), b bpchar, c char(4) COLLATE fold, d mood, e pair,"
            ' f mood[], g "char", h char(5)[]);'
            " INSERT INTO t VALUES ('ä é', 'x  ', 'Ab', 'sad', ('q', 'so so'), '{sad,NULL}', 'c',"
            " '{a,\"b c\"}'), ('', '', '', 'so so', (NULL, NULL), '{}', '', '{}'),"
            " (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);"
            " INSERT INTO t VALUES ('  🐘', E'\\t ', 'aB ')",
            target.database,
        )
        texts = ", ".join(f'{name}::text COLLATE "C"' for name in "abcdefgh")
        by_text = (
            "SELECT sum(hash_numeric_extended(hash_record_extended(ROW("
            f"{texts}), 0), 0))::text FROM t"
        )
        (table,) = proof.take(target).tables
        assert table.fingerprint == cluster.value(by_text, target.database)

    def test_values_exchanged_between_rows(self, cluster: Cluster, target: Target) -> None:
        cluster.execute(
            "CREATE TABLE pay (id int, name text, amount numeric);"
            " INSERT INTO pay VALUES (1, 'Ann', 3200), (2, 'Bob', 4100)",
            target.database,
        )
        expected = proof.take(target)
        cluster.execute("UPDATE pay SET amount = 7300 - amount", target.database)
        assert proof.compare(expected, proof.take(target)).differences


class TestComputed:
    def test_what_a_restore_computes_anew_is_a_note(self, cluster: Cluster, target: Target) -> None:
        cluster.execute(
            "CREATE FUNCTION vat(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE"
            " AS 'SELECT round(n * 1.16, 2)';"
            ' CREATE TABLE bill (id int, net numeric, "Gross" numeric'
            " GENERATED ALWAYS AS (vat(net)) STORED, half numeric GENERATED ALWAYS AS (net / 2)"
            " STORED); INSERT INTO bill SELECT g, g * 10 FROM generate_series(1, 50) g",
            target.database,
        )
        expected = proof.take(target)
        cluster.execute(
            "CREATE OR REPLACE FUNCTION vat(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE"
            " AS 'SELECT round(n * 1.19, 2)'; UPDATE bill SET net = net WHERE id = 1",
            target.database,
        )
        found = proof.compare(expected, replace(proof.take(target), schema=expected.schema))
        assert found.differences == ()
        assert found.identical_tables == 1
        assert found.skipped == (
            'generated column public.bill."Gross": computed again, and not all of its values '
            "equal those of the source",
        )

    def test_nobody_computes_virtual_ones(self, cluster18: Cluster, fresh_database: Fresh) -> None:
        name = fresh_database(cluster18)
        cluster18.execute(
            "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (1 / a) VIRTUAL);"
            " INSERT INTO t VALUES (0)",
            name,
        )
        found = proof.take(cluster18.target(name))
        assert (found.rows, found.unproven) == (1, ())


class TestUnplanned:
    def test_a_table_whose_index_finds_no_function_is_named(
        self, cluster: Cluster, target: Target
    ) -> None:
        cluster.execute(
            "CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';"
            " CREATE FUNCTION key(t text) RETURNS text LANGUAGE sql IMMUTABLE"
            " AS 'SELECT plain(t)'; CREATE TABLE place AS SELECT 'Köln' AS name;"
            " CREATE INDEX ON place (key(name)); CREATE TABLE other AS SELECT 1 AS id",
            target.database,
        )
        found = proof.take(target)
        assert [table.name for table in found.tables] == ["other"]
        [unproven] = found.unproven
        assert unproven.object == "table public.place"
        assert "function plain(text) does not exist" in unproven.reason


class TestSettings:
    def test_of_database_and_role_do_not_reach_it(self, cluster: Cluster, zoo: Target) -> None:
        expected = proof.take(zoo)
        for setting in (
            "DateStyle = 'German'", "TimeZone = 'Asia/Kathmandu'", "IntervalStyle = 'iso_8601'",
            "extra_float_digits = -10", "bytea_output = 'escape'", "search_path = zoo",
            "quote_all_identifiers = on", "statement_timeout = 1", "lock_timeout = 1",
            "idle_in_transaction_session_timeout = 1", "default_transaction_read_only = on",
            "default_transaction_isolation = serializable", "row_security = off",
        ):  # fmt: skip
            cluster.execute(f'ALTER DATABASE "{zoo.database}" SET {setting}')
        assert cluster.value("SHOW extra_float_digits", zoo.database) == "-10"
        assert proof.take(zoo) == expected

    def test_letters_that_a_collation_holds_equal_are_not(
        self, system_cluster: Cluster, fresh_database: Fresh
    ) -> None:
        if not system_cluster.value("SELECT count(*) FROM pg_collation WHERE collprovider = 'i'"):
            pytest.skip("the system's PostgreSQL has no ICU")
        target = system_cluster.target(fresh_database(system_cluster))
        system_cluster.execute(
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1',"
            " deterministic = false); CREATE TABLE a (x text COLLATE loose);"
            " INSERT INTO a VALUES ('abc')",
            target.database,
        )
        expected = proof.take(target)
        system_cluster.execute("UPDATE a SET x = 'ABC' WHERE x = 'AbC'", target.database)
        assert proof.compare(expected, proof.take(target)).differences

    def test_hashes_need_no_collation(self, cluster18: Cluster, fresh_database: Fresh) -> None:
        name = fresh_database(cluster18)
        cluster18.execute("CREATE TABLE a (x text COLLATE pg_unicode_fast)", name)
        cluster18.execute("INSERT INTO a VALUES ('ß')", name)
        assert proof.take(cluster18.target(name)).rows == 1


class TestSnapshot:
    def test_an_exported_one_is_what_counts(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS id", target.database)
        exporter = cluster.connect(target.database)
        with exporter.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()")
            snapshot = cursor.fetchone()[0]
            cluster.execute("DELETE FROM t; CREATE TABLE later (id int)", target.database)
            found = proof.take(target, snapshot=snapshot)
        exporter.close()
        assert [(table.name, table.rows) for table in found.tables] == [("t", 10)]
        assert proof.take(target).rows == 0

    @pytest.mark.parametrize(
        "statement",
        [
            "TRUNCATE t",
            "ALTER TABLE t ALTER id TYPE text",
            "ALTER TABLE t RENAME TO u; CREATE TABLE t (id int)",
            "ALTER SCHEMA public RENAME TO old; CREATE SCHEMA public; CREATE TABLE t (id int)",
        ],
    )
    def test_rows_that_it_cannot_see_any_more(
        self, cluster: Cluster, target: Target, statement: str
    ) -> None:
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS id", target.database)
        exporter = cluster.connect(target.database)
        with exporter.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()")
            snapshot = cursor.fetchone()[0]
            cluster.execute(statement, target.database)
            with pytest.raises(Failed, match=r"altered meanwhile: public\.t"):
                proof.take(target, snapshot=snapshot)
        exporter.close()

    def test_it_shows_how_far_it_is(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS id", target.database)
        cluster.execute("CREATE TABLE big (id int, t text)", target.database)
        cluster.execute(
            "ALTER TABLE big ALTER t SET STORAGE EXTERNAL; INSERT INTO big"
            " SELECT g, repeat('x', 1000000)"
            f" FROM generate_series(1, {2 + BATCH_BYTES // 10**6}) g",
            target.database,
        )
        shown: list[tuple[int, int]] = []
        holder = cluster.connect(target.database)
        cursor = holder.cursor()

        class Kept(Progress):
            def update(self, done: int, note: str = "") -> None:
                shown.append((done, self.total))
                if done or len(shown) == 100:
                    cursor.execute("ROLLBACK")

        with connection.session(target) as exporter:
            connection.execute(exporter, "BEGIN ISOLATION LEVEL REPEATABLE READ")
            snapshot = connection.value(exporter, "SELECT pg_export_snapshot()")
            found = content(exporter, sizes=catalog.sizes(exporter))
            cursor.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            with ProofReader(target, snapshot, found, jobs=1) as taking:
                show(taking, Kept("prove"))
                assert taking.result().rows == 20
        holder.close()
        assert [done for done, _ in shown] == sorted(done for done, _ in shown)
        done, total = shown[-1]
        assert BATCH_BYTES < done < total < BATCH_BYTES * 1.5

    def test_columns_that_exchange_their_names(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE t AS SELECT 1 AS a, 2 AS b", target.database)
        with connection.session(target) as exporter, connection.session(target) as now:
            connection.execute(exporter, "BEGIN ISOLATION LEVEL REPEATABLE READ")
            snapshot = connection.value(exporter, "SELECT pg_export_snapshot()")
            found = content(exporter)
            watch = Watch(exporter, now, found, DumpLog(), Progress("backup"))
            with ProofReader(target, snapshot, found, check=watch.refuse_columns) as taking:
                assert taking.result().rows == 1
            cluster.execute(
                "ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a;"
                " ALTER TABLE t RENAME c TO b",
                target.database,
            )
            with (
                pytest.raises(Retry, match=r"altered meanwhile: public\.t"),
                ProofReader(target, snapshot, found, check=watch.refuse_columns) as taking,
            ):
                taking.result()

    def test_one_that_is_gone(self, target: Target) -> None:
        with pytest.raises(Failed, match="snapshot"):
            proof.take(target, snapshot="00000003-0000001B-1")

    def test_locks_ahead_do_not_wait(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE t (id int)", target.database)
        blocker = cluster.connect(target.database)
        with blocker.cursor() as cursor, connection.session(target) as conn:
            connection.execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
            snapshot = connection.value(conn, "SELECT pg_export_snapshot()")
            found = content(conn)
            cursor.execute("BEGIN; LOCK TABLE t")
            with ProofReader(target, snapshot, found, lock=True) as taking:
                assert taking.wait(PATIENCE)
                with pytest.raises(TableLocked):
                    taking.result()
        blocker.close()

    def test_leaving_ends_its_sessions(self, cluster: Cluster, target: Target) -> None:
        cluster.execute("CREATE TABLE t (id int)", target.database)
        blocker = cluster.connect(target.database)
        with blocker.cursor() as cursor, connection.session(target) as conn:
            connection.execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
            snapshot = connection.value(conn, "SELECT pg_export_snapshot()")
            found = content(conn)
            cursor.execute("BEGIN; LOCK TABLE t")
            with ProofReader(target, snapshot, found, purpose="waiting"):
                until(lambda: _sessions(cluster, "waiting", " AND wait_event_type = 'Lock'"))
            until(lambda: not _sessions(cluster, "waiting"))
        blocker.close()


def _sessions(cluster: Cluster, purpose: str, also: str = "") -> int:
    return cluster.value(
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s{also}",
        parameters=(f"pgtasks {purpose} %",),
    )


class TestManyTables:
    def test_are_read_in_batches(self, cluster: Cluster, target: Target) -> None:
        number = 3 * fingerprint.BATCH_TABLES + 7
        with connection.session(target) as conn:
            for start in range(0, number, 100):
                connection.execute(
                    conn,
                    "".join(
                        f"CREATE TABLE public.t{n} AS SELECT {n} AS id;"
                        for n in range(start, min(start + 100, number))
                    ),
                )
        before = threads()
        found = proof.take(target)
        assert threads() <= before
        assert len(found.tables) == number
        assert found.rows == number
        assert len({table.fingerprint for table in found.tables}) == number

    def test_one_that_cannot_be_read_does_not_spoil_its_batch(
        self, cluster: Cluster, target: Target
    ) -> None:
        cluster.execute(
            "CREATE TABLE a AS SELECT 1 AS id; CREATE TABLE b AS SELECT 1 AS id;"
            " CREATE TABLE c AS SELECT 1 AS id; CREATE ROLE reader LOGIN;"
            " GRANT SELECT ON a, c TO reader",
            target.database,
        )
        try:
            found = proof.take(replace(target, user="reader"))
            assert [table.name for table in found.tables] == ["a", "c"]
            assert [item.object for item in found.unproven] == ["table public.b"]
        finally:
            cluster.execute("DROP OWNED BY reader", target.database)
            cluster.execute("DROP ROLE reader")

    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [
            ([], []),
            ([5], [[0]]),
            ([1, 9 << 20, 2], [[1], [2, 0]]),
            ([8 << 20, 1], [[0], [1]]),
            ([4 << 20, 4 << 20, 1], [[0, 1], [2]]),
        ],
    )
    def test_the_largest_first(self, sizes: list[int], expected: list[list[int]]) -> None:
        tables = [_relation(f"t{n}", bytes=size) for n, size in enumerate(sizes)]
        found = fingerprint.batches(enumerate(tables))
        assert [[number for number, _ in batch] for batch in found] == expected


def _relation(name: str, *, bytes: int = 0) -> catalog.Relation:
    return catalog.Relation(
        1, "public", name, "r", "p", "1", 1, bytes, False, False, "", None, ("id",)
    )


PATTERNS = [
    "zoo.t", "zoo.T", 'zoo."T"', 'zoo."t"', "zoo.e*", "zoo.?", "zoo.event_2024|zoo", "z*.t",
    'zoo.*"_2024"', "t", "zoo.[et]*", 'zoo.ev"en"t_*', "*.checked", "zoo.event_202[45]*",
    '"Zoo 🦁/""\'%s".*', "zoo.(t|made)", "zoo.t$",
]  # fmt: skip


class TestPatterns:
    def test_mean_what_they_mean_to_pg_dump(
        self, cluster: Cluster, zoo: Target, tmp_path: Path
    ) -> None:
        cluster.execute(f'ALTER DATABASE "{zoo.database}" SET search_path = zoo, public')
        with connection.session(zoo) as conn:
            everything = {relation.oid for relation in catalog.relations(conn, "r")}
            for number, pattern in enumerate(PATTERNS):
                dump = str(tmp_path / str(number))
                tool(
                    cluster, "pg_dump", "-Fc", "-f", dump, f"--exclude-table-data={pattern}",
                    zoo.database,
                )  # fmt: skip
                listed = subprocess.run(
                    [cluster.bin / "pg_restore", "-l", dump], capture_output=True, text=True
                ).stdout
                dumped = {
                    int(line.split()[2]) for line in listed.splitlines() if " TABLE DATA " in line
                }
                found = catalog.without_data(conn, [pattern])[pattern]
                assert set(found) & everything == everything - dumped, pattern


class TestExpression:
    def test_quotes_every_name(self) -> None:
        table = replace(_relation('na"me'), schema="s s", columns=('a"b', "%s", "t"))
        statement = fingerprint.row_count(7, table)
        assert isinstance(statement, sql.Composed)
        found = repr(statement)
        assert "ONLY" in found
        assert """Identifier('s s', 'na"me')""" in found


def test_sequences_without_values_are_not_compared() -> None:
    actual = Proof(160000, sequences=(SequenceProof("a", "b", 5, True),))
    assert proof.compare(Proof(160000), actual).differences == ()
