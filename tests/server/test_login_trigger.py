"""Event triggers on login (17 and later) fire in no session of ours that may switch them off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Inv
from projects import make_project, put_stamp
from servers import Cluster

from pgtasks.errors import Unreachable
from pgtasks.server import connection, reach
from pgtasks.settings.target import Target

# it has nothing to do with who may read: it writes, and whoever only reads cannot log in
TRIGGER = """
CREATE TABLE login_log (id bigint GENERATED ALWAYS AS IDENTITY, who text);
CREATE TABLE stock (id int PRIMARY KEY);
INSERT INTO stock VALUES (1);
CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public AS $$
BEGIN
  INSERT INTO login_log (who) VALUES (session_user);
END $$;
CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note_login();
"""


@pytest.fixture
def shop(cluster18: Cluster, fresh_database: Callable[..., str]) -> Target:
    target = cluster18.target(fresh_database(cluster18))
    cluster18.execute(TRIGGER, target.database)
    put_stamp(target)
    return target


def logins(cluster: Cluster, database: str) -> list[str]:
    quiet = {"options": "-c event_triggers=off"}
    with cluster.connect(database, **quiet) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT who FROM public.login_log ORDER BY id")
        return [who for (who,) in cursor.fetchall()]


def test_do_not_fire_for_a_superuser(
    cluster18: Cluster, shop: Target, inv: Inv, tmp_path: Path
) -> None:
    root = make_project(tmp_path / "shop", shop.url())
    before = logins(cluster18, shop.database)
    done = inv("db.check", "db.backup", "db.restore", "db.undo", "db.restore", cwd=root)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert logins(cluster18, shop.database) == before


def test_do_not_fire_for_a_role_that_may_switch_them_off(cluster18: Cluster, shop: Target) -> None:
    cluster18.execute("CREATE ROLE deploy LOGIN; GRANT SET ON PARAMETER event_triggers TO deploy")
    try:
        target = replace(shop, user="deploy")
        found = reach.identify(target)
        assert found is not None
        assert found.user == "deploy"
        assert "deploy" not in logins(cluster18, shop.database)
    finally:
        cluster18.execute("DROP OWNED BY deploy; DROP ROLE deploy")


def test_one_that_fails_is_one_line_for_a_role_that_may_not(
    cluster18: Cluster, shop: Target
) -> None:
    cluster18.execute("CREATE ROLE plain LOGIN")
    try:
        with pytest.raises(Unreachable, match="cannot execute INSERT in a read-only") as failed:
            reach.identify(replace(shop, user="plain"))
        assert "\n" not in failed.value.message
    finally:
        cluster18.execute("DROP ROLE plain")


def test_that_fail_where_locks_are_held_are_switched_off_too(cluster18: Cluster) -> None:
    hall = cluster18.target(cluster18.create("hall"))
    try:
        cluster18.execute(TRIGGER, "hall")
        connection._switches_off.clear()
        with connection.session(hall, read_only=True) as conn:
            assert connection.value(conn, "SHOW event_triggers") == "off"
    finally:
        cluster18.drop("hall")
