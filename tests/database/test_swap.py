"""The swap: one transaction, old or new and nothing between, undone the same way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import pytest
from paths import SUPPORT
from psycopg2 import sql
from servers import Cluster
from swaps import build_side, content, prepare, prepare_side, swap_in
from waiting import PATIENCE, meanwhile, until

from pgtasks.database import drop, forget, properties, recover, side, swap, undo
from pgtasks.database.ending import SessionEnder
from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable
from pgtasks.server import connection
from pgtasks.server.identity import Identity, identify
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

ODD_NAMES = ["plain", 'it\'s a "name"', "größe 🐘 x=y", "n" * 63, "é" * 31]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_swaps_and_undoes_whatever_the_name(
    cluster: Cluster, fresh_database: Callable[..., str], name: str
) -> None:
    target = prepare(cluster, fresh_database(cluster, name), "old")
    with Lock(target, "test") as lock:
        swap_in(lock)
        assert content(target) == "new"
        undo.undo(lock)
        assert content(target) == "old"
        undo.undo(lock)
        assert content(target) == "new"
        assert len(forget.forget(lock).dropped) == 1
        with pytest.raises(Refused, match="nothing to return to"):
            undo.undo(lock)


def test_carries_everything_that_belongs_to_the_database(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = prepare(any_cluster, fresh_database(any_cluster), "old")
    name = sql.Identifier(target.database)
    with Lock(target, "test") as lock:
        conn = lock.connection
        connection.execute(conn, 'DROP ROLE IF EXISTS "swap\'s reader"')
        connection.execute(conn, 'CREATE ROLE "swap\'s reader"')
        for statement in (
            "ALTER DATABASE {} CONNECTION LIMIT 17",
            "ALTER DATABASE {} IS_TEMPLATE true",
            'ALTER DATABASE {} SET search_path TO "$user", \'odd, "schema\', public',
            "ALTER DATABASE {} SET work_mem TO '5MB'",
            "ALTER DATABASE {} SET app.tenant TO 'it''s'",
            "ALTER DATABASE {} SET default_transaction_read_only TO on",
            "ALTER ROLE \"swap's reader\" IN DATABASE {} SET work_mem TO '1MB'",
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            'GRANT CONNECT ON DATABASE {} TO "swap\'s reader" WITH GRANT OPTION',
            "COMMENT ON DATABASE {} IS 'the text\nof two lines'",
        ):
            connection.execute(conn, sql.SQL(statement).format(name))
        before = properties.read(conn, target.database)
        swap_in(lock)
        after = properties.read(conn, target.database)
        assert after == before
        assert after.template
        assert after.comment == "the text\nof two lines"
        assert (
            connection.value(
                conn, "SELECT datconnlimit FROM pg_database WHERE datname = %s", (target.database,)
            )
            == 17
        )
        undo.undo(lock)
        assert properties.read(conn, target.database) == before
        forget.forget(lock)
        drop.drop(conn, target, target.database)
        connection.execute(conn, 'DROP ROLE "swap\'s reader"')


def test_leaves_a_default_access_list_the_default(target: Target) -> None:
    prepare_side(target, "old")
    with Lock(target, "test") as lock:
        assert properties.read(lock.connection, target.database).grants is None
        swap_in(lock)
        assert properties.read(lock.connection, target.database).grants is None


def test_leaves_a_live_stamp_and_a_closed_kept_database(target: Target) -> None:
    prepare_side(target, "old")
    with Lock(target, "test") as lock:
        swapped = swap_in(lock)
        identity = _identity(target)
        assert identity.stamp
        assert (identity.stamp.role, identity.foreign) == ("live", False)
        (kept,) = recover.look(lock.connection, target).kept
        assert kept.name == swapped.kept
        assert not kept.open
        assert kept.stamp
        assert kept.stamp.role == "old"


def _identity(target: Target) -> Identity:
    with connection.session(target) as conn:
        return identify(conn)


@contextmanager
def hammering(
    target: Target, clients: int, swapped: threading.Event
) -> Iterator[list[tuple[bool, str]]]:
    """Connect in a loop from several threads; yield what each successful look saw.

    One that began after `swapped` was set says so.
    """
    seen: list[tuple[bool, str]] = []

    def look() -> None:
        is_late = swapped.is_set()
        # a moment without the database, or an ended session: tried again
        with suppress(psycopg2.Error, PgtasksError):
            seen.append((is_late, content(target)))

    with meanwhile(look, threads=clients):
        until(lambda: seen)
        yield seen


def test_succeeds_while_eight_clients_reconnect(target: Target) -> None:
    prepare_side(target, "old")
    with Lock(target, "test") as lock:
        name, made, facts = build_side(lock, "new")
        swapped = threading.Event()
        with hammering(target, 8, swapped) as seen:
            swap.swap_in(lock, target, name, made, facts=facts, replaces=True)
            swapped.set()
            until(lambda: sum(is_late for is_late, _ in seen) >= 20)
        assert {what for is_late, what in seen if is_late} == {"new"}
        assert {"old"} <= {what for is_late, what in seen if not is_late} <= {"old", "new"}


def test_ends_a_session_that_holds_a_transaction_open(target: Target) -> None:
    prepare_side(target, "old")
    idle = connection.connect(target)
    connection.execute(idle, "BEGIN")
    connection.execute(idle, "LOCK TABLE public.content")
    with Lock(target, "test") as lock:
        swap_in(lock)
    with pytest.raises(psycopg2.OperationalError):
        idle.cursor().execute("SELECT 1")
    idle.close()


def test_ends_nobody_who_could_come_back_to_be_ended_again(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_side(target, "old")
    session = connection.connect(target, purpose="test")
    looks, find = [0], SessionEnder._pids

    def looked(ender: SessionEnder) -> list[int]:
        found = find(ender)
        looks[0] += 1
        return found

    def ready(step: str) -> None:
        if step == "swap.ready":
            until(lambda: looks[0] > 2)
            assert connection.value(session, "SELECT 1") == 1

    monkeypatch.setattr(SessionEnder, "_pids", looked)
    monkeypatch.setattr(swap, "boundary", ready)
    with Lock(target, "test") as lock:
        swap_in(lock)
    with pytest.raises(PgtasksError):
        connection.value(session, "SELECT 1")
    session.close()


def test_rolls_back_when_a_session_cannot_be_ended(cluster: Cluster, owned: Target) -> None:
    prepare_side(owned, "old")
    superuser = cluster.connect(owned.database)
    with Lock(owned, "test") as lock:
        side_name, made, facts = build_side(lock, "new")
        with pytest.raises(Failed, match="everything is as before"):
            swap.swap_in(lock, owned, side_name, made, facts=facts, replaces=True)
        assert connection.value(lock.connection, "SELECT 1") == 1
        assert content(owned) == "old"
        superuser.close()
        swap.swap_in(lock, owned, side_name, made, facts=facts, replaces=True)
        assert content(owned) == "new"


_SWAPPER = """
import sys
sys.path.insert(0, {support!r})
from swaps import build_side
from pgtasks.database import swap
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target
target = Target(environment="dev", host={host!r}, port={port}, database={name!r}, user={user!r})
with Lock(target, "test") as lock:
    side_name, made, facts = build_side(lock, "new")
    swap.swap_in(lock, target, side_name, made, facts=facts, replaces=True)
