"""The ready-made masks: types and lengths that fit, distinct values, and the same for the same."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from servers import Cluster

from pgtasks.copy.mask import coverage, key, rules
from pgtasks.copy.mask.masking import Masking
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.rows.tables import TableCopy, out_statement
from pgtasks.errors import BadConfiguration
from pgtasks.server import catalog, connection, rows
from pgtasks.server.connection import Connection
from pgtasks.server.proof.fingerprint import pin_statement
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

KEY = Secret("sixteen letters or more")


def masks(chosen: dict[str, str], secret: Secret = KEY) -> Masks:
    made = tuple(rules.rule(where, text, "env/x.yaml:1") for where, text in chosen.items())
    return Masks("x", made, key.session_settings(secret))


@contextmanager
def session(target: Target, secret: Secret = KEY) -> Iterator[Connection]:
    """Open a session as a worker of a copy has it."""
    masked = replace(target, secrets=key.session_settings(secret))
    with connection.session(masked, read_only=True) as conn:
        connection.execute(conn, pin_statement())
        yield conn


def masking(conn: Connection, chosen: dict[str, str]) -> Masking:
    return coverage.planned(conn, masks(chosen), encoding="UTF8")


def masked(conn: Connection, table: str, chosen: dict[str, str]) -> list[tuple[Any, ...]]:
    """Return the rows of a table as a copy reads them."""
    (relation,) = masking(conn, chosen).applied(catalog.relations(conn, named=table))
    query = rows.from_item(relation, relation.columns)
    with conn.cursor() as cursor:
        cursor.execute(query.as_string(conn).join(("SELECT * FROM ", "")))
        return cursor.fetchall()


@pytest.fixture
def place(cluster: Cluster, database: str) -> Target:
    return cluster.target(database)


# mask, type, values, what holds for the results
EACH = [
    ("name", "text", "'Erika Muster'", r"[A-Z][a-z]+ [A-Z][a-z]+"),
    ("first_name", "varchar(4)", "'Ada'", r"[A-Z][a-z]{1,3}"),
    ("last_name", "text", "'Young'", r"[A-Z][a-z]+"),
    ("email", "text", "'e@clinic.test'", r"u[0-9a-f]{16}@example\.com"),
    ("email", "varchar(24)", "'e@clinic.test'", r"u[0-9a-f]{11}@example\.com"),
    ("phone", "text", "'+49 (30) 123-456'", r"\+[0-9]{10}"),
    ("phone", "varchar(3)", "'112'", r"[0-9]{3}"),
    ("text", "text", "'A somewhat longer note.'", r"E.{21}e"),
    ("text", "bpchar(5)", "'abc'", r"[a-z]{3}"),
    ("text", "text", "repeat('x', 1000)", r"E.{998}e"),
    ("hash", "text", "'A1'", r"[0-9a-f]{32}"),
    ("hash 64", "text", "'A1'", r"[0-9a-f]{64}"),
    ("hash", "varchar(10)", "'A1'", r"[0-9a-f]{10}"),
    ("hash", "bigint", "7", r"[0-9]+"),
    ("hash", "int", "-7", r"[0-9]+"),
    ("hash", "smallint", "7", r"[0-9]+"),
    ("hash", "numeric(12,2)", "7.5", r"[0-9]{1,10}\.00"),
    ("hash", "uuid", "'00000000-0000-0000-0000-000000000001'", r"[0-9a-f-]{36}"),
    ("hash", "bytea", r"'\x00ff'", r"\\x[0-9a-f]{64}"),
    ("uuid", "text", "'a'", r"[0-9a-f-]{36}"),
    ("ip", "inet", "'192.168.1.1'", r"10\.[0-9.]+/32"),
    ("null", "text", "'a'", r"NULL"),
    ("date 10 days", "date", "'2024-01-15'", r"2024-01-\d\d"),
    ("date 10 days", "timestamptz", "'2024-01-15 12:30+00'", r"2024-01-\d\d 12:30:00\+00"),
    ("date 5 by k", "timestamp", "'2024-01-15 12:30'", r"2024-01-\d\d 12:30:00"),
    ("number 1 to 2", "int", "1", r"2"),
    ("number -3 to 3", "smallint", "9", r"-?[0-3]"),
    ("number 0 to 9", "numeric(4,2)", "3.25", r"[0-9]\.\d\d"),
    ("number 0 to 9", "numeric", "3.25", r"[0-9]\.\d+"),
    ("number 0 to 9", "float8", "3.25", r"[0-9](\.\d\d?)?"),
    ("number 0 to 9", "money", "3.25", r"\$[0-9]\.\d\d"),
    ("number 10%", "int", "1000", r"9\d\d|10\d\d|1100"),
    ("number 10%", "int", "0", r"1"),
    ("number 10%", "numeric(9,3)", "100", r"(9\d|10\d|110)\.\d{3}"),
    ("text", "text[]", "'{abc,NULL,de}'", r"\{[a-z]{3},NULL,[a-z]{2}\}"),
    ("email", "varchar(40)[]", "'{}'", r"\{\}"),
    ("hash", "short", "'A1'", r"[0-9a-f]{8}"),
    ("json name=name contact.email=email id=plain", "jsonb",
     '\'{"name": "Erika", "id": 7, "more": "x", "contact": {"x": 1, "email": "e"}}\'',
     r'\{"id": 7, "name": "[A-Z][a-z]+ [A-Z][a-z]+", '
     r'"contact": \{"email": "u[0-9a-f]{16}@example.com"\}\}'),
    ("json name=hash", "json", "'[\"Erika\"]'", r"null"),
    ("upper(v) || k", "text", "'abc'", r"ABC5"),
    ("{column} || '!'", "varchar(4)", "'abc'", r"abc!"),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "type", "value", "pattern"), EACH)
def test_each_mask_fits_its_type(
    cluster: Cluster, place: Target, mask: str, type: str, value: str, pattern: str
) -> None:
    cluster.execute("CREATE DOMAIN short AS varchar(8) CHECK (VALUE <> '')", place.database)
    cluster.execute(f"CREATE TABLE t (k int, v {type})", place.database)
    cluster.execute(f"INSERT INTO t VALUES (5, {value}), (5, {value}), (7, NULL)", place.database)
    with session(place) as conn:
        results = masked(conn, "t", {"public.t.v": mask})
        again = masked(conn, "t", {"public.*.v": mask})
    assert results == again
    shown = as_text(place, mask)
    assert re.fullmatch(pattern, shown[0], re.DOTALL), shown
    assert shown[2] == "NULL"
    if mask != "upper(v) || k":
        assert shown[0] == shown[1]


def as_text(place: Target, mask: str) -> list[str]:
    """Return the results as the server prints them."""
    with session(place) as conn:
        (relation,) = masking(conn, {"public.t.v": mask}).applied(
            catalog.relations(conn, named="t")
        )
        item = rows.from_item(relation, relation.columns).as_string(conn)
        query = f"SELECT coalesce(v::text, 'NULL') FROM {item} ORDER BY k"
        return connection.rows(conn, query, into=str)


@pytest.mark.parametrize(
    ("mask", "type"),
    [
        ("hash", "text"),
        ("hash", "varchar(16)"),
        ("hash", "bigint"),
        ("hash", "uuid"),
        ("uuid", "text"),
        ("email", "varchar(29)"),
    ],
)
def test_distinct_values_stay_distinct(
    cluster: Cluster, place: Target, mask: str, type: str
) -> None:
    number = "lpad(to_hex(i), 32, '0')" if type == "uuid" else "i::text"
    cluster.execute(f"CREATE TABLE t (k int, v {type} UNIQUE)", place.database)
    cluster.execute(
        f"INSERT INTO t SELECT i, ({number})::{type} FROM generate_series(1, 20000) i",
        place.database,
    )
    with session(place) as conn:
        results = masked(conn, "t", {"public.t.v": mask})
    assert len({v for _, v in results}) == 20000


@pytest.mark.parametrize(
    ("mask", "type", "words"),
    [
        ("hash", "varchar(10)", "does not keep the values"),
        ("hash 12", "text", "does not keep the values"),
        ("hash 65", "text", "a digest has 64 digits"),
        ("hash 20", "varchar(16)", "it has room for 16 characters"),
        ("hash", "int", "does not keep the values"),
        ("email", "varchar(28)", "does not keep the values"),
        ("phone", "text", "does not keep the values"),
        ("email", "varchar(20)", "it has room for 20 characters"),
        ("uuid", "varchar(35)", "it has room for 35 characters"),
        ("name", "int", "it is of type integer"),
        ("number 5 to 1", "int", "the second number must be larger"),
        ("date 0 days", "date", "leaves a date as it is"),
        ("json a=b", "jsonb", "expected plain or one of"),
        ("json a=text a.b=text", "jsonb", "has a mask of its own"),
    ],
)
def test_masks_that_do_not_fit(
    cluster: Cluster, place: Target, mask: str, type: str, words: str
) -> None:
    unique = "" if type == "jsonb" else "UNIQUE"
    cluster.execute(f"CREATE TABLE t (k int, v {type} {unique})", place.database)
    with session(place) as conn, pytest.raises(BadConfiguration, match=words):
        masking(conn, {"public.t.v": mask})


def test_another_key_gives_other_masks(cluster: Cluster, place: Target) -> None:
    cluster.execute("CREATE TABLE t (k int, v text)", place.database)
    cluster.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 50) i", place.database)
    results = []
    for secret in (KEY, Secret("another key of enough letters")):
        with session(place, secret) as conn:
            results.append({v for _, v in masked(conn, "t", {"public.t.v": "email"})})
    assert not results[0] & results[1]


def test_names_that_a_mask_uses_itself_are_no_columns_of_the_table(
    cluster: Cluster, place: Target
) -> None:
    columns = 'h text, n text, w text, i text, r text, v text, d text, " 0" text'
    cluster.execute(f"CREATE TABLE t ({columns})", place.database)
    cluster.execute("INSERT INTO t VALUES ('1','2','3','4','5','6','7','8')", place.database)
    for mask in ("name", "phone", "text", "email"):
        with session(place) as conn:
            (row,) = masked(conn, "t", {"public.t.*": mask})
        assert all(was != now for was, now in zip("87142563", row, strict=True))


@pytest.mark.parametrize("binary", [True, False])
def test_no_value_is_in_the_stream(cluster: Cluster, place: Target, binary: bool) -> None:
    cluster.execute("CREATE TABLE t (k int, v text, p text)", place.database)
    cluster.execute("INSERT INTO t SELECT i, 'hidden' || i, 'plain' FROM generate_series(1, 9) i",
                    place.database)  # fmt: skip
    with session(place) as conn:
        (relation,) = masking(conn, {"public.t.v": "hash"}).applied(
            catalog.relations(conn, named="t")
        )
        stream = io.BytesIO()
        with conn.cursor() as cursor:
            cursor.copy_expert(out_statement(TableCopy(relation, binary=binary)), stream)
    assert stream.getvalue().count(b"plain") == 9
    assert b"hidden" not in stream.getvalue()


def test_a_database_without_an_encoding(cluster: Cluster, place: Target) -> None:
    name = f"{place.database}_ascii"
    cluster.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        cluster.execute("CREATE TABLE t (k int, v text)", name)
        cluster.execute("INSERT INTO t VALUES (1, convert_from('\\xff41', 'SQL_ASCII'))", name)
        with session(cluster.target(name)) as conn:
            made = coverage.planned(conn, masks({"public.t.v": "hash"}), encoding="SQL_ASCII")
            (relation,) = made.applied(catalog.relations(conn, named="t"))
            item = rows.from_item(relation, ["v"]).as_string(conn)
            (value,) = connection.rows(conn, f"SELECT v FROM {item}", into=str)
        assert re.fullmatch("[0-9a-f]{32}", value)
    finally:
        cluster.drop(name)


def test_which_rule_counts(cluster: Cluster, place: Target) -> None:
    cluster.execute(
        "CREATE TABLE a_long_name (k int, v text, w text) PARTITION BY LIST (k);"
        "CREATE TABLE p PARTITION OF a_long_name FOR VALUES IN (1);"
        "CREATE TABLE q PARTITION OF a_long_name FOR VALUES IN (2)",
        place.database,
    )
    chosen = {
        "type text": "null",
        "*.*.w": "text",
        "public.*.w": "first_name",
        "public.a_long_name.v": "email",
        "public.p.v": "hash",
    }
    with session(place) as conn:
        made = coverage.planned(conn, masks(chosen), encoding="UTF8")
        decided = {str(each.column): each.rule and each.rule.text for each in made.columns}
        assert decided["public.p.v"] == "hash"
        assert decided["public.q.v"] == "email"
        assert decided["public.q.w"] == "first_name"
        assert decided["public.q.k"] is None
        again = {"public.?.w": "text", "public.*.w": "hash"}
        with pytest.raises(BadConfiguration, match="are both for public"):
            coverage.planned(conn, masks(again), encoding="UTF8")
