"""The login that a load of a superuser's restore runs as: what who owns the database gets by it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from halting import Start, halted
from projects import make_project, put_stamp
from psycopg2 import sql
from restores import logins
from servers import Cluster

from pgtasks.database import loader

Inv = Callable[..., Any]

# The owner's code in a row's CHECK: it does something in the load alone, as the session's own role.
PLANTED = """
CREATE FUNCTION public.planted(text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
  IF position('__new_' IN current_database()) = 0 THEN RETURN true; END IF;
  BEGIN
    PERFORM set_config('role', 'none', false);
    {0}
  EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM;
  END;
  RETURN true;
END $f$;
CREATE TABLE public.bait (name text CHECK (public.planted(name)));
INSERT INTO public.bait VALUES ('x');
"""


@pytest.fixture
def owner(cluster: Cluster) -> Iterator[str]:
    """Return a plain role, which goes after the databases."""
    cluster.execute("DROP ROLE IF EXISTS load_owner")
    cluster.execute("CREATE ROLE load_owner LOGIN")
    return "load_owner"


@pytest.fixture
def plant(
    owner: str,
    cluster: Cluster,
    fresh_database: Callable[..., str],
    inv: Inv,
    tmp_path: Path,
) -> Callable[..., tuple[Path, str]]:
    """Return what makes a project whose database holds the owner's code, and a backup of it."""

    def make(
        code: str, *, user: str = "", more: str = "", server: Cluster = cluster
    ) -> tuple[Path, str]:
        name = fresh_database(server, owner=owner)
        with closing(server.connect(name, user=owner)) as conn, conn.cursor() as cursor:
            cursor.execute(PLANTED.format(code) + more)
        target = server.target(name)
        put_stamp(target)
        root = make_project(tmp_path / "shop", target.url())
        made = inv("db.backup", cwd=root)
        assert made.returncode == 0, made.stderr
        if user:
            url = replace(target, user=user).url()
            (root / "env" / "dev.yaml").write_text(f"url: '{url}'\n")
        return root, name

    return make


def side_of(cluster: Cluster, name: str) -> str:
    (found,) = (each for each in cluster.databases() if each.startswith(f"{name}__new_"))
    return found


def test_an_owner_who_keeps_the_login_out_gets_no_load_as_a_superuser(
    plant: Callable[..., tuple[Path, str]], owner: str, cluster: Cluster, start_inv: Start
) -> None:
    """The side database is the owner's too: a limit of connections holds for all but superusers."""
    root, name = plant("EXECUTE 'ALTER ROLE load_owner SUPERUSER';")
    running = halted(start_inv, "restore.marked", "db.restore", cwd=root)
    with closing(cluster.connect(user=owner)) as conn, conn.cursor() as cursor:
        statement = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0")
        cursor.execute(statement.format(sql.Identifier(side_of(cluster, name))))
    running.send_signal(signal.SIGUSR1)
    _, errors = running.communicate()
    assert running.returncode == 2, errors
    assert "a load as 'load_owner' alone needs a way in for a role of its own" in errors
    assert "too many connections for database" in errors
    assert "connect as 'load_owner' itself (`user`)" in errors
    assert "--as-superuser" in errors
    assert not cluster.value(
        "SELECT rolsuper FROM pg_roles WHERE rolname = %s", parameters=(owner,)
    )
    assert logins(cluster, name) == []
    assert not [each for each in cluster.databases() if each.startswith(f"{name}__new_")]


def test_a_mighty_role_that_may_make_no_login_loads_nothing_by_itself(
    plant: Callable[..., tuple[Path, str]], owner: str, cluster: Cluster, inv: Inv
) -> None:
    """A member of pg_execute_server_program without CREATEROLE."""
    cluster.execute("DROP ROLE IF EXISTS load_runner")
    cluster.execute(
        "CREATE ROLE load_runner LOGIN CREATEDB;"
        " GRANT pg_execute_server_program, load_owner, pg_signal_backend TO load_runner"
    )
    try:
        root, _ = plant("COPY (SELECT 1) TO PROGRAM 'cat > loot';", user="load_runner")
        loot = cluster.folder / "data" / "loot"
        refused = inv("db.restore", cwd=root)
        assert refused.returncode == 2, refused.stderr
        assert "a load as 'load_owner' alone needs a way in for a role of its own" in refused.stderr
        assert "permission denied to create role" in refused.stderr
        assert not loot.exists()
    finally:
        cluster.execute("DROP OWNED BY load_runner; DROP ROLE load_runner")


@pytest.mark.parametrize("mighty", ["load_admin", "between_roles"])
def test_who_may_create_roles_is_as_mighty_as_a_superuser_until_15(
    plant: Callable[..., tuple[Path, str]], cluster15: Cluster, inv: Inv, mighty: str
) -> None:
    """The connecting role, by its own attribute or by membership."""
    cluster15.execute("DROP ROLE IF EXISTS load_owner, load_admin, between_roles")
    cluster15.execute(
        "CREATE ROLE load_owner LOGIN; CREATE ROLE load_admin LOGIN CREATEDB; CREATE ROLE"
        f" between_roles; ALTER ROLE {mighty} CREATEROLE;"
        " GRANT load_owner, between_roles, pg_signal_backend TO load_admin"
    )
    switch = "PERFORM set_config('role', 'between_roles', false);" * (mighty != "load_admin")
    grant = f"{switch} GRANT pg_execute_server_program TO load_admin;"
    root, name = plant(grant, user="load_admin", server=cluster15)
    done = inv("db.restore", cwd=root)
    member = "SELECT pg_has_role('load_admin', 'pg_execute_server_program', 'MEMBER')"
    assert cluster15.value(member) is False
    if mighty == "load_admin":
        assert done.returncode == 0, done.stderr
        assert logins(cluster15, name) == []
    else:  # which is not inherited, so that no login can be made
        assert done.returncode == 2
        assert "permission denied to create role" in done.stderr


@pytest.fixture
def bank(owner: str, cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    """Return another database, whose policy hides a row from the owner of the first."""
    name = fresh_database(cluster)
    cluster.execute(
        "CREATE TABLE accounts AS SELECT 'secret' AS what;"
        " ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;"
        f" GRANT SELECT ON accounts TO {owner}; GRANT CREATE ON SCHEMA public TO {owner}",
        name,
    )
    return name


def test_who_takes_the_login_is_no_more_than_the_owner_and_loses_it(
    plant: Callable[..., tuple[Path, str]],
    bank: str,
    cluster: Cluster,
    inv: Inv,
    start_inv: Start,
) -> None:
    """The loaded code is the login, and gives it a password that it knows."""
    known = "EXECUTE format('ALTER ROLE %I PASSWORD ''known''', current_user);"
    root, name = plant(known)
    running = halted(start_inv, "restore.loaded", "db.restore", cwd=root)
    ((login,),) = logins(cluster, name)
    with closing(cluster.connect(bank, user=login)) as taken, taken.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounts")
        assert cursor.fetchone() == (0,)
        cursor.execute("CREATE TABLE mine ()")  # so that it cannot be dropped
        running.send_signal(signal.SIGUSR1)
        _, errors = running.communicate()
        assert running.returncode == 0, errors
        assert f"left role '{login}', the login of this restore: it owns something" in errors
        with pytest.raises(psycopg2.Error, match=r"terminating connection|closed"):
            cursor.execute("SELECT 1")
    assert logins(cluster, name) == [(login,)]
    left = cluster.execute(
        "SELECT rolcanlogin, rolbypassrls, count(m.roleid) FROM pg_roles r"
        " LEFT JOIN pg_auth_members m ON m.member = r.oid WHERE rolname = %s GROUP BY 1, 2",
        parameters=(login,),
    )
    assert left == [(False, False, 0)]
    assert f"role '{login}', the login of a restore" in inv("db.check", cwd=root).stdout
    assert f"left role '{login}'" in inv("db.recover", cwd=root).stdout
    cluster.execute("DROP TABLE mine", bank)
    assert f"dropped role '{login}'" in inv("db.recover", cwd=root).stdout
    assert logins(cluster, name) == []


def test_rows_that_policies_hide_from_the_owner_are_proven_by_another_login(
    plant: Callable[..., tuple[Path, str]], cluster: Cluster, start_inv: Start
) -> None:
    forced = "ALTER TABLE public.bait ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    root, name = plant("NULL;", more=forced)
    running = halted(start_inv, "restore.loaded", "db.restore", cwd=root)
    query = "SELECT bool_or(rolbypassrls) FROM pg_roles WHERE starts_with(rolname, %s)"
    assert cluster.value(query, parameters=(loader.name(name, ""),)) is False
    running.send_signal(signal.SIGUSR1)
    output, errors = running.communicate()
    assert running.returncode == 0, errors
    assert "1 of 1 table identical, 1 row" in errors + output
    assert logins(cluster, name) == []
