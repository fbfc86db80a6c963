"""Rows of a query as records: each value is of its type, or there is no record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.records import records
from pgtasks.settings.target import Target


@dataclass(frozen=True, slots=True)
class Table:
    oid: int
    name: str
    columns: tuple[str, ...] = ()
    comment: str | None = None


def test_a_dataclass_takes_columns_by_name() -> None:
    rows = [("t", 5, ["a", "b"]), ("u", 6, [])]
    expected = [Table(5, "t", ("a", "b")), Table(6, "u")]
    assert records(rows, ["name", "oid", "columns"], Table) == expected


def test_a_tuple_and_the_only_column_go_by_position() -> None:
    assert records([(1, None)], ["a", "a"], tuple[int, str | None]) == [(1, None)]
    assert records([("a",), ("b",)], ["name"], str) == ["a", "b"]
    assert records([], ["name"], str) == []


def test_a_name_that_is_not_valid_in_utf_8_stays_as_it_is() -> None:
    assert records([(1, "caf\udce9")], ["oid", "name"], Table) == [Table(1, "caf\udce9")]


@pytest.mark.parametrize(
    ("row", "columns", "into", "message"),
    [
        ((None, "t"), ["oid", "name"], Table, "expected int, got null - at $[0].oid"),
        ((5, 6), ["oid", "name"], Table, "expected str, got int"),
        ((5,), ["oid"], Table, "missing required field name"),
        ((1, 2), ["a", "b"], tuple[int, str], "expected str, got int"),
        ((1, 2), ["a", "b"], tuple[int], "length 1"),
        ((None,), ["a"], str, "expected str, got null"),
    ],
)
def test_a_value_of_another_type_is_an_error(
    row: tuple[Any, ...], columns: list[str], into: type, message: str
) -> None:
    with pytest.raises(Failed) as refusal:
        records([row], columns, into)
    assert message in refusal.value.message.replace("E", "e").replace("Object ", "")
    assert refusal.value.message.startswith("the server's answer: ")


def test_a_column_that_is_none_of_the_record_is_a_bug() -> None:
    with pytest.raises(TypeError, match="Table has no remark"):
        records([], ["oid", "name", "remark"], Table)


def test_a_query_is_answered_in_records(target: Target) -> None:
    query = "SELECT oid, relname AS name FROM pg_class WHERE relname = %s"
    with connection.session(target) as conn:
        expected = Table(1259, "pg_class")
        assert connection.rows(conn, query, ("pg_class",), into=Table) == [expected]
        assert connection.row(conn, query, ("pg_class",), into=Table) == expected
        assert connection.row(conn, query, ("nope",), into=Table) is None
