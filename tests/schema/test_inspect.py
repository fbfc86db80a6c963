"""What a database holds: tables, one table, sizes, sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from servers import Cluster
from waiting import until

from pgtasks.errors import Failed, Refused
from pgtasks.health.maintain import ANALYZE, REINDEX, VACUUM, maintain
from pgtasks.report import Console
from pgtasks.schema.inspect.activity import activity
from pgtasks.schema.inspect.diagram.picture import picture
from pgtasks.schema.inspect.diff.perform import Options, Place, databases
from pgtasks.schema.inspect.functions import functions
from pgtasks.schema.inspect.overview import overview
from pgtasks.schema.inspect.roles import roles
from pgtasks.schema.inspect.size import Sizes, sizes
from pgtasks.schema.inspect.table import table
from pgtasks.schema.inspect.tables import Tables, TableSize, tables
from pgtasks.schema.inspect.triggers import triggers
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.reach import Reached

SHOP = """
CREATE SCHEMA "Old ""s"" shop";
CREATE TABLE country (code char(2) PRIMARY KEY, name varchar(40) NOT NULL);
CREATE TABLE customer (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz(3) DEFAULT now(),
  country char(2) REFERENCES country, full_name text, upper text GENERATED ALWAYS AS
  (upper(full_name)) STORED, CONSTRAINT named CHECK (full_name <> ''));
