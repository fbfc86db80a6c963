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
