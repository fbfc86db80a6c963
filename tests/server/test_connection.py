from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from conftest import PASSWORD
from psycopg2 import sql
from servers import Cluster

from pgtasks.errors import Failed, Unreachable, VersionMismatch
from pgtasks.report import account
from pgtasks.server import connection, session
from pgtasks.server.embedded.port import free_port
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target


def test_nothing_of_the_process_or_the_role_gets_in(
    any_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what the edge takes out of the environment; here it stays in, and is overruled all the same
    monkeypatch.setenv("PGDATABASE", "nope")
    monkeypatch.setenv("PGUSER", "nope")
    monkeypatch.setenv("PGAPPNAME", "nope")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    names += ["idle_session_timeout"]
    names += ["transaction_timeout"] if any_cluster.major >= 17 else []
    any_cluster.execute("CREATE ROLE hedged LOGIN SUPERUSER")
    try:
        for name in names:
            any_cluster.execute(f"ALTER ROLE hedged SET {name} = '7s'")
        any_cluster.execute("ALTER ROLE hedged SET default_transaction_read_only = on")
        with connection.session(replace(any_cluster.target(), user="hedged")) as conn:
            for name in names:
                assert connection.value(conn, f"SHOW {name}") == "0"
            assert connection.value(conn, "SHOW default_transaction_read_only") == "off"
            assert connection.value(conn, "SHOW client_encoding") == "UTF8"
    finally:
        any_cluster.execute("DROP ROLE hedged")


def test_no_timeout_of_transactions_ends_a_session(any_cluster: Cluster) -> None:
    any_cluster.execute("CREATE ROLE hasty LOGIN")
    try:
        target = replace(any_cluster.target(), user="hasty")
        if any_cluster.major >= 17:
            any_cluster.execute("ALTER ROLE hasty SET transaction_timeout = 1")
        for _ in range(9):  # a millisecond is enough for some logins
            with connection.session(target) as conn:
                connection.value(conn, "SELECT pg_sleep(0.01)")
        named = "transaction_timeout=0"
        assert (named in connection.conninfo(target)["options"]) == (any_cluster.major >= 17)
        assert (named in connection.of_programs(target)) == (any_cluster.major >= 17)
    finally:
        any_cluster.execute("DROP ROLE hasty")


def test_a_server_that_was_another_one_before(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel's port is used again, for a server that does not know the timeout."""
    target = cluster.target()
    monkeypatch.setattr(connection, "_time_out", {connection._server(target)})
    with connection.session(target) as conn:
        assert connection.value(conn, "SELECT 1") == 1
    assert "transaction_timeout" not in connection.conninfo(target)["options"]


@pytest.mark.parametrize("of_programs", [False, True])
def test_no_timeout_ends_a_session_before_its_first_statement(
    any_cluster: Cluster, of_programs: bool
) -> None:
    names = ("idle_session_timeout", "idle_in_transaction_session_timeout")
    any_cluster.execute("CREATE ROLE hurried LOGIN")
    try:
        for name in names:
            any_cluster.execute(f"ALTER ROLE hurried SET {name} = '7s'")
        target = replace(any_cluster.target(), user="hurried")
        parameters = connection.conninfo(target)
        if of_programs:
            parameters["options"] = connection.of_programs(target)
        conn = psycopg2.connect(**parameters)
        try:
            with conn.cursor() as cursor:
                for name in names:
                    cursor.execute(f"SHOW {name}")
                    assert cursor.fetchone() == ("0",)
        finally:
            conn.close()
    finally:
        any_cluster.execute("DROP ROLE hurried")


def test_settings_are_escaped_at_any_white_space() -> None:
    blanks = " \t\n\r\v\f\\"
    assert (
        session.joined({"role": f"a{blanks}b"})
        == "-c role=a" + "".join(f"\\{blank}" for blank in blanks) + "b"
    )


def test_read_only_is_read_only(target: Target) -> None:
    with (
        connection.session(target, read_only=True) as conn,
        pytest.raises(Failed, match="cannot execute CREATE TABLE in a read-only transaction"),
    ):
        connection.execute(conn, "CREATE TABLE t ()")


def test_the_name_fits_and_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "jürgen" * 20)
    name = account.application_name("db.backup")
    assert name.startswith(f"pgtasks db.backup {os.getpid()} j?rgen")
    assert len(name.encode()) == 63


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("SELECT nope", Failed, 'column "nope" does not exist'),
        ("SELECT 1/0", Failed, "division by zero"),
        (
            "SELECT pg_terminate_backend(pg_backend_pid())",
            Unreachable,
            "the server ended the connection",
        ),
    ],
)
def test_errors_of_the_server(
    target: Target, statement: str, error: type[Exception], words: str
) -> None:
    with connection.session(target) as conn, pytest.raises(error, match=words):
        connection.rows(conn, statement)


