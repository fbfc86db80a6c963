"""Clones: taken, listed, gone back to, dropped; what interrupts them; whose they are."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consoles import Recorder
from halting import halted, kill, unlocked
from projects import put_stamp
from psycopg2 import sql
from restores import sides
from roles import owned, plain  # noqa: F401
from servers import Cluster
from swaps import content, prepare, prepare_side

from pgtasks.copy.clone import back as backs
from pgtasks.copy.clone import clones, discard
from pgtasks.copy.clone import take as takes
from pgtasks.copy.clone.back import Returned
from pgtasks.copy.clone.take import Taken
from pgtasks.database import properties, undo
from pgtasks.errors import Refused
from pgtasks.host.local import HERE
from pgtasks.server import connection
from pgtasks.server.identity import comment_and_stamp
from pgtasks.server.lock import Lock
from pgtasks.settings import git
from pgtasks.settings.target import Target

Fresh = Callable[..., str]
Inv = Callable[..., Any]
ODD = 'feature/it\'s "odd" 🐘'


def write(target: Target, text: str) -> None:
    with connection.session(target) as conn:
        connection.execute(conn, "UPDATE public.content SET text = %s", (text,))


def take(lock: Lock, name: str, **flags: bool) -> Taken:
    flags = {"again": False, "end_sessions": False, **flags}
    done = takes.take(lock, HERE, name, agreed=lambda plan: True, console=Recorder(), **flags)
    assert isinstance(done, Taken)
    return done


def back(lock: Lock, name: str, *, give_up: bool = False) -> Returned:
    talk: dict[str, Any] = {"agreed": lambda plan: True, "console": Recorder()}
    done = backs.back(lock, HERE, name, give_up=give_up, **talk)
    assert isinstance(done, Returned)
    return done


def names(lock: Lock) -> list[str]:
    return [each.name for each in clones.find(lock.connection, lock.target)]


def stamped(cluster: Cluster, name: str, text: str = "first") -> Target:
    target = prepare(cluster, name, text)
    put_stamp(target)
    return target


@pytest.mark.parametrize("database", ["plain", 'it\'s a "name" 🐘', "n" * 63])
def test_a_clone_is_gone_back_to(cluster: Cluster, fresh_database: Fresh, database: str) -> None:
    target = stamped(cluster, fresh_database(cluster, database))
    with Lock(target, "test") as lock:
        taken = take(lock, ODD)
        command = shlex.split(taken.lines()[0].partition(": inv ")[2])
        assert command[:2] == ["clone.back", ODD]
        write(target, "second")
        assert names(lock) == [ODD]
        done = back(lock, ODD)
        assert content(target) == "first"
        assert names(lock) == [ODD], "a clone that is gone back to stays"
        assert {taken.clone, done.swapped.kept} <= {*cluster.databases()}
        undo.undo(lock)
        assert content(target) == "second"
        number = "SELECT oid FROM pg_database WHERE datname = %s"
        clone = cluster.value(number, parameters=(taken.clone,))
        back(lock, ODD, give_up=True)
        assert cluster.value(number, parameters=(target.database,)) == clone  # it is not copied
        assert content(target) == "first"
        assert names(lock) == []
        undo.undo(lock)
        assert content(target) == "second"


def test_the_stamp_of_what_is_gone_back_to_is_that_of_the_database(
    cluster: Cluster, fresh_database: Fresh
) -> None:
    target = stamped(cluster, fresh_database(cluster))
    with Lock(target, "test") as lock:
        for give_up in (False, True):
            _, before = comment_and_stamp(lock.connection, target.database)
            take(lock, "one", again=True)
            back(lock, "one", give_up=give_up)
            _, after = comment_and_stamp(lock.connection, target.database)
            assert after == before


def test_grants_and_settings_come_back(any_cluster: Cluster, fresh_database: Fresh) -> None:
    target = stamped(any_cluster, fresh_database(any_cluster))
    name = sql.Identifier(target.database)
    with Lock(target, "test") as lock:
        conn = lock.connection
        for statement in (
            "ALTER DATABASE {} CONNECTION LIMIT 17",
            "ALTER DATABASE {} SET work_mem TO '5MB'",
            "ALTER DATABASE {} SET default_transaction_read_only TO on",
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            "GRANT TEMPORARY ON DATABASE {} TO pg_monitor",
        ):
            connection.execute(conn, sql.SQL(statement).format(name))
        before = properties.read(conn, target.database)
        for give_up in (False, True):
            take(lock, "one", again=True)
            connection.execute(conn, sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
            back(lock, "one", give_up=give_up)
            assert properties.read(conn, target.database) == before


def test_a_database_that_is_gone_comes_back_from_a_clone(
    cluster: Cluster, fresh_database: Fresh
) -> None:
    target = stamped(cluster, fresh_database(cluster))
    with Lock(target, "test") as lock:
        take(lock, "one")
        cluster.drop(target.database)
        done = back(lock, "one")
        assert done.swapped.kept == ""
        assert content(target) == "first"


def test_sessions_are_ended_on_demand_alone(cluster: Cluster, fresh_database: Fresh) -> None:
    target = stamped(cluster, fresh_database(cluster))
    session = cluster.connect(target.database)
    with Lock(target, "test") as lock:
        with pytest.raises(Refused, match=r"has 1 session: 1 .*--end-sessions"):
            take(lock, "one")
        assert cluster.value("SELECT 1") == 1
        with session.cursor() as cursor:
            cursor.execute("SELECT 1")  # it was left alone
        take(lock, "one", end_sessions=True)
        assert names(lock) == ["one"]
    session.close()


def test_a_session_that_is_just_ending_is_waited_for(
    cluster: Cluster, fresh_database: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = stamped(cluster, fresh_database(cluster))
    session, look = cluster.connect(target.database), takes.replaced.look
    numbers: list[int] = []

    def looked(*given: Any) -> Any:
        origin = look(*given)
        numbers.append(origin.number)
        session.close()
        return origin

    monkeypatch.setattr(takes.replaced, "look", looked)
    with Lock(target, "test") as lock:
        take(lock, "one")
        assert names(lock) == ["one"]
    assert (numbers[0], numbers[-1]) == (1, 0)


def test_a_prepared_transaction_is_named(cluster: Cluster, fresh_database: Fresh) -> None:
    target = stamped(cluster, fresh_database(cluster))
    cluster.psql(target.database, "BEGIN; DELETE FROM content; PREPARE TRANSACTION 'it''s';")
    try:
        with Lock(target, "test") as lock, pytest.raises(Refused, match=r'transaction "it\'s"'):
            take(lock, "one")
    finally:
        cluster.psql(target.database, "ROLLBACK PREPARED 'it''s'")


def test_the_same_name_again(cluster: Cluster, fresh_database: Fresh) -> None:
    target = stamped(cluster, fresh_database(cluster))
    with Lock(target, "test") as lock:
        first = take(lock, "one")
        write(target, "second")
        with pytest.raises(Refused, match=r"there is a clone 'one', taken .*--again"):
            take(lock, "one")
        second = take(lock, "one", again=True)
        assert [each.side.name for each in second.dropped] == [first.clone]
        back(lock, "one")
        assert content(target) == "second"
        with pytest.raises(Refused, match=r"unknown clone 'two' of .*, known: 'one'"):
            back(lock, "two")
        assert len(discard.discard(lock, discard.plan(lock, "one")).clones) == 1
        assert names(lock) == []


def test_a_plain_role_takes_a_clone_and_goes_back(
    cluster: Cluster,
    owned: Target,  # noqa: F811
) -> None:
    target = owned
    prepare_side(target, "first")
    put_stamp(target)
    with Lock(target, "test") as lock:
        taken = take(lock, "one")
        back(lock, "one")
        assert properties.owner(lock.connection, target.database) == target.user
        assert properties.owner(lock.connection, taken.clone) == target.user
        discard.discard(lock, discard.plan(lock, "one"))
        undo.undo(lock)
        assert content(target) == "first"


def test_a_clone_of_another_role_is_not_offered(
    cluster: Cluster,
    fresh_database: Fresh,
    plain: Callable[..., str],  # noqa: F811
) -> None:
    """A stamp is a comment, which the owner of any database may write."""
    target = stamped(cluster, fresh_database(cluster))
    with Lock(target, "test") as lock:
        taken = take(lock, "one")
        statement = sql.SQL("ALTER DATABASE {} OWNER TO {}")
        cluster.execute(
            statement.format(sql.Identifier(taken.clone), sql.Identifier(plain("CREATEDB")))
        )
        assert names(lock) == []
        with pytest.raises(Refused, match=r"unknown clone 'one'"):
            back(lock, "one")


@pytest.mark.parametrize(
    "step", ["clone.ready", "restore.created", "restore.marked", "clone.copied", "clone.taken"]
)
def test_a_killed_take_leaves_nothing_or_a_whole_clone(
    cluster: Cluster, target: Target, inv: Inv, start_inv: Any, step: str
) -> None:
    cluster.execute("CREATE TABLE public.content AS SELECT 'first'::text", target.database)
    put_stamp(target)
    with Lock(target, "test") as lock:
        before = take(lock, "one")
    process = halted(start_inv, step, "clone.take", "one", "--again")
    kill(process, cluster)
    process.wait()
    assert unlocked(inv, "db.recover").returncode == 0
    listed = json.loads(inv("clone.list", "--json").stdout)["clones"]
    assert [each["name"] for each in listed] == ["one"] * (2 if step == "clone.taken" else 1)
    assert listed[-1]["database"] == before.clone
    assert sides(cluster, target.database) == sorted(each["database"] for each in listed)
    assert inv("clone.take", "one", "--again").returncode == 0
    assert len(sides(cluster, target.database)) == 1


@pytest.mark.parametrize("step", ["restore.created", "clone.copied", "swap.ready", "swap.done"])
def test_a_killed_return_leaves_the_old_database_or_the_new_one(
    cluster: Cluster, target: Target, inv: Inv, start_inv: Any, step: str
) -> None:
    cluster.execute("CREATE TABLE public.content AS SELECT 'first' AS text", target.database)
    put_stamp(target)
    with Lock(target, "test") as lock:
        take(lock, "one")
    write(target, "second")
    process = halted(start_inv, step, "clone.back", "one")
    kill(process, cluster)
    process.wait()
    assert content(target) == ("first" if step == "swap.done" else "second")
    assert unlocked(inv, "db.recover").returncode == 0
    assert content(target) == ("first" if step == "swap.done" else "second")
    assert inv("clone.back", "one", "--give-up").returncode == 0
    assert content(target) == "first"


def test_a_clone_is_named_after_the_branch(project: Path, target: Target, inv: Inv) -> None:
    subprocess.run(["git", "init", "-q", "-b", "feature/notes", str(project)], check=True)
    done = inv("clone.take", "--branch")
    assert done.returncode == 0, done.stderr
    assert "took clone 'feature/notes' of " in done.stdout
    listed = inv("clone.list").stdout
    assert "feature/notes" in listed
    assert "of this branch" in listed
    assert inv("clone.back", "--branch", "--dry").stdout.startswith(
        "back to  clone 'feature/notes'"
    )
    dropped = inv("clone.drop", "--branch", "--yes")
    assert "dropped clone 'feature/notes', taken " in dropped.stdout
    assert "clone.take needs NAME or --branch: inv clone.take NAME" in inv("clone.take").stderr
    refused = inv("clone.back", "--branch")
    assert refused.returncode == 2
    assert "unknown clone 'feature/notes' of " in refused.stderr


def test_what_git_says_of_a_checkout(tmp_path: Path) -> None:
    def run(*argv: str, folder: Path) -> None:
        own = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *own, *argv], cwd=folder, check=True, capture_output=True)

    assert git.branch(tmp_path) == ""
    main, linked = tmp_path / "main", tmp_path / "linked"
    main.mkdir()
    run("init", "-q", "-b", "größe", folder=main)
    run("commit", "-q", "--allow-empty", "-m", "first", folder=main)
    run("worktree", "add", "-q", "-b", "a/b", str(linked), folder=main)
    (main / "below").mkdir()
    assert git.branch(main / "below") == "größe"
    assert git.branch(linked) == "a/b"
    run("checkout", "-q", "--detach", folder=main)
    assert git.branch(main) == ""


@pytest.mark.parametrize("name", ["", "a\nb", "n" * 201, "--dry"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        clones.name_of(name, branch=False, root=tmp_path)
    with pytest.raises(Refused, match=r"keep one"):
        clones.name_of("one", branch=True, root=tmp_path)