COMMENT ON TABLE customer IS 'who buys';
COMMENT ON COLUMN customer.full_name IS 'as on the invoice';
CREATE INDEX "by name 🙂" ON customer (full_name);
ALTER TABLE customer ADD CONSTRAINT late CHECK (id > 0) NOT VALID, ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON customer FOR SELECT USING (full_name = current_user);
GRANT SELECT ON customer TO PUBLIC;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER "on change" BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE customer DISABLE TRIGGER "on change";
CREATE TABLE log (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM log;
CREATE VIEW named AS SELECT id FROM customer;
CREATE TABLE "Old ""s"" shop".customer (id int);
INSERT INTO country VALUES ('de', 'Germany');
INSERT INTO customer (country, full_name) SELECT 'de', 'n' || i FROM generate_series(1, 5000) i;
INSERT INTO log SELECT date '2024-06-01' + i, 'x' FROM generate_series(1, 400) i;
ANALYZE;
"""


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    name = fresh_database(cluster)
    cluster.psql(name, SHOP)
    alone(cluster, name)
    return name


def alone(cluster: Cluster, database: str) -> None:
    """Wait until no session is in a database: psql's own ends some time after psql."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    until(lambda: not cluster.value(sessions, parameters=(database,)))


@contextmanager
def reading(cluster: Cluster, database: str) -> Iterator[Connection]:
    with connection.session(cluster.target(database), read_only=True, purpose="test") as conn:
        yield conn


def test_all_tables_with_their_rows_and_sizes(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        found = tables(conn)
    facts = {(each.schema, each.name): each for each in found.tables}
    assert set(facts) == {
        ("public", "country"),
        ("public", "customer"),
        ("public", "log"),
        ("public", "named"),
        ("public", "counted"),
        ('Old "s" shop', "customer"),
    }
    log, customer = facts["public", "log"], facts["public", "customer"]
    assert (log.kind, log.partitions, log.rows) == ("p", 2, 400)
    measured = "SELECT pg_table_size('customer'), pg_indexes_size('customer')"
    assert cluster.execute(measured, shop) == [(customer.table_bytes, customer.index_bytes)]
    assert customer.rows == 5000
    assert found.lines()[-1].startswith("4 tables, 2 views, ")
    assert '"Old ""s"" shop".customer' in "\n".join(found.lines())


def test_one_schema(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        assert [each.name for each in tables(conn, 'Old "s" shop').tables] == ["customer"]
        with pytest.raises(Refused, match=r"unknown schema 'pubic', did you mean 'public'\?"):
            tables(conn, "pubic")


def test_a_locked_table_is_not_waited_for(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn, held(cluster, shop, "LOCK TABLE country"):
        found = tables(conn)
        assert found.estimated
        assert "a table is locked" in found.lines()[-1]
        customer = next(each for each in found.tables if str(each) == "public.customer")
        assert customer.table_bytes
        assert connection.value(conn, "SHOW lock_timeout") == "0"


@pytest.mark.parametrize("name", ["country", "log_1"])
def test_a_locked_table_and_its_partitions(cluster: Cluster, shop: str, name: str) -> None:
    with reading(cluster, shop) as conn, held(cluster, shop, f"LOCK TABLE {name}"):
        log = next(each for each in tables(conn).tables if each.name == "log")
        assert log.partitions == 2
        assert "a table is locked" in sizes(conn).lines()[-1]
        with pytest.raises(Failed, match=f"'{name}' is locked, inv inspect.activity shows"):
            table(conn, name)


@contextmanager
def held(cluster: Cluster, database: str, statement: str) -> Iterator[int]:
    """Hold the locks of a statement, and yield the process that does."""
    holder = psycopg2.connect(
        host=cluster.host, port=cluster.port, user=cluster.superuser, dbname=database
    )
    try:
        holder.cursor().execute(statement)
        yield holder.info.backend_pid
    finally:
        holder.close()


def test_all_facts_about_a_table(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        found = table(conn, "public.customer")
    lines = "\n".join(found.lines())
    assert f"public.customer, table of {cluster.superuser!r}: who buys" in lines
    assert "about 5,000 rows, " in lines
    assert "row level security is on" in lines
    columns = {each.name: each for each in found.columns}
    assert columns["id"].value == "generated always as identity"
    assert columns["upper"].value == "generated: upper(full_name)"
    assert columns["full_name"].comment == "as on the invoice"
    assert "timestamptz(3)" in lines
    assert "CHECK ((id > 0)) NOT VALID (not validated)" in lines
    assert found.constraints[0].name == "customer_pkey"
    assert {each.name for each in found.indexes} == {"customer_pkey", "by name 🙂"}
    assert "DISABLED BEFORE UPDATE ON" in lines
    assert [(each.name, each.command) for each in found.policies] == [("own", "SELECT")]
    assert ("PUBLIC", ["SELECT"]) in [(each.role, each.privileges) for each in found.grants]
    json.dumps(found.as_json())


def test_what_refers_to_a_table(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        (reference,) = table(conn, "country").references
        assert (reference.table, reference.name) == ("public.customer", "customer_country_fkey")
        assert "partitioned by RANGE (at)" in table(conn, "log").lines()
        lines = table(conn, "log_1").lines()
        assert any(line.startswith("partition of public.log FOR VALUES FROM ") for line in lines)
        assert "   FROM public.customer;" in table(conn, "named").lines()
        assert table(conn, "counted").lines()[0].startswith("public.counted, materialized view of ")


def test_a_name_that_means_no_table_or_several(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        with pytest.raises(Refused, match=r"'customer' matches 2 tables: .*public\.customer"):
            table(conn, "customer")
        with pytest.raises(Refused, match=r"did you mean .*country"):
            table(conn, "countri")
        assert table(conn, '"Old ""s"" shop".customer').head.schema == 'Old "s" shop'
        with pytest.raises(Refused, match=r"^'x\[y': .*: a name that .* belongs in double quotes$"):
            table(conn, "x[y")
        with pytest.raises(Refused, match=r"^no table or view is named '\"x\[y\"'"):
            table(conn, '"x[y"')


def test_where_the_bytes_are(cluster: Cluster, shop: str) -> None:
    with reading(cluster, shop) as conn:
        found = sizes(conn)
    assert found.bytes == cluster.value(f"SELECT pg_database_size('{shop}')")
    assert found.lines()[2].startswith("public.customer")
    assert "█" in found.lines()[2]


def test_who_waits_for_whom(cluster: Cluster, shop: str) -> None:
    with held(cluster, shop, "SELECT 1") as pid, reading(cluster, shop) as conn:
        (session,) = activity(conn).sessions
        assert (session.pid, session.state) == (pid, "idle in transaction")
        assert session.query == "SELECT 1"
        assert activity(conn).lines()[-1] == "1 other session in this database"


def test_what_is_in_partitions(cluster: Cluster, shop: str) -> None:
    cluster.psql(
        shop,
        """CREATE INDEX by_time ON log (at);
           CREATE TABLE log_3 PARTITION OF log DEFAULT PARTITION BY LIST (what);
           CREATE TABLE log_3_a PARTITION OF log_3 FOR VALUES IN ('a');
           INSERT INTO log SELECT '2030-01-01', 'a' FROM generate_series(1, 700);
           CREATE TABLE child () INHERITS (country); ANALYZE;""",
    )
    with reading(cluster, shop) as conn:
        log, country = table(conn, "log"), table(conn, "country")
    assert [(each.name, each.rows) for each in log.partitions] == [
        ("log_1", 213),
        ("log_2", 187),
        ("log_3", 700),
    ]
    sizes = "SELECT sum(pg_relation_size(x))::bigint FROM unnest(ARRAY['log_1_at_idx'::regclass,"
    (index,) = log.indexes
    assert index.bytes == cluster.value(f"{sizes} 'log_2_at_idx', 'log_3_a_at_idx']) x", shop)
    lines = "\n".join(log.lines())
    assert "3 partitions, about 1,100 rows, " in lines
    assert "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')" in lines
    assert [each.name for each in country.partitions] == ["child"]
    assert "1 child table, about 0 rows, 0 B, 0 B of indexes" in country.lines()


def test_one_screen(cluster: Cluster, shop: str) -> None:
    cluster.psql(
        shop,
        """CREATE TABLE alembic_version (version_num varchar(32));
           INSERT INTO alembic_version VALUES ('abc123'); DELETE FROM country WHERE code = 'xx';""",
    )
    alone(cluster, shop)
    with held(cluster, shop, "SELECT 1"), reading(cluster, shop) as conn:
        found = overview(conn, "2 of 2 installed as the files say")
    facts = dict(re.split(" {2,}", line, maxsplit=1) for line in found.lines() if "  " in line)
    assert facts["server"].startswith(f"PostgreSQL {cluster.major}.")
    assert facts["database"].startswith(f"of '{cluster.superuser}', UTF8, ")
    assert facts["content"] == "5 tables, 2 partitions, 2 views, 3 indexes, 1 function, 1 trigger"
    assert facts["sessions"].startswith("1 here (1 idle in transaction), ")
    assert "oldest transaction" in facts["sessions"]
    assert "of block reads were hits" in facts["cache"]
    assert facts["analyzed"].startswith("1 of 8 tables never, others within ")
    assert facts["extensions"].startswith("plpgsql 1.")
    assert facts["migrations"] == "abc123"
    assert facts["triggers"] == "2 of 2 installed as the files say"
    assert "█" in facts["public.customer"]
    document = json.loads(json.dumps(found.as_json()))
    assert document["bytes"] == cluster.value(f"SELECT pg_database_size('{shop}')")
    assert document["counts"]["invalid_indexes"] == 0


@pytest.mark.parametrize(("width", "cells"), [(60, 28), (80, 48), (200, 80), (0, 30)])
def test_bars_use_the_width(width: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_WIDTH", str(width or ""))
    found = Sizes(
        10_000_000,
        Tables(
            (
                TableSize("public", "small", "r", 1, 1000, 0, None),
                TableSize("public", "table", "r", 10, 3_000_000, 1_000_000, None),
            )
        ),
    )
    lines = found.chart(20)
    assert lines[2].startswith("public.table  4.0 MB  ")
    assert (lines[2].count("█"), lines[2].count("▒")) == (
        round(cells * 3 / 4),
        cells - round(cells * 3 / 4),
    )
    assert lines[2].endswith("40 %")
    assert lines[3].split() == ["public.small", "1.0", "kB", "▏", "0", "%"]
    assert max(map(len, lines)) <= (width or 80)


def test_all_triggers(cluster: Cluster, shop: str) -> None:
    cluster.psql(
        shop,
        """CREATE TRIGGER late AFTER INSERT OR UPDATE OF what, at ON log FOR EACH ROW
             WHEN (new.what <> '') EXECUTE FUNCTION touch();
           CREATE TRIGGER all_gone BEFORE TRUNCATE ON country EXECUTE FUNCTION touch();
           ALTER TABLE country ENABLE ALWAYS TRIGGER all_gone;""",
    )
    with held(cluster, shop, "LOCK TABLE log"), reading(cluster, shop) as conn:
        found = triggers(conn)  # a condition is not read, so a lock is not in the way
        assert [each.name for each in triggers(conn, "public").triggers] == [
            each.name for each in found.triggers
        ]
        assert triggers(conn, 'Old "s" shop').lines() == ["0 triggers"]
        with pytest.raises(Refused, match="unknown schema 'pubic'"):
            triggers(conn, "pubic")
    by_name = {each.name: each for each in found.triggers}
    assert set(by_name) == {"all_gone", "on change", "late"}
    assert by_name["late"].fires == "AFTER INSERT OR UPDATE OF at, what WHEN (...)"
    assert by_name["late"].partitions == 2
    assert by_name["all_gone"].fires == "BEFORE TRUNCATE FOR EACH STATEMENT"
    lines = "\n".join(found.lines())
    assert "always " in lines
    assert "DISABLED  BEFORE UPDATE, calls public.touch" in lines
    assert lines.endswith("3 triggers on 3 tables, 1 of them disabled")
    assert found.as_json()["triggers"][0]["enabled"] == "always"


def test_all_functions(cluster: Cluster, shop: str) -> None:
    cluster.psql(
        shop,
        """CREATE FUNCTION open(int[], at timestamptz) RETURNS SETOF text STABLE SECURITY DEFINER
             LANGUAGE sql AS 'SELECT NULL::text';
           CREATE FUNCTION shut() RETURNS int SECURITY DEFINER SET search_path = pg_catalog
             LANGUAGE sql AS 'SELECT 1';
           CREATE PROCEDURE "Old ""s"" shop".go() LANGUAGE sql AS '';
           CREATE AGGREGATE largest(int) (SFUNC = int4larger, STYPE = int);""",
    )
    with reading(cluster, shop) as conn:
        found = functions(conn)
        assert [each.name for each in functions(conn, 'Old "s" shop').functions] == ["go"]
    facts = {each.name: each for each in found.functions}
    assert set(facts) == {"touch", "open", "shut", "go", "largest"}
    assert (facts["touch"].triggers, facts["largest"].kind) == (1, "aggregate")
    assert (facts["open"].unpinned, facts["shut"].unpinned) == (True, False)
    lines = "\n".join(found.lines())
    assert "public.open(integer[], timestamptz)  setof text  sql" in lines
    assert "stable, security definer, search_path is not set\n" in lines
    assert "security definer, set search_path\n" in lines
    assert '"Old ""s"" shop".go()' in lines
    assert lines.endswith(
        "5 functions, 2 of them with the rights of the owner, 1 without a search_path"
    )


def test_all_roles(cluster: Cluster, plain: Callable[..., str], shop: str) -> None:
    team, reader = plain("CREATEDB"), plain("CONNECTION LIMIT 3")
    shut_out = plain("VALID UNTIL '2001-01-01 00:00 UTC'")
    cluster.psql(
        shop,
        f"""ALTER ROLE "{team}" NOLOGIN; GRANT "{team}" TO "{reader}";
            GRANT SELECT ON country, log TO "{team}";
            GRANT INSERT (code) ON country TO "{team}"; GRANT UPDATE ON log TO "{team}";
            GRANT ALL ON "Old ""s"" shop".customer TO "{team}"; -- the schema is closed to it
            REVOKE CONNECT ON DATABASE "{shop}" FROM PUBLIC;
            GRANT CONNECT ON DATABASE "{shop}" TO "{team}";
            CREATE TABLE owned (); ALTER TABLE owned OWNER TO "{reader}";""",
    )
    with reading(cluster, shop) as conn:
        found = roles(conn)
    facts = {each.name: each for each in found.roles}
    assert not [name for name in facts if name.startswith("pg_")]
    assert facts[team].members == [reader]
    assert facts[reader].member_of == [team]
    assert (facts[reader].reads, facts[reader].writes, facts[reader].tables) == (4, 2, 7)
    assert (facts[reader].owned, facts[team].owned) == (1, 0)
    assert facts[cluster.superuser].owns_database
    rows = {line.split()[0]: line for line in found.lines()}
    assert "no login, createdb" in rows[team]
    assert rows[team].endswith("read 3 of 7, write 1 of 7")  # customer is open to all
    assert "at most 3 sessions" in rows[reader]
    assert "password expired 2001-01-01T00:00:00Z" in rows[shut_out]
    assert rows[shut_out].endswith("not connect")
    assert rows[cluster.superuser].endswith("everything")
    assert found.as_json()["roles"][0].keys() >= {"name", "superuser", "reads"}


def test_every_server_answers(any_cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(any_cluster)
    any_cluster.psql(name, SHOP)
    with reading(any_cluster, name) as conn:
        shown = (
            *(overview(conn), tables(conn), table(conn, "public.customer"), table(conn, "log")),
            *(triggers(conn), functions(conn), roles(conn), sizes(conn), activity(conn)),
            *(picture(conn, title="all"), picture(conn, title="all", as_svg=True)),
        )
    for each in shown:
        assert each.lines()
        json.dumps(each.as_json())
    target = any_cluster.target(name)
    for kind in (VACUUM, ANALYZE, REINDEX):
        assert not maintain(target, kind, ["country"], console=Console(quiet=True)).faults
    place = Place("one", Reached(target), 1)
    assert databases(place, place, Options(rows=True)).equal


def test_the_tasks(project: Path, inv: Callable[..., Any], cluster: Cluster, database: str) -> None:
    cluster.psql(database, SHOP)
    done = inv("inspect.tables", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tables"]) == 6
    assert "public.log" in inv("inspect.size").stdout
    assert "customer_country_fkey" in inv("inspect.table", "public.customer").stdout
    assert inv("inspect.db").stdout.startswith("server      PostgreSQL ")
    assert "public.touch" in inv("inspect.triggers").stdout
    assert "public.touch()" in inv("inspect.functions").stdout
    assert f"{cluster.superuser} " in inv("inspect.roles").stdout
    refused = inv("inspect.table", "nothing")
    assert refused.returncode == 2
    assert "error: no table or view is named 'nothing', inv inspect.tables" in refused.stderr
    assert inv("inspect.activity").returncode == 0
