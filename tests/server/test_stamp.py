"""The stamp in the database's comment, and what a connection says of the database it is in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql
from servers import Cluster

import pgtasks
from pgtasks.errors import Unreachable
from pgtasks.server import connection, reach, stamp
from pgtasks.server.identity import Identity, glimpse, identify, present, system_identifier
from pgtasks.server.reach import Reached
from pgtasks.server.stamp import Stamp

ODD = "d\"b' ☃ %s=\n\\"


@pytest.mark.parametrize(
    "made",
    [
        Stamp("dev", "shop_dev", "7"),
        Stamp("eu-west", ODD, "7", origin="prod/shop@20260101T000000Z-ab12"),
        Stamp("dev", "shop__new_1", "7", role="new", run="ab12"),
    ],
)
@pytest.mark.parametrize("text", ["", "the shop", "two\nlines\n", "ends with\n", "pgtasks: no"])
def test_a_stamp_reads_back_and_the_comment_keeps_its_text(made: Stamp, text: str) -> None:
    assert "\n" not in made.line()
    assert stamp.split(stamp.joined(text, made)) == (text, made)


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "my database",
        "pgtasks: environment=dev",  # cut short
        "pgtasks: environment=dev database=d system=7\nwritten below it",
        "say pgtasks: environment=dev database=d system=7",
    ],
)
def test_what_is_no_stamp_stays_text(comment: str | None) -> None:
    assert stamp.split(comment) == (comment or "", None)


def test_a_stamp_of_a_later_version_is_read() -> None:
    line = "pgtasks: environment=dev database=d system=7 colour=blue bare"
    assert stamp.split(line) == ("", Stamp("dev", "d", "7"))


def test_a_stamp_counts_only_where_it_was_written() -> None:
    made = Stamp("dev", "d", "7")
    assert not Identity("d", "7", "u", "", made, False).foreign
    assert Identity("e", "7", "u", "", made, False).foreign
    assert Identity("d", "8", "u", "", made, False).foreign
    assert not Identity("d", "8", "u", "", None, False).foreign


def test_a_connection_says_what_it_is(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_cluster, ODD.replace("\n", " "))
    target = any_cluster.target(name)
    with connection.session(target) as conn:
        made = Stamp("dev", name, system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(name, "the\nshop", made))
        found = identify(conn)
        oid = connection.value(
            conn, "SELECT oid FROM pg_database WHERE datname = %s", (name,), into=int
        )
    superuser = any_cluster.superuser
    assert found == Identity(name, made.system, superuser, "the\nshop", made, True, oid=oid)
    listed = any_cluster.psql("postgres", "\\l+\n")
    assert "pgtasks: environment=dev" in listed


def test_an_ordinary_role_reads_it_too(cluster: Cluster, database: str) -> None:
    cluster.execute("DROP ROLE IF EXISTS stamp_reader")
    cluster.execute("CREATE ROLE stamp_reader LOGIN")
    with connection.session(cluster.target(database)) as conn:
        made = Stamp("dev", database, system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(database, "", made))
    conn = cluster.connect(database, user="stamp_reader")
    try:
        assert identify(conn).stamp == made
    finally:
        conn.close()
        cluster.execute("DROP ROLE stamp_reader")


def test_an_empty_comment_is_none(cluster: Cluster, database: str) -> None:
    cluster.execute(stamp.comment_statement(database, "", Stamp("dev", database, "7")))
    cluster.execute(stamp.comment_statement(database, "", None))
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    assert cluster.value(query, parameters=(database,)) is None


CONTENT = {
    "table": "CREATE TABLE t ()",
    "table elsewhere": "CREATE SCHEMA s; CREATE TABLE s.t ()",
    "schema named like the system's": 'CREATE SCHEMA "pgx"; CREATE TABLE pgx.t ()',
    "view": "CREATE VIEW v AS SELECT 1",
    "sequence": "CREATE SEQUENCE s",
    "function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "domain": "CREATE DOMAIN d AS int",
    "enum": "CREATE TYPE e AS ENUM ('a')",
    "large object": "SELECT lo_create(0)",
    "foreign-data wrapper": "CREATE FOREIGN DATA WRAPPER w",
}
NO_CONTENT = {
    "nothing": "SELECT 1",
    "schema": "CREATE SCHEMA s",
    "public made anew": "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
    "extension": "DROP EXTENSION IF EXISTS plpgsql; CREATE EXTENSION plpgsql",
    "privileges": "GRANT USAGE ON SCHEMA public TO PUBLIC",
}


@pytest.mark.parametrize("what", [*CONTENT, *NO_CONTENT])
def test_what_counts_as_content(
    any_cluster: Cluster, fresh_database: Callable[..., str], what: str
) -> None:
    name = fresh_database(any_cluster)
    any_cluster.execute({**CONTENT, **NO_CONTENT}[what], name)
    found = reach.identify(any_cluster.target(name))
    assert found is not None
    assert found.empty == (what in NO_CONTENT)


def test_extensions_are_not_content(
    system_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(system_cluster)
    # tables, types and functions of its own
    for extension in ("pg_stat_statements", "hstore"):
        query = "SELECT 1 FROM pg_available_extensions WHERE name = %s"
        if not system_cluster.execute(query, parameters=(extension,)):
            pytest.skip(f"this system's PostgreSQL has no {extension}")
        system_cluster.execute(
            sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)), name
        )
    found = reach.identify(system_cluster.target(name))
    assert found is not None
    assert found.empty


def test_a_temporary_table_of_another_session_is_not_content(
    cluster: Cluster, database: str
) -> None:
    other = cluster.connect(database)
    try:
        other.cursor().execute("CREATE TEMP TABLE t (x text)")
        found = reach.identify(cluster.target(database))
        assert found is not None
        assert found.empty
    finally:
        other.close()


def test_a_database_that_is_not_there_has_no_identity(cluster: Cluster) -> None:
    target = cluster.target("nowhere 'at' all")
    assert reach.identify(target) is None
    with pytest.raises(Unreachable, match=r"does not exist, make it with inv db\.create$"):
        present(None, target)


def test_a_closed_database_shows_its_stamp(cluster: Cluster, database: str) -> None:
    target = cluster.target(database)
    with connection.session(target) as conn:
        made = Stamp("prod", database, system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(database, "text", made))
    name = sql.Identifier(database)
    cluster.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    with closing(Reached(target)) as reached:
        found = reached.glimpse()
    assert found is not None
    assert (found.stamp, found.comment, found.foreign) == (made, "text", False)
    with closing(Reached(cluster.target("nowhere"))) as reached:
        assert reached.glimpse() is None


def test_reading_an_identity_writes_nothing(cluster: Cluster, database: str) -> None:
    with connection.session(cluster.target(database), read_only=True) as conn:
        assert identify(conn).empty
        assert connection.value(conn, "SHOW transaction_read_only") == "on"


def test_of_a_huge_comment_the_end_is_read(any_cluster: Cluster, fresh_database: Any) -> None:
    """Whoever owns a database writes its comment, up to a gigabyte of it."""
    name = fresh_database(any_cluster)
    target = any_cluster.target(name)
    with connection.session(any_cluster.target()) as conn:
        mark = stamp.Stamp("dev", name, system_identifier(conn)).line()
        connection.execute(
            conn,
            "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %%I IS %%L', "
            f"'{name}', repeat('é', 5000000) || E'\\n{mark}'); END $$",
            (),
        )
        seen = glimpse(conn, name)
    with connection.session(target) as conn:
        inside = identify(conn)
    for identity in (seen, inside):
        assert identity is not None
        assert identity.stamp is not None
        assert identity.stamp.database == name
        assert len(identity.comment) < 1 << 20


def test_a_comment_is_read_by_one_query_alone() -> None:
    sources = Path(pgtasks.__file__).parent.rglob("*.py")
    direct = [it.name for it in sources if "shobj_description(" in it.read_text(encoding="utf-8")]
    assert sorted(direct) == ["loader.py", "stamp.py"]  # a role's is compared by the server


def test_a_subscription_is_content_of_its_database(
    cluster: Cluster, database: str, fresh_database: Callable[..., str]
) -> None:
    """Its definition has a password."""
    cluster.execute(
        "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
        database,
    )
    try:
        with connection.session(cluster.target(database)) as conn:
            assert not identify(conn).empty
        other = fresh_database(cluster)
        with connection.session(cluster.target(other)) as conn:
            assert identify(conn).empty
    finally:
        cluster.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)", database)
        cluster.execute("DROP SUBSCRIPTION s", database)