"""


@pytest.mark.parametrize("step", ["swap.ready", "swap.done"])
def test_a_killed_swap_leaves_the_old_or_the_new(
    cluster: Cluster, target: Target, step: str
) -> None:
    prepare_side(target, "old")
    halted = start_swapper(cluster, target, step)
    os.kill(halted.pid, signal.SIGKILL)
    halted.communicate()
    assert content(target) == ("old" if step == "swap.ready" else "new")
    with lock_when_free(target) as lock:
        found = recover.look(lock.connection, target)
        done = recover.heal(lock)
        assert (len(found.half_built), len(done)) == ((1, 1) if step == "swap.ready" else (0, 0))
        assert recover.look(lock.connection, target).half_built == ()


def start_swapper(cluster: Cluster, target: Target, step: str) -> subprocess.Popen[str]:
    script = _SWAPPER.format(
        support=str(SUPPORT),
        host=cluster.host,
        port=cluster.port,
        name=target.database,
        user=target.user,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PGTASKS_HALT_AT": step},
    )
    assert process.stderr
    assert f"halted at {step}" in process.stderr.readline()
    return process


@contextmanager
def lock_when_free(target: Target) -> Iterator[Lock]:
    """Take the lock as soon as the server has noticed that its holder is gone."""
    from pgtasks.errors import Locked

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with Lock(target, "test") as lock:
                yield lock
                return
        except Locked:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_backend_killed_in_the_middle_rolls_back(cluster: Cluster, owned: Target) -> None:
    prepare_side(owned, "old")
    blocker = cluster.connect(owned.database)  # a superuser's, which RENAME waits for
    with Lock(owned, "test") as lock:
        side_name, made, facts = build_side(lock, "new")
        pid = lock.connection.info.backend_pid
        killer = threading.Thread(target=end_when_renaming, args=(cluster, pid))
        killer.start()
        with pytest.raises(Failed, match="everything is as before"):
            swap.swap_in(lock, owned, side_name, made, facts=facts, replaces=True)
        killer.join()
    blocker.close()
    assert content(owned) == "old"


def test_a_lost_answer_to_a_commit_is_no_rollback(
    cluster: Cluster, owned: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has done it, and the session ends before that is heard."""
    prepare_side(owned, "old")
    real = swap._execute

    def cut(conn: Any, target: Target, text: Any) -> None:
        real(conn, target, text)
        end = "SELECT pg_terminate_backend(%s)"
        cluster.execute(end, parameters=(conn.info.backend_pid,))
        connection.value(conn, "SELECT 1", into=int)

    monkeypatch.setattr(swap, "_execute", cut)
    with Lock(owned, "test") as lock:
        side_name, made, facts = build_side(lock, "new")
        with pytest.raises(Unreachable, match=r"the swap is done all the same, inv db\.undo takes"):
            swap.swap_in(lock, owned, side_name, made, facts=facts, replaces=True)
    assert content(owned) == "new"


def end_when_renaming(cluster: Cluster, pid: int) -> None:
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid = %s AND query LIKE '%%RENAME%%'"
    )
    with connection.session(cluster.target()) as conn:
        until(lambda: connection.value(conn, end, (pid,)))


def test_long_names_do_not_meet() -> None:
    names = ["a" * 63, "a" * 62 + "b"]
    made = {side.side_name(name, "new", "26112207000012") for name in names}
    assert len(made) == 2
    assert all(len(name.encode()) <= 63 for name in made)
