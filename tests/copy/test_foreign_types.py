"""Types of a plain role in a part of a database: its casts run for whoever compares a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from spies import SPY, spied
from test_masks import Source, goal, source

__all__ = ["goal", "source", "spied"]  # fixtures

CODE = (
    SPY
    + """
CREATE DOMAIN more.dom AS more.pair;
CREATE TABLE more.parent (code text PRIMARY KEY);
CREATE TABLE more.child (id int, code more.{type} REFERENCES more.parent);
INSERT INTO more.parent SELECT 'x' || i FROM generate_series(1, 50) i;
INSERT INTO more.child SELECT i, ROW('x' || i)::more.pair FROM generate_series(1, 50) i;
RESET ROLE;
"""
)


@pytest.mark.parametrize(
    "flags",
    [
        ("--sample", "50"),
        ("--exclude-data", "more.parent"),
        ("--where", "more.parent=code <> 'nobody'", "--follow", "more.child"),
        ("--where", "more.child=code = 'x'"),
        ("--where", "people=id IN (SELECT id FROM more.child WHERE code = 'x1')"),
    ],
)
@pytest.mark.parametrize("type", ["pair", "dom"])
def test_a_part_runs_no_cast_of_a_plain_role(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    spied: Path,
    inv: Callable[..., Any],
    flags: tuple[str, ...],
    type: str,
) -> None:
    cluster.execute(f'ALTER DATABASE "{source.database}" OWNER TO {plain_owner}')
    code = CODE.replace("{owner}", plain_owner).replace("{file}", str(spied))
    cluster.execute(code.replace("{type}", type), source.database)
    source.decide({}, protected=False)
    done = inv("db.copy", "qa", "dev", *flags)
    assert not spied.exists()
    assert done.returncode != 0
    assert "would run code of another role" in done.stderr or "refer to rows of" in done.stderr


OF_A_PLAIN_ROLE = (
    SPY
    + """
CREATE FUNCTION more.all(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN true; END $f$;
CREATE FUNCTION more.same(int, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN $1 = $2; END $f$;
CREATE OPERATOR more.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = more.same);
CREATE FUNCTION more.paired(text) RETURNS more.pair LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN ROW($1)::more.pair; END $f$;
CREATE CAST (text AS more.pair) WITH FUNCTION more.paired(text);
CREATE FUNCTION more.ok(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN true; END $f$;
CREATE DOMAIN more.dom AS text CHECK (more.ok(VALUE));
CREATE FUNCTION more.num(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN $1; END $f$;
CREATE FUNCTION more.sum(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN $1 + $2; END $f$;
RESET ROLE;
CREATE FUNCTION public.added(a int, b int DEFAULT more.num(1)) RETURNS int LANGUAGE sql
  AS 'SELECT $1 + $2' IMMUTABLE;
CREATE AGGREGATE public.total(int) (SFUNC = more.sum, STYPE = int, INITCOND = 0);
CREATE DOMAIN public.upper AS text CHECK (VALUE::more.dom IS NOT NULL);
ALTER TABLE people ADD tags more.dom[], ADD label more.dom;
"""
)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("more.all(id)", "more.all is or runs code of role"),
        ("id OPERATOR(more.===) 1", "more.=== is or runs code of role"),
        ("id OPERATOR(more.===) ANY (SELECT 1)", "more.=== is or runs code of role"),
        ("'a'::text::more.pair IS NOT NULL", "more.pair is, or takes, a type of a plain role"),
        ("tags @> '{vip}'", "by a type of a column"),
        ("ARRAY[label] = '{x}'", "by a type of a column"),
        ('jsonb_populate_record(people, \'{"label": "y"}\') IS NULL', "by a type of a column"),
        ("public.added(id) > 0", "public.added is or runs code of role"),
        ("(SELECT public.total(i) FROM generate_series(1, 2) i) > 0", "public.total is or runs"),
        ("'a'::public.upper IS NOT NULL", "public.upper is, or takes, a type of a plain role"),
        ("pg_backend_pid() > pg_advisory_lock_shared(1)::text::int", "may choose other rows"),
    ],
)
def test_a_condition_runs_no_code_of_a_plain_role(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    spied: Path,
    inv: Callable[..., Any],
    condition: str,
    words: str,
) -> None:
    code = OF_A_PLAIN_ROLE.replace("{owner}", plain_owner).replace("{file}", str(spied))
    cluster.execute(code, source.database)
    source.decide({}, protected=False)
    done = inv("db.copy", "qa", "dev", "--where", f"people={condition}")
    assert not spied.exists()
    assert done.returncode == 2
    assert words in done.stderr