def test_a_session_that_was_ended_is_unreachable(cluster: Cluster, target: Target) -> None:
    with connection.session(target) as conn:
        pid = connection.value(conn, "SELECT pg_backend_pid()")
        cluster.execute("SELECT pg_terminate_backend(%s)", parameters=(pid,))
        for _ in range(2):  # the second time the driver itself knows
            with pytest.raises(Unreachable, match="the server ended the connection"):
                connection.execute(conn, "SELECT 1")


def test_a_wrong_use_of_the_driver_is_a_bug_and_stays_one(target: Target) -> None:
    with connection.session(target) as conn, pytest.raises(psycopg2.ProgrammingError):
        connection.rows(conn, "SET work_mem = '4MB'")


def test_a_server_that_is_too_old() -> None:
    with pytest.raises(VersionMismatch, match=r"is PostgreSQL 13\.22, servers 14 to 18 are supp"):
        session.begin(130022)
    assert "transaction_timeout" not in session.begin(160014)
    assert "transaction_timeout" in session.begin(170000)


def test_unreachable_is_one_line_without_the_password(password_cluster: Cluster) -> None:
    target = replace(password_cluster.target(), host="localhost", password=Secret("wr0ng"))
    with pytest.raises(Unreachable) as refusal:
        connection.connect(target)
    assert "\n" not in refusal.value.message
    assert "password authentication failed" in refusal.value.message
    assert "wr0ng" not in refusal.value.message
    with pytest.raises(Unreachable, match="Connection refused") as refused:
        connection.connect(replace(target, port=free_port()))
    assert refused.value.message.count("connection to server") == 1


def test_a_password_of_any_characters(password_cluster: Cluster) -> None:
    assert password_cluster.password == PASSWORD
    with connection.session(password_cluster.target()) as conn:
        assert connection.value(conn, "SELECT 1") == 1


def test_names_of_any_characters(any_cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(any_cluster, "a 'b' \"c\" = ü 🐘 %s \\ {}")
    with connection.session(any_cluster.target(name)) as conn:
        assert connection.value(conn, "SELECT current_database()") == name
        table = sql.Identifier("public", name)
        connection.execute(conn, sql.SQL("CREATE TABLE {} ()").format(table))


def test_a_library_that_is_not_there_names_the_setting(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_cluster)
    for setting in ("local_preload_libraries", "session_preload_libraries"):
        any_cluster.execute(f"ALTER DATABASE \"{name}\" SET {setting} = 'nope'")
        with pytest.raises(
            Unreachable, match=f"ALTER DATABASE .*{name}.* RESET {setting}|or RESET {setting}"
        ):
            connection.connect(any_cluster.target(name))
        any_cluster.execute(f'ALTER DATABASE "{name}" RESET {setting}')
        connection.connect(any_cluster.target(name)).close()


def test_a_url_that_wants_a_server_to_write_to_can_be_read(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    url = cluster.url(database)
    mark = "&" if "?" in url else "?"
    (project / "env" / "dev.yaml").write_text(f"url: {url}{mark}target_session_attrs=read-write\n")
    for task in (("db.check",), ("db.run", "--sql", "CREATE TABLE t (i int)"), ("db.backup",)):
        done = inv(*task)
        assert done.returncode == 0, done.stderr
    assert inv("db.restore").returncode == 0
