"""An application acts as a role that may do less than the user it connects as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg2 import sql
from servers import Cluster
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from pgtasks.errors import BadConfiguration
from pgtasks.service import DatabaseService, check_health

LOGIN = "shop_login"
ROLES = ("shop_app", "shop app \\'x' \"ü\" 🦀")
WHO = text("SELECT current_user::text, session_user::text")


@pytest.fixture(params=("cluster", "cluster18", "system_cluster"))
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return a server with a login, and two roles that it is a member of."""
    cluster: Cluster = request.getfixturevalue(request.param)
    drop(cluster)
    cluster.execute(f"CREATE ROLE {LOGIN} LOGIN")
    for role in ROLES:
        cluster.execute(sql.SQL("CREATE ROLE {} ROLE {}").format(*names(role, LOGIN)))
    yield cluster
    drop(cluster)


def drop(cluster: Cluster) -> None:
    for role in (*ROLES, LOGIN, "shop_other"):
        cluster.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(*names(role)))


def url(server: Cluster, database: str) -> str:
    return replace(server.target(database), user=LOGIN).url(reveal=True)


def names(*roles: str) -> list[sql.Identifier]:
    return [sql.Identifier(role) for role in roles]


@pytest.fixture
def connected(
    server: Cluster,
    fresh_database: Callable[..., str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], DatabaseService]]:
    """Return what makes a service of the login that acts as a role."""
    database = fresh_database(server)
    server.execute("CREATE TABLE public.rows (worker int, number int)", database)
    monkeypatch.chdir(project)
    made: list[DatabaseService] = []

    def make(role: str) -> DatabaseService:
        quoted = role.replace("'", "''")
        (project / "env" / "dev.yaml").write_text(
            f"url: '{url(server, database)}'\npool:\n  role: '{quoted}'\n  check_stamp: false\n",
            encoding="utf-8",
        )
        made.append(DatabaseService("dev"))
        return made[-1]

    yield make
    for service in made:
        service.dispose()


@pytest.mark.parametrize("role", ROLES)
def test_the_application_is_the_role(
    connected: Callable[[str], DatabaseService], server: Cluster, role: str
) -> None:
    service = connected(role)
    for read_only in (False, True):
        with service.session(read_only=read_only) as session:
            assert session.execute(WHO).one() == (role, LOGIN)
    with pytest.raises(ProgrammingError, match="permission denied for table rows"):
        service.run(read_rows)
    # the check of health connects as the application does
    assert "permission" not in (check_health(service).reason or "")


def test_health_of_a_role_without_rights_is_no_silence(
    connected: Callable[[str], DatabaseService], server: Cluster
) -> None:
    """As after a reset of the database, which has lost the grants."""
    service = connected(ROLES[0])
    server.execute("CREATE TABLE public.alembic_version (version_num text)", service.url.database)
    health = check_health(service)
    assert health.reason == (
        "permission denied for table alembic_version: role 'shop_app' (pool.role) lacks a "
        "privilege: GRANT it in sql/roles/*.sql, inv setup --env dev runs these files"
    )
    assert health.public() == {"status": "unavailable", "database": "refused"}


def test_the_log_says_once_where_privileges_come_from(
    connected: Callable[[str], DatabaseService], caplog: pytest.LogCaptureFixture
) -> None:
    service = connected(ROLES[0])
    for _ in range(2):
        with pytest.raises(ProgrammingError, match="permission denied for table rows"):
            service.run(read_rows)
    assert [record.getMessage() for record in caplog.records] == [
        "permission denied for table rows: role 'shop_app' (pool.role) lacks a privilege: "
        "GRANT it in sql/roles/*.sql, inv setup --env dev runs these files"
    ]


def read_rows(session: Session) -> None:
    session.execute(text("SELECT * FROM rows"))


def test_a_connection_that_comes_back_to_the_pool_still_is_the_role(
    connected: Callable[[str], DatabaseService],
) -> None:
    service = connected(ROLES[0])

    def forget(session: Session) -> None:
        session.execute(text("RESET ROLE"))
        raise LookupError

    with suppress(LookupError):
        service.run(forget)
    service.run(lambda session: session.execute(text("SET LOCAL ROLE NONE")))
    assert service.run(lambda session: session.execute(WHO).one()) == (ROLES[0], LOGIN)


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("shop_ap", "the server has no such role: CREATE it"),
        ("shop_other", "the user that connects is no member of it: GRANT it"),
    ],
)
def test_a_role_that_cannot_be_is_said(
    connected: Callable[[str], DatabaseService], server: Cluster, role: str, why: str
) -> None:
    server.execute("CREATE ROLE shop_other")
    service = connected(role)
    for _ in range(2):
        with pytest.raises(BadConfiguration) as refused:
            service.run(read_rows)
        assert str(refused.value).startswith(f"environment 'dev': pool.role: '{role}': {why}")
    health = check_health(service)
    assert not health.ok
