"""The databases that are kept: each can be returned to, what goes is named, a bound is held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import servers
from conftest import Inv
from halting import halted, interrupt
from projects import put_side
from psycopg2 import sql
from restores import sides
from servers import Cluster
from swaps import prepare, swap_in
from terminal import answer
from waiting import PATIENCE, until

from pgtasks.database import drop
from pgtasks.server import connection
from pgtasks.server.lock import Lock

INV = Path(sys.executable).parent / "inv"
RUNS = ("26010203040506", "26010203040507", "26112207551800")


@pytest.fixture
def three(cluster: Cluster, database: str) -> list[str]:
    """Return three kept databases of the project's, oldest first."""
    return [put_side(cluster, database, "old", run) for run in RUNS]


def test_undo_reaches_every_kept_database(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    prepare(cluster, database, "first")
    with Lock(cluster.target(database), "test") as lock:
        swap_in(lock, "second")
        swap_in(lock, "third")
    first, second = sides(cluster, database)

    planned = inv("db.undo", "--to", first[-14:], "--dry")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith(f"undo     {first!r}, ")
    assert sides(cluster, database) == [first, second]

    unknown = inv("db.undo", "--to", RUNS[0])
    assert unknown.returncode == 2
    assert f"newest first there are: {second[-14:]}, {first[-14:]}" in unknown.stderr

    undone = inv("db.undo", "--to", first, "--json")
    assert undone.returncode == 0, undone.stderr
    assert f"undo     {first!r}, " in undone.stderr
    document = json.loads(undone.stdout)
    assert (document["restored"], document["run"]) == (first, first[-14:])
    assert 0 <= document["age_seconds"] < 600
    assert [one["name"] for one in document["kept_databases"]] == [second, document["kept"]]
    assert cluster.value("SELECT text FROM content", database) == "first"

    back = inv("db.undo")
    assert f"{database!r} is again what it was: '{document['kept']}', " in back.stdout
    assert cluster.value("SELECT text FROM content", database) == "third"


def test_check_says_how_each_is_reached_and_what_they_take(
    database: str, project: Path, inv: Inv, three: list[str]
) -> None:
    done = inv("db.check")
    assert done.returncode == 0
    found = [" ".join(line.split()) for line in done.stdout.splitlines() if "kept" in line]
    assert f": for inv db.undo --to {RUNS[0]}, until inv db.forget" in found[2]
    assert ": for inv db.undo, until inv db.forget" in found[0]
    assert "3 replaced databases, " in found[3]
    assert "are kept: inv db.forget --keep 1 drops all but the newest" in found[3]


def test_a_restore_in_no_ones_place_does_not_deny_what_is_kept(
    cluster: Cluster, database: str, project: Path, inv: Inv, three: list[str]
) -> None:
    assert inv("db.backup").returncode == 0
    assert inv("db.drop", "--yes").returncode == 0
    done = inv("db.restore")
    assert done.returncode == 0, done.stderr
    assert "there was no such database before, so this put nothing away" in done.stdout
    assert "nothing to undo" not in done.stdout
    assert "3 replaced databases" in done.stdout


def test_forget_keeps_the_newest(
    cluster: Cluster, database: str, project: Path, inv: Inv, three: list[str]
) -> None:
    assert inv("db.forget", "--yes", "--keep", "-1").returncode == 2
    done = inv("db.forget", "--yes", "--keep", "1")
    assert done.returncode == 0, done.stderr
    assert [line[:7] for line in done.stdout.splitlines()] == ["dropped", "dropped", "kept: '"]
    assert sides(cluster, database) == three[2:]
    assert "nothing more is kept" in inv("db.forget", "--yes", "--keep", "1").stdout


def test_a_bound_is_held_after_a_swap(
    cluster: Cluster, database: str, project: Path, inv: Inv, three: list[str]
) -> None:
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("keep_old: 2\n")
    undone = inv("db.undo")
    assert undone.returncode == 0, undone.stderr
    assert f"dropped {three[0]!r}, " in undone.stdout
    assert ": keep_old is 2" in undone.stdout
    left = sides(cluster, database)
    assert len(left) == 2
    assert left[0] == three[1]


def test_what_goes_is_named_before_the_question(
    cluster: Cluster, database: str, project: Path, three: list[str]
) -> None:
    question = r"this cannot be undone, go on\? \[y/N\] "
    refused = answer([INV, "db.forget", "--keep", "1"], [(question, "n\n")], cwd=project)
    assert refused.code == 2
    shown = refused.screen.partition("this cannot")[0]
    assert f"would drop {three[0]!r}, " in shown
    assert " MB, put away " in shown
    assert f"kept: {three[2]!r}" in shown
    stopped = answer([INV, "db.drop"], [(question, "\x03")], cwd=project)
    assert stopped.code == 130
    assert f"would drop {database!r}, " in stopped.screen.partition("this cannot")[0]
    assert "error: interrupted, not confirmed: nothing was done" in stopped.screen
    assert {*three, database} <= set(cluster.databases())


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("undo.checked", "is as it was"),
        ("undo.swapped", "is replaced, inv db.undo takes that back"),
    ],
)
def test_an_interrupt_says_what_is(
    cluster: Cluster,
    database: str,
    project: Path,
    start_inv: Callable[..., Any],
    three: list[str],
    step: str,
    words: str,
) -> None:
    process = halted(start_inv, step, "db.undo")
    interrupt(process, cluster)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"error: interrupted: {database!r} {words}"


