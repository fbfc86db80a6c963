from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from servers import Cluster, threads
from waiting import until

from pgtasks.errors import Locked, PgtasksError, Unreachable
from pgtasks.server import connection, lock
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


def is_free(target: Target) -> bool:
    try:
        with Lock(target, "probe"):
            return True
    except Locked:
        return False


def test_one_run_at_a_time_and_who_holds_it(target: Target) -> None:
    with Lock(target, "db.restore"), pytest.raises(Locked) as refusal, Lock(target, "db.drop"):
        pass
    assert refusal.value.exit_code == 6
    said = refusal.value.message
    assert said.startswith(
        f"{target} is locked by another run: db.restore, process {os.getpid()} of "
    )
    with Lock(target, "db.drop"):
        pass


def test_who_holds_it_is_said_to_a_plain_role_too(cluster: Cluster, target: Target) -> None:
    cluster.execute("CREATE ROLE lock_plain LOGIN")
    try:
        with (
            Lock(target, "db.restore"),
            pytest.raises(Locked, match=r"by another run: db\.restore"),
            Lock(replace(target, user="lock_plain"), "db.drop"),
        ):
            pass
    finally:
        cluster.execute("DROP ROLE lock_plain")


def test_another_database_is_free(cluster: Cluster, target: Target) -> None:
    with Lock(target, "db.restore"), Lock(cluster.target("another"), "db.restore"):
        pass


def test_works_for_a_database_that_is_not_there(cluster: Cluster) -> None:
    with Lock(cluster.target("not there"), "db.create") as held:
        held.check()


def test_an_applications_own_locks_are_no_obstacle(cluster: Cluster, target: Target) -> None:
    session = cluster.connect()
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock.key(target.database),))
        cursor.execute("SELECT pg_advisory_lock(1, %s)", (lock.key(target.database),))
        both = (lock._CLASS << 32) + lock.key(target.database)
        cursor.execute("SELECT pg_advisory_lock(%s)", (both,))  # one key of 64 bits
    assert is_free(target)
    with connection.session(target.at("postgres")) as conn:
        keys = (lock._CLASS, lock.key(target.database))
        # the probe's own session may end a moment after it was closed
        until(lambda: lock.holder(conn, keys) == "it has just ended, try again")
    session.close()


def test_the_key_is_a_positive_int4_and_stable() -> None:
    assert lock.key("shop") == lock.key("shop")
    for name in ("", "shop", "ünï 🐘", "x" * 63):
        assert 0 <= lock.key(name) < 2**31
    assert lock.key("shop") != lock.key("Shop")


def test_is_free_when_the_block_ends_badly(target: Target) -> None:
    with pytest.raises(ZeroDivisionError), Lock(target, "db.restore"):
        raise ZeroDivisionError
    assert is_free(target)


def test_it_is_given_back_before_the_session_ends(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded server ends a session some time after it was closed."""
    sessions: list[Any] = []

    with Lock(target, "db.restore") as held:
        real = held.connection
        monkeypatch.setattr(real.__class__, "close", lambda session: sessions.append(session))
    assert sessions == [real]
    monkeypatch.undo()
    assert not real.closed
    assert is_free(target)
    real.close()


HOLDER = """
import sys, time
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target
host, port, database = sys.argv[1:4]
with Lock(Target("dev", host, int(port), database, "postgres"), "db.restore"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(target: Target) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, target.host, str(target.port), target.database],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_is_free_at_once_when_the_run_is_killed(target: Target) -> None:
    with holder(target) as process:
        assert not is_free(target)
        process.kill()
    until(lambda: is_free(target))


def test_is_free_when_the_run_falls_silent(target: Target, cluster: Cluster) -> None:
    # a machine that sleeps, a line that is cut: the session stays open and nothing comes
    with holder(target) as process:
        timeout = "SELECT setting FROM pg_settings WHERE name = 'idle_session_timeout'"
        assert cluster.value(timeout) == "0"
        process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: is_free(target), seconds=4 * lock._SILENCE)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def test_stays_held_while_nothing_is_done(
    cluster: Cluster, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 5 * lock._BEAT < lock._SILENCE
    monkeypatch.setattr(lock, "_BEAT", 0.1)
    asked, times = "SELECT query_start FROM pg_stat_activity WHERE pid = %s", set[Any]()
    with Lock(target, "db.restore") as held:
        pid = held.connection.info.backend_pid
        until(lambda: times.add(cluster.value(asked, parameters=(pid,))) or len(times) > 5)
        assert not is_free(target)


def test_a_lost_session_is_said(cluster: Cluster, target: Target) -> None:
    with Lock(target, "db.restore") as held:
        pid = connection.value(held.connection, "SELECT pg_backend_pid()")
        cluster.execute("SELECT pg_terminate_backend(%s)", parameters=(pid,))
        with pytest.raises(Unreachable):
            held.check()
    until(lambda: is_free(target))  # a session says that it ends before it gives its locks back


def test_the_databases_own_timeouts_do_not_end_it(cluster: Cluster, target: Target) -> None:
    cluster.execute("ALTER ROLE postgres SET idle_session_timeout = '1s'")
    try:
        with connection.session(target) as conn:
            assert connection.value(conn, "SHOW idle_session_timeout") == "0"
    finally:
        cluster.execute("ALTER ROLE postgres RESET idle_session_timeout")


def test_a_maintenance_database_that_is_not_there(target: Target) -> None:
    with pytest.raises(PgtasksError) as refusal, Lock(replace(target, maintenance="nope"), "x"):
        pass
    assert refusal.value.exit_code == 4


def test_no_thread_and_no_session_is_left(cluster: Cluster, target: Target) -> None:
    before = threads()
    with Lock(target, "db.restore"):
        assert len(threads() - before) == 1
    assert threads() <= before
    sessions: Any = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgtasks db.%'"
    )
    until(lambda: cluster.value(sessions) == 0)
