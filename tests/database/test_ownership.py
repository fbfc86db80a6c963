"""A database is ours by its stamp and its owner, never by its name alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Inv
from projects import make_project, put_side, put_stamp
from psycopg2 import sql
from servers import Cluster

from pgtasks.database import side
from pgtasks.server import connection
from pgtasks.server.lock import Lock

FAR = "99123123595999"  # later than every run


@pytest.fixture
def mallory(cluster: Cluster) -> Iterator[str]:
    """Return a role that may create databases, and is nothing else."""
    name = f"mallory{os.getpid()}"
    cluster.execute(f"CREATE ROLE {name} LOGIN CREATEDB")
    yield name
    owned = "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s"
    for (database,) in cluster.execute(owned, parameters=(name,)):
        cluster.drop(database)
    cluster.execute(f"DROP ROLE {name}")


def kinds(cluster: Cluster, database: str, role: str) -> dict[str, Callable[[str, str], str]]:
    """Return what makes databases with names of side databases that are none of ours."""

    def unstamped(kind: str, run: str) -> str:
        return cluster.create(f"{database}__{kind}_{run}")

    def forged(kind: str, run: str) -> str:
        return put_side(cluster, database, kind, run, owner=role)

    def other_run(kind: str, run: str) -> str:
        made = put_side(cluster, database, kind, side.following(run))
        cluster.execute(f'ALTER DATABASE "{made}" RENAME TO "{database}__{kind}_{run}"')
        return f"{database}__{kind}_{run}"

    def other_role(kind: str, run: str) -> str:
        made = put_side(cluster, database, "new" if kind == "old" else "old", run)
        cluster.execute(f'ALTER DATABASE "{made}" RENAME TO "{database}__{kind}_{run}"')
        return f"{database}__{kind}_{run}"

    def other_server(kind: str, run: str) -> str:
        made = put_side(cluster, database, kind, run)
        line = f"pgtasks: environment=dev database={database} system=7 role={kind} run={run}"
        cluster.execute(f"COMMENT ON DATABASE \"{made}\" IS '{line}'")
        return made

    made = (unstamped, forged, other_run, other_role, other_server)
    return {make.__name__: make for make in made}


WORDS = {
    "unstamped": "no stamp says that a run of ours made it",
    "forged": "it belongs to 'mallory",
    "other_run": "its stamp is not of the run in its name",
    "other_role": "its stamp is not of the run in its name",
    "other_server": "on server 7",
}


@pytest.mark.parametrize("role", ["old", "new"])
@pytest.mark.parametrize("kind", WORDS)
def test_a_name_alone_is_no_reason(
    cluster: Cluster, database: str, mallory: str, kind: str, role: str
) -> None:
    named = kinds(cluster, database, mallory)[kind](role, FAR)
    target = cluster.target(database)
    with connection.session(target) as conn:
        (found,) = side.find(conn, target)
    assert found.name == named
    if (kind, role) == ("unstamped", "new"):
        assert found.alone == ""  # a look inside decides
    else:
        assert WORDS[kind] in found.alone


@pytest.mark.parametrize(("kind", "gone"), [("unstamped", False), ("forged", 0), ("forged", 1)])
def test_what_is_called_like_a_kept_one_is_named_and_left(
    cluster: Cluster, database: str, project: Path, inv: Inv, mallory: str, kind: str, gone: bool
) -> None:
    named = kinds(cluster, database, mallory)[kind]("old", FAR)
    if gone:
        cluster.execute(f'DROP DATABASE "{database}"')
        checked = inv("db.check")
        assert checked.returncode == 4
        assert f"{named!r} is there, {WORDS[kind]}" in checked.stderr
    recovered = inv("db.recover")
    assert recovered.returncode == 0, recovered.stderr
    assert f"left {named!r} alone: " in recovered.stdout
    assert WORDS[kind] in recovered.stdout
    for flags in ((), ("--to", named)):
        refused = inv("db.undo", *flags)
        assert refused.returncode == 2, refused.stdout
    assert WORDS[kind] in refused.stderr
    forgotten = inv("db.forget", "--yes", "--json")
    assert json.loads(forgotten.stdout)["dropped"] == []
    found = cluster.databases()
    assert named in found
    assert (database in found) is not bool(gone)


def test_a_half_built_one_without_a_stamp_goes_where_it_is_empty_and_ours(
    cluster: Cluster, database: str, project: Path, inv: Inv, mallory: str
) -> None:
    empty = cluster.create(f"{database}__new_26010203040506")
    full = cluster.create(f"{database}__new_26010203040507")
    foreign = cluster.create(f"{database}__new_26010203040508", owner=mallory)
    cluster.execute("CREATE TABLE t ()", full)
    recovered = inv("db.recover")
    assert recovered.stdout.splitlines()[0].startswith(f"dropped {empty!r}")
    assert f"left {full!r} alone: no stamp" in recovered.stdout
    assert f"left {foreign!r} alone: it belongs to" in recovered.stdout
    assert empty not in cluster.databases()
    assert {full, foreign} < set(cluster.databases())


def test_a_member_of_the_owner_undoes_and_another_role_s_groups_say_nothing(
    cluster: Cluster, mallory: str, fresh_database: Callable[..., str]
) -> None:
    """Deploy is a member of the owner; mallory makes deploy a member of herself, and of a group."""
    roles = {name: f"{name}{os.getpid()}" for name in ("app", "deploy", "team")}
    for name in roles.values():
        cluster.execute(f"CREATE ROLE {name} LOGIN CREATEDB")
    try:
        app, deploy, team = roles.values()
        cluster.execute(f"GRANT {app}, {team}, {mallory} TO {deploy}; GRANT {team} TO {mallory}")
        name = fresh_database(cluster, owner=app)
        kept = put_side(cluster, name, "old", "26010203040506", owner=app)
        put_side(cluster, name, "old", "26010203040507", owner=mallory)
        put_side(cluster, name, "old", "26010203040508", owner=team)
        target = replace(cluster.target(name), user=deploy)
        with Lock(target, "test") as lock:
            ours = [one.name for one in side.find(lock.connection, target) if not one.alone]
            assert ours == [kept]
            cluster.execute(f'DROP DATABASE "{name}"')
            assert all(one.alone for one in side.find(lock.connection, target))
    finally:
        cluster.drop(name)
        for role in roles.values():
            cluster.execute(
                sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role))
            )


def test_a_swap_that_changes_the_owner_says_whose_the_kept_one_is(
    cluster: Cluster, mallory: str, fresh_database: Callable[..., str]
) -> None:
    from swaps import build_side, content, prepare

    from pgtasks.database import swap, undo

    target = prepare(cluster, fresh_database(cluster), "old")
    with Lock(target, "test") as lock:
        name, mark, facts = build_side(lock, "new")
        cluster.execute(f'ALTER DATABASE "{name}" OWNER TO {mallory}')
        facts = replace(facts, owner=mallory)
        swap.swap_in(lock, target, name, mark, facts=facts, replaces=True)
    for expected in ("old", "new", "old"):
        with Lock(target, "test") as lock:
            undo.undo(lock)
        assert content(target) == expected


def test_a_journal_that_is_no_file_tells_nothing(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    target = replace(cluster.target(database), journal=tmp_path)
    cluster.execute(f'DROP DATABASE "{database}"')
    with Lock(target, "test") as lock:
        assert side.find(lock.connection, target) == []


def test_the_journal_s_owners_are_those_of_their_server(
    cluster: Cluster, cluster18: Cluster, mallory: str, tmp_path: Path, inv: Inv
) -> None:
    """An environment that moves to another server finds a role of the same name there."""
    name = cluster.create(owner=mallory)
    cluster18.execute(f"DROP ROLE IF EXISTS {mallory}; CREATE ROLE {mallory}")
    put_stamp(cluster.target(name))
    root = make_project(tmp_path / "shop", cluster.target(name).url())
    kept = put_side(cluster, name, "old", "26010203040506", owner=mallory)
    there = put_side(cluster18, name, "old", "26010203040506", owner=mallory)
    try:
        dropped = json.loads(inv("db.drop", "--yes", "--json", cwd=root).stdout)
        assert dropped["system"] == cluster.value(
            "SELECT system_identifier::text FROM pg_control_system()"
        )
        settings = root / "env" / "dev.yaml"
        here = settings.read_text()
        settings.write_text(f"url: '{cluster18.target(name).url()}'\n")
        refused = inv("db.undo", cwd=root)
        assert refused.returncode == 2
        assert f"{there!r}" in refused.stderr
        assert name not in cluster18.databases()
        settings.write_text(here)
        undone = inv("db.undo", "--json", cwd=root)
        assert undone.returncode == 0, undone.stderr
        assert json.loads(undone.stdout)["system"] == dropped["system"]
    finally:
        cluster.drop(name)
        cluster.drop(kept)
        cluster18.drop(there)
        cluster18.execute(f"DROP ROLE {mallory}")


def test_ids_follow_each_other_whatever_the_clock_says(
    cluster: Cluster, database: str, mallory: str
) -> None:
    target = cluster.target(database)
    with Lock(target, "test") as lock:
        now = side.new_run_id(lock.connection, target)
        put_side(cluster, database, "old", FAR, owner=mallory)
        assert side.new_run_id(lock.connection, target) < FAR
        ahead = f"{int(now[:2]) + 1}{now[2:]}"
        put_side(cluster, database, "old", ahead)
        assert side.new_run_id(lock.connection, target) == side.following(ahead)


@pytest.mark.parametrize(
    ("run", "next_one"),
    [
        ("26112207551800", "26112207551801"),
        ("261122075518fe", "261122075518ff"),
        ("261122075518ff", "26112207551900"),
        ("261231235959ff", "27010100000000"),
        ("269999999999ff", "27000000000000"),
    ],
)
def test_the_id_after_one(run: str, next_one: str) -> None:
    assert side.following(run) == next_one
    assert side.following(run) > run
