"""Copies of the server's own files, where source and target are on one server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from projects import put_stamp
from restores import CONTENT, rows, sides
from schemas import EVERYTHING
from servers import Cluster
from test_copy import KEEP, copied, pair, same_rows, text
from test_copy_task import NEW, OLD, protect, source, target_name  # noqa: F401

from pgtasks.copy import build, template
from pgtasks.copy.template import Candidate
from pgtasks.errors import Refused
from pgtasks.server import connection

Inv = Callable[..., Any]
FILES = replace(KEEP, rows=False, template=True)


def test_everything_comes_through(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    origin, target = pair(cluster, cluster, fresh_database)
    cluster.psql(origin.database, EVERYTHING)
    done = copied(origin, target, FILES)
    assert done.built.plan.way == "template"
    assert text(cluster, target.database) == text(cluster, origin.database)
    same_rows(origin, target)
    assert sides(cluster, target.database) == [done.swapped.kept]
    assert done.built.proven.comparison is not None
    assert done.built.proven.comparison.tables > 20


def ways(done: Any) -> str:
    return str(json.loads(done.stdout)["way"])


def test_the_plan_says_the_way(
    source: str,  # noqa: F811
    target_name: str,  # noqa: F811
    cluster: Cluster,
    inv: Inv,
) -> None:
    cluster.settle(source)
    done = inv("db.copy", "qa", "dev", "--dry")
    assert "way      the server copies the files of the source: nobody can connect" in done.stdout
    done = inv("db.copy", "qa", "dev", "--dry", "--rows")
    assert "way      rows in one snapshot, 2 tables at once" in done.stdout


def test_a_protected_source_is_shut_out_on_demand_alone(
    cluster: Cluster,
    project: Any,
    source: str,  # noqa: F811
    target_name: str,  # noqa: F811
    inv: Inv,
) -> None:
    protect(project, "qa")
    flags = ("--unmasked", "--confirm-source", source, "--json")
    assert ways(inv("db.copy", "qa", "dev", *flags, "--dry")) == "rows"
    assert rows(cluster, target_name) == OLD
    done = inv("db.copy", "qa", "dev", *flags, "--template")
    assert ways(done) == "template"
    assert rows(cluster, target_name) == NEW


def test_a_session_in_the_source_is_left_alone(
    cluster: Cluster,
    source: str,  # noqa: F811
    target_name: str,  # noqa: F811
    inv: Inv,
) -> None:
    session = cluster.connect(source)
    try:
        refused = inv("db.copy", "qa", "dev", "--template")
        assert refused.returncode == 2
        assert "files of the source: 1 session of others" in refused.stderr
        assert ways(inv("db.copy", "qa", "dev", "--json")) == "rows"
        assert session.closed == 0
        with session.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        session.close()
    assert rows(cluster, target_name) == NEW


def test_somebody_who_connects_meanwhile_makes_it_copy_the_rows(
    cluster: Cluster, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, target = pair(cluster, cluster, fresh_database)
    cluster.psql(origin.database, CONTENT)
    sessions = []
    by_template = build.template.copy

    def meanwhile(*args: Any) -> Any:
        sessions.append(cluster.connect(origin.database))
        return by_template(*args)

    monkeypatch.setattr(build.template, "copy", meanwhile)
    done = copied(origin, target, FILES)
    assert done.built.plan.way == "rows"
    same_rows(origin, target)
    assert sides(cluster, target.database) == [done.swapped.kept]
    [session] = sessions
    assert session.closed == 0
    session.close()


def test_a_source_that_is_written_meanwhile_is_copied_by_rows(
    cluster: Cluster, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, target = pair(cluster, cluster, fresh_database)
    cluster.psql(origin.database, "CREATE TABLE t AS SELECT generate_series(1, 9) i")
    create = build.template.side.create

    def written(*args: Any, **more: Any) -> Any:
        if more.get("copied"):
            cluster.execute("INSERT INTO t VALUES (10)", origin.database)
        return create(*args, **more)

    monkeypatch.setattr(build.template.side, "create", written)
    done = copied(origin, target, FILES)
    assert done.built.plan.way == "rows"
    assert cluster.value("SELECT count(*) FROM t", target.database) == 10
    assert sides(cluster, target.database) == [done.swapped.kept]


def test_sessions_that_are_just_ending_are_waited_for(
    cluster: Cluster, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files are asked for."""
    origin, target = pair(cluster, cluster, fresh_database)
    cluster.psql(origin.database, CONTENT)
    cluster.settle(origin.database)
    session = cluster.connect(origin.database)
    row, numbers = connection.row, list[int]()

    def looked(*given: Any, **more: Any) -> Any:
        found = row(*given, **more)
        if isinstance(found, Candidate):
            numbers.append(found.sessions)
            session.close()
        return found

    monkeypatch.setattr(template.connection, "row", looked)
    assert copied(origin, target, FILES).built.plan.way == "template"
    assert (numbers[0], numbers[-1]) == (1, 0)


def test_a_session_of_this_process_is_no_others(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    """It may end on the server some time after it is closed here."""
    origin = cluster.target(fresh_database(cluster))
    with (
        connection.session(origin, purpose="identify"),
        connection.session(origin) as reading,
        connection.session(origin.at(origin.maintenance)) as conn,
    ):
        seen = template.look(reading, conn, origin.database)
        assert (seen.here, seen.sessions) == (True, 0)
        with closing(cluster.connect(origin.database)):
            assert template.look(reading, conn, origin.database).sessions == 1


def test_another_database_of_that_name_is_refused(
    cluster: Cluster, fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, target = pair(cluster, cluster, fresh_database)
    put_stamp(origin)
    cluster.psql(origin.database, "CREATE TABLE t AS SELECT 1")
    create = build.template.side.create

    def stamped(*args: Any, **more: Any) -> Any:
        name = create(*args, **more)
        put_stamp(replace(origin, environment="other"))
        return name

    monkeypatch.setattr(build.template.side, "create", stamped)
    with pytest.raises(Refused, match="stamped anew since the guard"):
        copied(origin, target, FILES)
    assert cluster.value("SELECT count(*) FROM old", target.database) == 1
    assert sides(cluster, target.database) == []


def test_different_servers_are_refused(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    origin, target = pair(cluster, cluster18, fresh_database)
    cluster.psql(origin.database, CONTENT)
    with pytest.raises(Refused, match="different servers: leave out --template"):
        copied(origin, target, FILES)