def test_files_of_a_killed_run_are_named_and_removed(
    project: Path, inv: Inv, tmp_path: Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = tmp_path / "tmp"
    place.mkdir()
    left = place / f"pgtasks-run-{ended.pid}-x.pgpass"
    left.write_text("secret")
    own = place / f"pgtasks-run-{os.getpid()}-y.pgpass"
    own.write_text("of a run that lives")
    (place / f"pgtasks-run-{'9' * 30}-z.pgpass").write_text("no process ever had that ID")
    checked = inv("db.check", env={"TMPDIR": str(place)})
    assert (
        f"{left}, of a killed run, which may contain a password: inv db.recover" in checked.stdout
    )
    assert str(own) not in checked.stdout
    recovered = inv("db.recover", env={"TMPDIR": str(place)})
    assert recovered.stdout == f"removed {str(left)!r}, which a killed run left\n"
    assert (left.exists(), own.exists()) == (False, True)


def test_autovacuum_keeps_no_plain_role_from_dropping(tmp_path: Path) -> None:
    settings = {"autovacuum": "on", "autovacuum_naptime": "1s"}
    settings["autovacuum_vacuum_cost_delay"] = "100ms"
    with servers.running(servers.wheel_bin(16), settings=settings) as cluster:
        cluster.execute("CREATE ROLE app LOGIN CREATEDB")
        name = cluster.create("shop", owner="app")
        cluster.execute(
            "CREATE TABLE t WITH (autovacuum_vacuum_cost_limit = 1)"
            " AS SELECT generate_series(1, 200000) i; DELETE FROM t",
            name,
        )
        wait_for_autovacuum(cluster, name)
        with Lock(replace(cluster.target(name), user="app"), "test") as lock:
            with pytest.raises(Exception, match="permission denied to terminate"):
                connection.execute(
                    lock.connection,
                    sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)),
                )
            drop.drop_plainly(lock.connection, name)
        assert name not in cluster.databases()


def wait_for_autovacuum(cluster: Cluster, name: str) -> None:
    query = (
        "SELECT count(*) FROM pg_stat_progress_vacuum p JOIN pg_stat_activity a USING (pid)"
        " WHERE a.datname = %s AND backend_type = 'autovacuum worker'"
    )
    until(lambda: cluster.value(query, parameters=(name,)))
    # a session that made the table ends some time after it is closed
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL"
    until(lambda: not cluster.value(others, parameters=(name,)))


def test_a_session_that_may_not_be_ended_keeps_a_database(cluster: Cluster, database: str) -> None:
    role = f"app{os.getpid()}"
    cluster.execute(f"CREATE ROLE {role} LOGIN CREATEDB")
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {role}')
    other = cluster.connect(database)  # a superuser's
    try:
        # a DROP that waits for it would say that it is being accessed
        refused = pytest.raises(Exception, match="permission denied to terminate")
        with Lock(replace(cluster.target(database), user=role), "test") as lock, refused:
            drop.drop_plainly(lock.connection, database)
    finally:
        other.close()
        cluster.drop(database)
        cluster.execute(f"DROP ROLE {role}")
