"""The login that a load of a superuser's restore runs as: what who owns the database gets by it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from psycopg2 import sql
from servers import Cluster

from pgtasks import loader

Inv = Callable[..., Any]
Start = Callable[..., Any]

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

    def make(code: str, *, user: str = "") -> tuple[Path, str]:
        name = fresh_database(cluster, owner=owner)
        with closing(cluster.connect(name, user=owner)) as conn, conn.cursor() as cursor:
            cursor.execute(PLANTED.format(code))
        target = cluster.target(name)
        put_stamp(target)
        root = make_project(tmp_path / "shop", target.url())
        made = inv("db.backup", cwd=root)
        assert made.returncode == 0, made.stderr
        if user:
            url = replace(target, user=user).url()
            (root / "env" / "dev.yaml").write_text(f"url: '{url}'\n")
        return root, name

    return make


def logins(cluster: Cluster, database: str) -> list[Any]:
    query = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
    return cluster.execute(query, parameters=(loader.name(database, ""),))


def halted(start_inv: Start, root: Path, step: str, *args: str) -> Any:
    process = start_inv(*args, cwd=root, env={"PGTASKS_HALT_AT": step})
    for line in process.stderr:
        if line.startswith(f"halted at {step}"):
            return process
    raise AssertionError(f"never reached {step}")


def side_of(cluster: Cluster, name: str) -> str:
    (found,) = (each for each in cluster.databases() if each.startswith(f"{name}__new_"))
    return found


def test_an_owner_who_keeps_the_login_out_gets_no_load_as_a_superuser(
    plant: Callable[..., tuple[Path, str]], owner: str, cluster: Cluster, start_inv: Start
) -> None:
    """The side database is the owner's too: a limit of connections holds for all but superusers."""
    root, name = plant("EXECUTE 'ALTER ROLE load_owner SUPERUSER';")
    running = halted(start_inv, root, "restore.marked", "db.restore")
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
