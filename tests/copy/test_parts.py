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
