"""Masks run no code of a plain role in the session of a superuser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from spies import SPY, spied
from test_masks import RULES, Source, goal, source

__all__ = ["goal", "source", "spied"]  # fixtures

CODE = (
    SPY
    + """
CREATE TYPE more.text AS (a pg_catalog.text);
CREATE TYPE more.mood AS ENUM ('good');
CREATE FUNCTION more.made(text) RETURNS more.pair LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN ROW($1)::more.pair; END $f$;
CREATE FUNCTION more.told(more.text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN $1.a; END $f$;
CREATE FUNCTION more.good(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN true; END $f$;
CREATE CAST (text AS more.pair) WITH FUNCTION more.made(text) AS ASSIGNMENT;
CREATE CAST (more.text AS text) WITH FUNCTION more.told(more.text) AS IMPLICIT;
CREATE DOMAIN more.dom AS text CHECK (more.good(VALUE));
RESET ROLE;
CREATE FUNCTION public.low(more.dom) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::text';
ALTER TABLE people ADD x {type};
UPDATE people SET x = {value};
"""
)


def with_spy(cluster: Cluster, source: Source, owner: str, spied: Path, type: str) -> None:
    """Give the source a column x of a type, and to a plain role what it wants to run."""
    value = "ROW('secret of x')" if type in ("more.pair", "more.text") else "NULL"
    text = CODE.format(owner=owner, file=spied, type=type, value=value)
    cluster.execute(text, source.database)


@pytest.mark.parametrize(
    ("type", "where", "text"),
    [
        ("more.pair[]", "x", "ARRAY['a'::pg_catalog.text]"),
        ("more.dom[]", "x", "ARRAY['a'::pg_catalog.text]"),
        ("more.dom", "x", "'a'::more.dom"),
        ("text", "x", "('a'::pg_catalog.text::more.pair)::text"),
        ("text", "x", "public.low('a')"),
        ("more.pair", "notes", "lower(x)"),
        ("more.pair", "born", "date 90 days by x"),
        ("more.text", "x", "text"),
        ("more.dom", "notes", "CASE WHEN ARRAY[x] = '{x}' THEN 'a' ELSE 'b' END"),
        ("more.pair", "notes", "lower(people.*::text)"),
    ],
)
def test_a_mask_runs_no_code_of_a_type(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    spied: Path,
    inv: Callable[..., Any],
    type: str,
    where: str,
    text: str,
) -> None:
    with_spy(cluster, source, plain_owner, spied, type)
    cluster.execute(f"ALTER TABLE people OWNER TO {plain_owner}", source.database)
    source.decide({**RULES, "public.people.x": "plain", f"public.people.{where}": text})
    refused = inv("db.copy", "qa", "dev")
    assert not spied.exists()
    assert refused.returncode == 2, refused.stderr
    assert "a type of a plain role, whose casts and checks would run" in refused.stderr


@pytest.mark.parametrize(
    ("type", "text"), [("more.dom", "text"), ("more.mood", "'good'"), ("more.mood[]", "null")]
)
def test_domains_and_enums_of_a_plain_role_are_masked(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    spied: Path,
    inv: Callable[..., Any],
    type: str,
    text: str,
) -> None:
    with_spy(cluster, source, plain_owner, spied, type)
    cluster.execute("UPDATE people SET x = NULL", source.database)
    source.decide({**RULES, "public.people.x": text})
    done = inv("db.copy", "qa", "dev")
    assert not spied.exists()
    assert done.returncode == 0, done.stderr


def test_a_suggestion_runs_no_code_of_a_type(
    cluster: Cluster, source: Source, plain_owner: str, spied: Path, inv: Callable[..., Any]
) -> None:
    with_spy(cluster, source, plain_owner, spied, "more.text")
    shown = inv("mask.suggest", "--env", "qa")
    assert shown.returncode == 0, shown.stderr
    assert "public.people.x: " in shown.stdout
    assert not spied.exists()
