"""Which columns, and what beside them, the masks of a source cover in a copy of a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import Cluster
from test_masks import RULES, Source, every, goal, source

__all__ = ["goal", "source"]  # fixtures

HEIRS = """
CREATE TABLE persons (id int, ssn text);
CREATE TABLE employees (job text) INHERITS (persons);
INSERT INTO persons SELECT i, 'SSN ' || i FROM generate_series(1, 50) i;
INSERT INTO employees SELECT i, 'SSN ' || i, 'x' FROM generate_series(1, 50) i;
"""
HEIRS_OF_TARGET = """
CREATE TABLE persons (id int, ssn text);
CREATE TABLE employees (job text) INHERITS (persons);
"""


@pytest.mark.parametrize("words", [("--exclude-data", "persons"), ("--tables", "employees")])
def test_an_undecided_column_of_an_heir_refuses_a_copy_without_its_table(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], words: tuple[str, str]
) -> None:
    cluster.execute(HEIRS, source.database)
    cluster.execute(HEIRS_OF_TARGET, goal)
    source.decide({**RULES, "public.persons.id": "plain", "public.employees.job": "plain"})
    refused = inv("db.copy", "qa", "dev", *words)
    assert refused.returncode == 2, refused.stderr
    assert "1 column of it is neither masked nor declared plain" in refused.stderr
    assert "public.employees.ssn: " in refused.stderr
    assert every(cluster, goal, "SELECT FROM employees") == []


def test_an_undecided_column_of_a_table_and_its_heirs_is_shown_once(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(HEIRS, source.database)
    source.decide({**RULES, "public.persons.id": "plain", "public.employees.job": "plain"})
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2, refused.stderr
    assert "public.persons.ssn: " in refused.stderr
    assert "public.employees.ssn" not in refused.stderr
