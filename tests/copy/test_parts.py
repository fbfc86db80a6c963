"""Parts of special sources: a hot standby takes no temporary tables, a protected one is masked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import servers
from projects import put_stamp
from servers import Cluster
from test_copy import KEEP, copied, pair
from test_masks import RULES, Source, goal, source
from test_subset import SHOP, counts, hold
from waiting import until

from pgtasks.copy import scope_of
from pgtasks.errors import Refused

__all__ = ["goal", "source"]  # fixtures


def test_a_subset_of_a_standby(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    here, target = pair(cluster, cluster, fresh_database)
    cluster.execute(SHOP, here.database)
    put_stamp(here)
    with servers.running(cluster.bin, standby_of=cluster) as standby:
        position = cluster.value("SELECT pg_current_wal_insert_lsn()")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        until(lambda: standby.value(replayed, parameters=(position,)))
        origin = standby.target(here.database, environment="prod")
        scope = scope_of(where=["customer=id = 120"], follow=["order,line"])
        copied(origin, target, KEEP, scope=scope)
    got = counts(cluster, target.database)
    assert got["customer"] == 3
    assert got["line"] == 3 * got['"order"'] > 0
    hold(cluster, target.database)


def test_a_part_of_a_protected_source_is_masked(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    flags = ("--where", "people=email ~ '^erika[1-7]@'", "--follow", "visits", "--json")
    done = inv("db.copy", "qa", "dev", *flags)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    of_people = {"table": "public.people", "rows": 7, "of": 500, "exact": True}
    assert of_people in shown["taken"]
    assert "rows of public.visits that refer to rows of public.people" in shown["part"]["rows"]
    joined = "SELECT count(*), count(note) FROM people JOIN visits USING (email)"
    assert cluster.execute(joined, goal) == [(7, 0)]
    assert cluster.value("SELECT count(*) FROM people WHERE email ~ 'erika'", goal) == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("people=split_part(name, ' ', 2)::int > 5", "--follow", "bills"),
        ("bills=(SELECT p.name::int FROM public.people p WHERE p.id = bills.person) > 5",),
        (
            "bills=(SELECT p.name::int FROM public.people p WHERE p.id = bills.person) > 5",
            *("--exclude-data", "people,visits"),
        ),
    ],
)
@pytest.mark.parametrize("rows", [500, 20_000])  # copied together with others, or alone
def test_an_error_of_a_condition_shows_no_masked_value(
    cluster: Cluster,
    source: Source,
    goal: str,
    inv: Callable[..., Any],
    flags: tuple[str, ...],
    rows: int,
) -> None:
    reference = "" if "--exclude-data" in flags else " REFERENCES people"
    cluster.execute(
        f"CREATE TABLE bills (id int PRIMARY KEY, person int{reference});"
        f"INSERT INTO bills SELECT i, i % 500 + 1 FROM generate_series(1, {rows}) i",
        source.database,
    )
    source.decide({**RULES, "public.bills.*": "plain"})
    done = inv("db.copy", "qa", "dev", "--jobs", "1", "--where", *flags)
    assert done.returncode != 0
    assert "a mask or a condition failed (InvalidTextRepresentation, 22P02)" in done.stderr
    journal = inv("journal.list", "--json").stdout
    assert "22P02" in journal
    assert not {"Erika", "Muster"} & set(done.stderr.replace('"', " ").split())
    assert "Erika" not in journal
    assert "Muster" not in journal


def test_rows_alone_of_a_protected_source_are_masked(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    done = inv("db.copy", "qa", "dev", "--schema-only", "--lossy")
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(*) FROM people", goal) == 0
    refused = inv("db.copy", "qa", "dev", "--data-only", "--no-proof")
    assert refused.returncode == 2
    assert "omit --no-proof" in refused.stderr
    done = inv("db.copy", "qa", "dev", "--data-only")
    assert done.returncode == 0, done.stderr
    assert "the rows of 2 tables, in the schema of the target" in done.stderr
    assert cluster.value("SELECT count(*) FROM people WHERE email !~ 'erika'", goal) == 500
    rules = {name: text for name, text in RULES.items() if "visits" not in name}
    source.decide({**rules, "public.visits.email": "email"})
    done = inv("db.copy", "qa", "dev", "--tables", "people")
    assert done.returncode == 0, done.stderr
    refused = inv("db.copy", "qa", "dev", "--tables", "visits")
    assert refused.returncode == 2
    assert "public.visits.note" in refused.stderr


def test_unlogged_rows_that_a_standby_lacks_do_not_empty_a_table(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    here, target = pair(cluster, cluster, fresh_database)
    tables = (
        "CREATE TABLE kept (n int); CREATE UNLOGGED TABLE passing (n int);"
        "INSERT INTO kept SELECT {0}; INSERT INTO passing SELECT {0}"
    )
    cluster.execute(tables.format(1), here.database)
    cluster.execute(tables.format(2), target.database)
    put_stamp(here)
    with servers.running(cluster.bin, standby_of=cluster) as standby:
        position = cluster.value("SELECT pg_current_wal_insert_lsn()")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        until(lambda: standby.value(replayed, parameters=(position,)))
        origin = standby.target(here.database, environment="prod")
        copied(origin, target, KEEP, scope=scope_of(data_only=True))
        assert cluster.execute("SELECT n FROM kept", target.database) == [(1,)]
        assert cluster.execute("SELECT n FROM passing", target.database) == [(2,)]
        with pytest.raises(Refused, match=r"does not have the rows of public\.passing"):
            copied(origin, target, KEEP, scope=scope_of(tables=["passing"]))
