"""The values that masks leave as they are: which of them the proof of a copy refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import Cluster
from test_masks import RULES, Source, every, goal, source

__all__ = ["goal", "source"]  # fixtures

NULLS = """
CREATE TABLE nulls (id int, document jsonb, old json, list text[], few smallint, short char(2));
INSERT INTO nulls VALUES (1, 'null', 'null', '{NULL,NULL}', 5, 'a'),
  (2, '{"a": 1}', '{}', '{x}', 6, 'b');
INSERT INTO nulls (id, few, short)
  SELECT i, i, left(to_hex(i) || '0', 2) FROM generate_series(0, 32767) i;
"""
DECIDED = {
    **RULES,
    "public.nulls.id": "plain",
    "public.nulls.document": "json b=text",
    "public.nulls.old": "json b=text",
    "public.nulls.list": "text",
    "public.nulls.few": "hash",
    "public.nulls.short": "hash",
}
FEWER = """
CREATE TABLE visits (id int PRIMARY KEY, note text);
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, email text, twice int, born date)
"""


def test_nulls_and_equal_digests_are_no_values_that_stay(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(NULLS, source.database)
    source.decide(DECIDED)
    done = inv("db.copy", "qa", "dev")
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(*) FROM nulls", goal) == 32770
    masked = every(
        cluster, goal, "SELECT document, list FROM nulls WHERE id = 1 AND old IS NOT NULL"
    )
    assert masked == [(None, [None, None])]


@pytest.mark.parametrize("value", ["NULLs", "{NULL,a}", "[a]"])
def test_text_like_a_null_is_a_value_that_stays(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], value: str
) -> None:
    notes = f"UPDATE people SET notes = CASE id WHEN 7 THEN '{value}' ELSE '' END"
    cluster.execute(notes, source.database)
    source.decide({**RULES, "public.people.notes": "coalesce(notes, '')"})
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 5, refused.stderr
    assert "public.people.notes: 1 value as in the source" in refused.stderr


def test_a_masked_column_that_the_target_lacks_is_not_proven(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(FEWER, goal)
    done = inv("db.copy", "qa", "dev", "--data-only", "--lossy")
    assert done.returncode == 0, done.stderr
    text = str(every(cluster, goal, "SELECT * FROM people"))
    assert text.count("example.com") == 500
    assert "Erika" not in text
